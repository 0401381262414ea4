//! The file of standard error in the system's temporary directory, and the tail in memory.
//!
//! The file is kept only after a failure nobody asked for, and of those not too many and not too long.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::tail::Tail;

/// As much as the original shows.
const TAIL_BYTES: usize = 1024;
/// Files of failures that are kept.
const FILES_MAX: usize = 100;
/// How long.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Standard error of one command.
#[derive(Debug)]
pub(super) struct Capture {
    file: Option<(File, PathBuf)>,
    tail: Tail,
}

impl Capture {
    /// Without a file, or with a new one `<stem>-<random>.log`; the words say why there is none though one was asked for.
    pub(super) fn open(stem: Option<&Path>) -> (Self, Option<String>) {
        let tail = Tail::new(TAIL_BYTES);
        let Some(stem) = stem else { return (Self { file: None, tail }, None) };
        prune(stem, SystemTime::now());
        match create(stem) {
            Ok(file) => (Self { file: Some(file), tail }, None),
            Err(error) => (Self { file: None, tail }, Some(error.to_string())),
        }
    }

    pub(super) fn write(&mut self, chunk: &[u8]) {
        self.tail.write(chunk);
        if let Some((file, _)) = &mut self.file {
            let _ = file.write_all(chunk);
        }
    }

    /// The tail and, if the file is to be kept, its path.
    pub(super) fn close(self, keep: bool) -> (String, Option<PathBuf>) {
        let path = self.file.map(|(_, path)| path);
        if !keep && let Some(path) = &path {
            let _ = fs::remove_file(path);
        }
        (self.tail.text(), path.filter(|_| keep))
    }
}

fn create(stem: &Path) -> io::Result<(File, PathBuf)> {
    loop {
        let mut name = stem.as_os_str().to_owned();
        name.push(format!("-{:010}.log", fastrand::u32(..)));
        let path = PathBuf::from(name);
        match File::options().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes old files of this form and those beyond the newest, so that failures do not fill the disk.
fn prune(stem: &Path, now: SystemTime) {
    let (Some(parent), Some(name)) = (stem.parent(), stem.file_name()) else { return };
    // `<program>-<label>-` of `<program>-<label>-<instance>`.
    let name = name.to_string_lossy();
    let Some(form) = name.match_indices('-').nth(1).map(|(at, _)| &name[..=at]) else { return };
    let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(form) && name.ends_with(".log")
        })
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((meta.modified().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    let surplus = found.len().saturating_sub(FILES_MAX);
    for (index, (modified, path)) in found.into_iter().enumerate() {
        let old = now.duration_since(modified).is_ok_and(|age| age > AGE_MAX);
        if old || index < surplus {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failures_file_holds_everything_and_a_successs_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let stem = root.path().join("outrunner-vm-macos-0123abcd");
        let (mut capture, warning) = Capture::open(Some(&stem));
        assert_eq!(warning, None);
        capture.write(&[b'x'; 3000]);
        let (tail, log) = capture.close(true);
        assert_eq!(tail.len(), 1024);
        assert_eq!(fs::read(log.unwrap()).unwrap().len(), 3000);

        let (capture, _) = Capture::open(Some(&stem));
        assert_eq!(capture.close(false).1, None);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_directory_it_goes_on_without_a_file() {
        let (mut capture, warning) = Capture::open(Some(Path::new("/nowhere/a-b-c")));
        assert!(warning.is_some());
        capture.write(b"said");
        assert_eq!(capture.close(true), ("said".to_owned(), None));
    }

    #[test]
    fn old_files_go_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..FILES_MAX + 3 {
            fs::write(root.path().join(format!("outrunner-vm-a-{number:05}.log")), "").unwrap();
        }
        fs::write(root.path().join("outrunner-runner-a-1.log"), "").unwrap();
        let stem = root.path().join("outrunner-vm-macos-0123abcd");
        prune(&stem, SystemTime::now());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), FILES_MAX + 1);
        prune(&stem, SystemTime::now() + AGE_MAX * 2);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
