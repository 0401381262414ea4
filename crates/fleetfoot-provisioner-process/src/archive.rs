//! A runner's archive, unpacked once for all instances.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};
use tar::EntryType;

use crate::failure::{At, AtPath};
use crate::remove;

/// The directory of unpacked archives, in the root. No instance can have this name.
pub(crate) const CACHE: &str = ".cache";

/// The directory with the contents of `archive`, unpacked now if it is not there. Contents of an earlier version of the same
/// archive go.
pub(crate) fn unpacked(root: &Path, archive: &Path) -> Result<PathBuf, At> {
    let file = File::open(archive).at("open", archive)?;
    let meta = file.metadata().at("read", archive)?;
    let cache = root.join(CACHE);
    let place = short_hash(archive.as_os_str().as_encoded_bytes());
    let version = format!("{}.{}.{}.{}", meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    let name = format!("{place}-{}", short_hash(version.as_bytes()));
    let directory = cache.join(&name);
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir_all(&cache).at("create", &cache)?;
    remove_others(&cache, &place).at("clean", &cache)?;
    let unfinished = cache.join(format!("{name}.unfinished"));
    crate::directory::make(&unfinished, 0o755).at("create", &unfinished)?;
    unpack(file, &unfinished).at("unpack", archive)?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.unpack.finish.before");
    fs::rename(&unfinished, &directory).at("rename", &unfinished)?;
    Ok(directory)
}

fn remove_others(cache: &Path, place: &str) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with(place)) {
            remove::tree(cache, name, &[])?;
        }
    }
    Ok(())
}

/// Ten bytes of the hash, in hexadecimal digits.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

/// No devices, no pipes.
const UNPACKED: [EntryType; 6] = [
    EntryType::Regular,
    EntryType::Continuous,
    EntryType::GNUSparse,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
];

/// Unpacks files, directories and links, and refuses whatever would land elsewhere.
fn unpack(file: File, to: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(false);
    archive.set_mask(0o7000);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(escapes(&path));
        }
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        if !UNPACKED.contains(&kind) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{}` is no file, directory or link", path.display()),
            ));
        }
        // Follows no link out of the directory, neither for the entry nor for the target of a hard link.
        if !entry.unpack_in(to)? {
            return Err(escapes(&path));
        }
    }
    Ok(())
}

fn escapes(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("`{}` leads out of the directory", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn archive(path: &Path, entries: &[(&str, EntryType, &str)]) {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
            File::create(path).unwrap(),
            flate2::Compression::fast(),
        ));
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            let linked = matches!(kind, EntryType::Symlink | EntryType::Link);
            if linked {
                header.set_link_name(content).unwrap();
            }
            let content = if linked { "" } else { content };
            header.set_size(content.len() as u64);
            // Written by hand: the builder itself refuses names that lead out.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn unpacks_once_and_again_when_the_archive_changes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runner.tar.gz");
        archive(
            &path,
            &[("./run.sh", EntryType::Regular, "one"), ("./link", EntryType::Symlink, "run.sh")],
        );
        let first = unpacked(root.path(), &path).unwrap();
        assert_eq!(fs::read_to_string(first.join("link")).unwrap(), "one");
        assert_eq!(
            fs::metadata(first.join("run.sh")).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        assert_eq!(unpacked(root.path(), &path).unwrap(), first);
        archive(&path, &[("run.sh", EntryType::Regular, "second")]);
        let second = unpacked(root.path(), &path).unwrap();
        assert_eq!(fs::read_to_string(second.join("run.sh")).unwrap(), "second");
        assert!(!first.exists());
    }

    #[test]
    fn refuses_whatever_leads_out() {
        let cases: [&[(&str, EntryType, &str)]; 5] = [
            &[("../out", EntryType::Regular, "x")],
            &[("/out", EntryType::Regular, "x")],
            &[("link", EntryType::Symlink, "../.."), ("link/out", EntryType::Regular, "x")],
            &[("hard", EntryType::Link, "../../runner.tar.gz")],
            &[("pipe", EntryType::Fifo, "")],
        ];
        for entries in cases {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("runner.tar.gz");
            archive(&path, entries);
            assert!(unpacked(root.path(), &path).is_err(), "{entries:?}");
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "{entries:?}");
        }
    }
}
