//! A machine's own disk: a qcow2 file on top of the pool's image, which stays as it is.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fleetfoot_provisioner::InstanceName;

/// Where the disk of `name` is.
pub(crate) fn path(directory: &Path, name: &InstanceName) -> PathBuf {
    directory.join(format!("{name}.qcow2"))
}

/// The arguments of `qemu-img`.
pub(crate) fn arguments(base: &Path, overlay: &Path) -> Vec<OsString> {
    ["create", "-f", "qcow2", "-F", "qcow2", "-b"]
        .into_iter()
        .map(OsString::from)
        .chain([base.as_os_str().to_owned(), overlay.as_os_str().to_owned()])
        .collect()
}

/// Makes it. The words of an error are the original's.
#[expect(clippy::disallowed_methods, reason = "a backend's own tool")]
pub(crate) async fn create(base: &Path, overlay: &Path) -> Result<(), String> {
    let failed = |why: String| format!("create overlay: {why}");
    let output = tokio::process::Command::new("qemu-img")
        .args(arguments(base, overlay))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                failed("`qemu-img` is not in PATH".to_owned())
            } else {
                failed(error.to_string())
            }
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        let status = output.status;
        let ended = status.code().map_or(status.to_string(), |code| format!("exit status {code}"));
        return Err(failed(format!("{ended}: {words}")));
    }
    // What a job writes is nobody else's business. libvirt gives the file to QEMU's user.
    std::fs::set_permissions(overlay, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_the_originals() {
        let name = InstanceName::new("linux-0123abcd").unwrap();
        let overlay = path(Path::new("/tmp"), &name);
        let words = arguments(Path::new("/images/base.qcow2"), &overlay);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words.join(" "),
            "create -f qcow2 -F qcow2 -b /images/base.qcow2 /tmp/linux-0123abcd.qcow2"
        );
    }
}
