//! Small files that must survive: the identity of the installation and of the host.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The identity of this boot of the host.
///
/// # Errors
/// When the kernel does not tell.
pub fn boot_id() -> io::Result<String> {
    #[cfg(target_os = "linux")]
    let told = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    #[cfg(not(target_os = "linux"))]
    let told = session_of_this_boot()?;
    Ok(told.trim().to_owned())
}

/// A Mac's kernel tells it by `sysctl` alone.
#[cfg(not(target_os = "linux"))]
fn session_of_this_boot() -> io::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a number of the kernel's, read once")]
    let mut command = std::process::Command::new("/usr/sbin/sysctl");
    let output = command.args(["-n", "kern.bootsessionuuid"]).output()?;
    let told = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    if !output.status.success() || told.trim().is_empty() {
        return Err(io::Error::other("sysctl does not tell the id of this boot"));
    }
    Ok(told)
}

/// Writes a file so that a crash leaves the old content or the new one, and nothing between.
pub(crate) fn write_atomically(path: &Path, content: &str) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = parent.join(format!(".{name}.{}", std::process::id()));
    let result = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.identity.before");
        fs::rename(&partial, path)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.identity.after");
        fs::File::open(parent)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result
}

/// The trimmed content of a file; `None` if it is missing or empty.
pub(crate) fn read_word(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
