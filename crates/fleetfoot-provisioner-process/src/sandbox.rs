//! The command line of bubblewrap.

use std::fs;
use std::path::{Path, PathBuf};

use crate::directory::Directory;
use crate::pool::BubblewrapSettings;

/// Read-only parts of the system. Links (merged `/usr`) stay links.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt"];

/// What programs need of `/etc`. Not all of it: keys, shadow files and our own configuration lie there.
const ETC: [&str; 22] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/group",
    "/etc/gitconfig",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/java",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
];

/// `bwrap …` around `command`, which runs in the instance's runner directory.
pub(crate) fn wrap(
    program: &Path,
    settings: &BubblewrapSettings,
    directory: &Directory,
    command: &[String],
) -> Vec<String> {
    let mut line = Line(vec![program.display().to_string()]);
    line.words(&["--unshare-all", "--die-with-parent"]);
    if settings.share_network {
        line.words(&["--share-net"]);
    }
    for path in SYSTEM {
        match fs::read_link(path) {
            Ok(target) => line.words(&["--symlink", &target.to_string_lossy(), path]),
            Err(_) => line.bind("--ro-bind-try", Path::new(path)),
        }
    }
    for path in ETC {
        line.bind("--ro-bind-try", Path::new(path));
    }
    line.words(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run", "--tmpfs", "/var"]);
    line.words(&[
        "--bind",
        &directory.tmp().to_string_lossy(),
        "/tmp",
        "--symlink",
        "../tmp",
        "/var/tmp",
    ]);
    for path in &settings.read_only {
        line.bind("--ro-bind", path);
    }
    for path in &settings.writable {
        line.bind("--bind", path);
    }
    // After the rest: the root may lie below a directory that was bound.
    line.bind("--bind", &directory.runner());
    line.bind("--bind", &directory.home());
    line.words(&["--chdir", &directory.runner().to_string_lossy(), "--"]);
    line.0.extend(command.iter().cloned());
    line.0
}

struct Line(Vec<String>);

impl Line {
    fn words(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn bind(&mut self, how: &str, path: &Path) {
        let path = path.to_string_lossy();
        self.words(&[how, &path, &path]);
    }
}

/// The first program of this name in the daemon's `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| executable(path))
}

/// Whether a file may be run by anybody at all.
pub(crate) fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_instance_and_no_other_part_of_the_state() {
        let directory = Directory("/state/processes/a-1".into());
        let line = wrap(
            Path::new("/usr/bin/bwrap"),
            &BubblewrapSettings::default(),
            &directory,
            &["./run.sh".to_owned()],
        );
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        assert!(
            words
                .windows(3)
                .any(|w| w
                    == ["--bind", "/state/processes/a-1/runner", "/state/processes/a-1/runner"])
        );
        assert!(words.windows(3).any(|w| w == ["--bind", "/state/processes/a-1/tmp", "/tmp"]));
        assert_eq!(words.last(), Some(&"./run.sh"));
        let bound: Vec<&&str> = words.iter().filter(|word| word.starts_with("/state")).collect();
        assert!(bound.iter().all(|word| word.starts_with("/state/processes/a-1/")), "{bound:?}");
    }
}
