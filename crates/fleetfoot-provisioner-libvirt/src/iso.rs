//! A small ISO 9660 image with Joliet names, as guests read a NoCloud seed: two trees of one directory over the same
//! files.
//!
//! ```text
//! sector 0..15  nothing     19, 20  path tables (little, big endian)     23  root directory
//!        16     volume      21, 22  the same for Joliet                  24  root directory of Joliet
//!        17     volume, Joliet      18  end of volumes                   25… the files, each from a new sector
//! ```

const SECTOR: usize = 2048;
const PATH_TABLES: [u32; 4] = [19, 20, 21, 22];
const ROOT: u32 = 23;
const JOLIET_ROOT: u32 = 24;
const FIRST_FILE: usize = 25;
/// Nothing, behind the files: who looks what a disk is reads further than these images go, and gives a disk up that
/// ends too early (busybox's `findfs` does).
const PADDING: usize = 150;
/// A path table with nothing but the root.
const PATH_TABLE_BYTES: u32 = 10;
/// When everything in it was made: 1 January 2000, so that the same content is the same image.
const DATE: [u8; 7] = [100, 1, 1, 0, 0, 0, 0];

/// One file of the image's only directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IsoFile<'a> {
    /// Up to eight capital letters or digits, for readers without Joliet.
    pub(crate) short: &'a str,
    pub(crate) name: &'a str,
    pub(crate) content: &'a [u8],
}

