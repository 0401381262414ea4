//! Output in two bounded halves: writing it in a keeper, reading its end in the daemon.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Writes to `path`; when that holds half of what may be kept, it becomes the older half `path.1`.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    file: Option<File>,
    written: u64,
    half_max: u64,
}

impl Output {
    pub(crate) fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, file: None, written: 0, half_max: (bytes_max / 2).max(1) }
    }

    /// Best effort: a full disk must not end a job.
    pub(crate) fn write(&mut self, chunk: &[u8]) {
        if self.written >= self.half_max {
            let _ = fs::rename(&self.path, older(&self.path));
            (self.file, self.written) = (None, 0);
        }
        if self.file.is_none() {
            self.file = File::options().append(true).create(true).open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(chunk);
            self.written += chunk.len() as u64;
        }
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The last lines of the older and the newer half together.
pub(crate) fn last_lines(path: &Path, lines: usize, bytes_max: u64) -> io::Result<String> {
    let mut output = Vec::new();
    for path in [older(path), path.to_owned()] {
        match File::open(&path) {
            Ok(mut file) => {
                let length = file.metadata()?.len();
                file.seek(io::SeekFrom::Start(length.saturating_sub(bytes_max)))?;
                file.take(bytes_max).read_to_end(&mut output)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&output);
    let skipped = text.lines().count().saturating_sub(lines);
    Ok(text.lines().skip(skipped).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_and_its_end_is_read_over_both_halves() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runner.log");
        assert_eq!(last_lines(&path, 3, 1 << 20).unwrap(), "");
        let mut output = Output::new(path.clone(), 200);
        for number in 0..100 {
            output.write(format!("line {number}\n").as_bytes());
        }
        let kept = fs::metadata(&path).unwrap().len() + fs::metadata(older(&path)).unwrap().len();
        assert!(kept <= 220, "{kept}");
        assert_eq!(last_lines(&path, 2, 1 << 20).unwrap(), "line 98\nline 99\n");
        assert!(last_lines(&path, 100, 1 << 20).unwrap().lines().count() > 12);
    }
}
