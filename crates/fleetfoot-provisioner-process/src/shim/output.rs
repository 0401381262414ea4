//! The runner's output: from a pipe into two bounded files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::directory::{Directory, no_follow};

/// Reads what comes and keeps its end. A full disk costs output, never the job.
pub(super) struct Output {
    pipe: Option<File>,
    directory: Directory,
    file: Option<File>,
    written: u64,
    half: u64,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd, directory: Directory, max_size: u64) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        let half = (max_size / 2).max(4096);
        let mut output = Self { pipe: Some(pipe.into()), directory, file: None, written: 0, half };
        output.file = Some(output.open()?);
        Ok(output)
    }

    fn open(&self) -> io::Result<File> {
        File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(self.directory.output())
    }

    /// The pipe, while somebody may still write to it.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(File::as_fd)
    }

    /// Takes what is there now, at most about a mebibyte so that signals are not kept waiting.
    pub(super) fn pump(&mut self) {
        let mut buffer = [0; 32 * 1024];
        for _ in 0..32 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.keep(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.written >= self.half {
            let renamed = fs::rename(self.directory.output(), self.directory.older_output());
            self.file = renamed.and_then(|()| self.open()).ok();
            self.written = 0;
        }
        if let Some(file) = &mut self.file {
            // Nobody is left to tell.
            let _ = file.write_all(bytes);
        }
        self.written += bytes.len() as u64;
    }
}
