//! Unpacking a release: files, directories and links, and nothing that would land elsewhere.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

use flate2::read::GzDecoder;
use tar::EntryType;

/// No devices, no pipes.
fn is_wanted(kind: EntryType) -> bool {
    kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()
}

/// Unpacks the `.tar.gz` at `from` into the directory `to`.
pub(crate) fn unpack(from: &Path, to: &Path) -> io::Result<()> {
    let packed = GzDecoder::new(io::BufReader::new(File::open(from)?));
    let mut archive = tar::Archive::new(packed);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    archive.set_mask(0o7022);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            continue;
        }
        let path = entry.path()?.into_owned();
        let inside =
            path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        // Follows no link out of the directory either.
        if !inside || !is_wanted(kind) || !entry.unpack_in(to)? {
            let text = format!("`{}` does not belong into a release", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(())
}
