//! The one place that makes commands.

use std::ffi::OsStr;
use std::process::Command;

/// A command to start `program`.
#[expect(clippy::disallowed_methods, reason = "a backend starts programs; this one does it here")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// The program that runs now, found even if its file was replaced meanwhile.
pub(crate) fn this() -> Command {
    command("/proc/self/exe")
}
