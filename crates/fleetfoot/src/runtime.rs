//! The two runtimes of the program: one for daemons, one for everything else.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// The runtime of a daemon: one thread.
///
/// What a daemon does is wait; at 2,000 pools it works for half a percent of a core. Each further thread that
/// allocates gets an arena of glibc's own, of 1 MiB at 100 pools. Files, databases and archives have threads of
/// their own, so nothing that takes long may run on this one.
///
/// # Errors
/// The kernel refuses a poll instance or a timer.
pub(crate) fn daemon() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The runtime of a command that ends: as many threads as are of use to a benchmark and its box.
///
/// # Errors
/// The kernel refuses a poll instance, a timer or a thread.
pub(crate) fn command() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