/// The image of these files, which are in the order of their names, with a label of up to 16 characters.
pub(crate) fn image(label: &str, files: &[IsoFile<'_>]) -> Vec<u8> {
    let mut next = FIRST_FILE;
    let mut placed = Vec::new();
    for file in files {
        placed.push((next, *file));
        next += file.content.len().div_ceil(SECTOR);
    }
    next += PADDING;
    let mut image = vec![0; next * SECTOR];
    put(&mut image, 16, &volume(label, next, false));
    put(&mut image, 17, &volume(label, next, true));
    put(&mut image, 18, b"\xffCD001\x01");
    for (sector, root, big) in [
        (PATH_TABLES[0], ROOT, false),
        (PATH_TABLES[1], ROOT, true),
        (PATH_TABLES[2], JOLIET_ROOT, false),
        (PATH_TABLES[3], JOLIET_ROOT, true),
    ] {
        put(&mut image, sector as usize, &path_table(root, big));
    }
    let short = |file: &IsoFile<'_>| format!("{}.;1", file.short).into_bytes();
    let long = |file: &IsoFile<'_>| utf16(file.name);
    put(&mut image, ROOT as usize, &directory(ROOT, &placed, short));
    put(&mut image, JOLIET_ROOT as usize, &directory(JOLIET_ROOT, &placed, long));
    for (sector, file) in &placed {
        put(&mut image, *sector, file.content);
    }
    image
}

fn put(image: &mut [u8], sector: usize, bytes: &[u8]) {
    let begin = sector * SECTOR;
    if let Some(place) = image.get_mut(begin..begin + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn both32(value: u32) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A field of text, filled with spaces.
fn text(value: &str, length: usize, joliet: bool) -> Vec<u8> {
    let (mut bytes, space): (Vec<u8>, &[u8]) =
        if joliet { (utf16(value), b"\0 ") } else { (value.as_bytes().to_vec(), b" ") };
    while bytes.len() < length {
        bytes.extend_from_slice(space);
    }
    bytes.truncate(length);
    bytes
}

/// A descriptor of the volume.
fn volume(label: &str, sectors: usize, joliet: bool) -> Vec<u8> {
    let (kind, root, little, big) = if joliet {
        (2, JOLIET_ROOT, PATH_TABLES[2], PATH_TABLES[3])
    } else {
        (1, ROOT, PATH_TABLES[0], PATH_TABLES[1])
    };
    let mut all = vec![kind];
    all.extend(b"CD001\x01\0");
    all.extend(text("", 32, joliet));
    all.extend(text(label, 32, joliet));
    all.extend([0; 8]);
    all.extend(both32(number(sectors)));
    let mut escapes = [0; 32];
    if joliet {
        escapes[..3].copy_from_slice(b"%/E");
    }
    all.extend(escapes);
    all.extend([both16(1), both16(1), both16(2048)].concat());
    all.extend(both32(PATH_TABLE_BYTES));
    all.extend([little.to_le_bytes(), [0; 4], big.to_be_bytes(), [0; 4]].concat());
    all.extend(record(root, SECTOR, true, &[0]));
    // Volume set, publisher, preparer, application; copyright, abstract and bibliography files.
    for length in [128, 128, 128, 128, 37, 37, 37] {
        all.extend(text("", length, joliet));
    }
    for _ in 0..4 {
        all.extend(b"0000000000000000\0");
    }
    all.extend([1, 0]);
    all
}

fn path_table(root: u32, big: bool) -> Vec<u8> {
    let (at, parent) =
        if big { (root.to_be_bytes(), [0, 1]) } else { (root.to_le_bytes(), [1, 0]) };
    [&[1, 0][..], &at, &parent, &[0, 0]].concat()
}

fn directory(
    root: u32,
    files: &[(usize, IsoFile<'_>)],
    name: impl Fn(&IsoFile<'_>) -> Vec<u8>,
) -> Vec<u8> {
    let mut all = record(root, SECTOR, true, &[0]);
    all.extend(record(root, SECTOR, true, &[1]));
    for (sector, file) in files {
        all.extend(record(number(*sector), file.content.len(), false, &name(file)));
    }
    all
}

fn record(at: u32, bytes: usize, is_directory: bool, name: &[u8]) -> Vec<u8> {
    let padding = usize::from(name.len().is_multiple_of(2));
    let length = 33 + name.len() + padding;
    let mut all = vec![u8::try_from(length).unwrap_or(u8::MAX), 0];
    all.extend(both32(at));
    all.extend(both32(number(bytes)));
    all.extend(DATE);
    all.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    all.extend(both16(1));
    all.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    all.extend(name);
    all.extend(vec![0; padding]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_where_the_volume_says() {
        let long = vec![b'x'; 5000];
        let files = [
            IsoFile { short: "METADATA", name: "meta-data", content: b"instance-id: a\n" },
            IsoFile { short: "USERDATA", name: "user-data", content: &long },
        ];
        let image = image("cidata", &files);
        assert_eq!(image.len(), (25 + 1 + 3 + PADDING) * SECTOR);
        for (sector, kind) in [(16, 1), (17, 2), (18, 255)] {
            let at = sector * SECTOR;
            assert_eq!(&image[at..at + 7], [&[kind][..], b"CD001\x01"].concat());
        }
        assert_eq!(&image[16 * SECTOR + 40..16 * SECTOR + 47], b"cidata ");
        let utf16: Vec<u8> = b"cidata".iter().flat_map(|it| [0, *it]).collect();
        assert_eq!(&image[17 * SECTOR + 40..17 * SECTOR + 52], utf16);
        assert_eq!(image[17 * SECTOR + 88..17 * SECTOR + 91], *b"%/E");
        for (volume, root, name) in
            [(16, ROOT, b"USERDATA.;1".to_vec()), (17, JOLIET_ROOT, super::utf16("user-data"))]
        {
            let at = volume * SECTOR + 156;
            assert_eq!(image[at + 2..at + 6], root.to_le_bytes());
            let directory = &image[root as usize * SECTOR..][..SECTOR];
            let mut records = Vec::new();
            let mut at = 0;
            while directory[at] != 0 {
                records.push(&directory[at..at + usize::from(directory[at])]);
                at += usize::from(directory[at]);
            }
            assert_eq!(records.len(), 4);
            let last = records[3];
            assert_eq!(&last[33..33 + name.len()], name);
            assert_eq!(last[2..6], 26_u32.to_le_bytes());
            assert_eq!(last[6..10], 26_u32.to_be_bytes());
            assert_eq!(last[10..14], 5000_u32.to_le_bytes());
        }
        assert_eq!(image[26 * SECTOR..26 * SECTOR + 5000], long);
    }
}
