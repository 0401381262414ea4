//! The lock of a state directory: one controller at a time.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::LockError;

/// The held lock. The kernel releases it when this is dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    file: fs::File,
}

impl Lock {
    pub(crate) fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let failed = |source| LockError::File { path: path.clone(), source };
        // Opened close-on-exec, as all files of std: no child keeps the lock.
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                return Err(LockError::Held { path: directory.to_owned(), pid });
            }
            Err(error) => return Err(failed(error.into())),
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { file })
    }

    /// Releases the lock now, so that another process can take it.
    pub fn release(self) {
        let _ = self.file.set_len(0);
    }
}

fn write_pid(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
