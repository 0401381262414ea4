//! Where a world keeps its files: the store and its copies.

/// A directory on a memory file system, where there is one. Whose it is shows, should this process be killed and leave
/// it.
pub(crate) fn in_memory() -> std::io::Result<tempfile::TempDir> {
    let shared = std::path::Path::new("/dev/shm");
    let prefix = format!("fleetfoot-world-{}-", std::process::id());
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(shared);
    made.or_else(|_| tempfile::Builder::new().prefix(&prefix).tempdir())
}
