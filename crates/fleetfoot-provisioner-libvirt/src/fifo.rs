//! A pipe with a name, opened for both directions, so that opening it waits for nobody. Linux has that.

use std::io;
use std::path::Path;

use tokio::net::unix::pipe;

/// Makes it, for this user alone.
#[cfg(target_os = "linux")]
pub(crate) fn make(path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(io::Error::from)
}

/// Opens it to write into it.
#[cfg(target_os = "linux")]
pub(crate) fn open(path: &Path) -> io::Result<pipe::Sender> {
    pipe::OpenOptions::new().read_write(true).open_sender(path)
}

/// There is no such pipe here: the pool boots.
#[cfg(not(target_os = "linux"))]
pub(crate) fn make(_path: &Path) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Never reached, for none is made.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open(_path: &Path) -> io::Result<pipe::Sender> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}
