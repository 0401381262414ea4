//! The script, read by shellcheck, and run for real: every way to a runner, as root and as somebody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fleetfoot_provisioner_shoes::script::{self, Script, ScriptSettings};
use tempfile::TempDir;

const VERSION: &str = "v2.330.0";

/// What the stand-in of a runner writes down: who it is, its credential, and what it was told besides.
const RUNNER: &str = "#!/bin/sh\n\
    { id -un; echo \"$ACTIONS_RUNNER_INPUT_JITCONFIG\"; echo \"args $*\"; pwd; \
    echo \"$FROM_ENVIRONMENT ${PATH%%:*}\"; \
    echo \"hooks $ACTIONS_RUNNER_HOOK_JOB_STARTED $ACTIONS_RUNNER_HOOK_JOB_COMPLETED\"; } > result\n";

fn settings(downloads: &str, checksums: &str) -> ScriptSettings {
    ScriptSettings {
        version: VERSION.to_owned(),
        checksums: checksums.to_owned(),
        user: "games".to_owned(),
        base_directory: "/base".to_owned(),
        downloads: downloads.to_owned(),
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let Some(shellcheck) = std::env::var_os("FLEETFOOT_TEST_SHELLCHECK") else {
        println!("SKIPPED: needs shellcheck");
        return;
    };
    let envelope = Script::new(settings(script::DOWNLOADS, "")).jit("blob");
    for text in [envelope.clone(), main_of(&envelope)] {
        let mut child = Command::new(&shellcheck)
            .args(["--shell=bash", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// What the envelope would write.
fn main_of(envelope: &str) -> String {
    let unpack = format!(
        "{}\necho \"$COMPRESSED_SCRIPT\" | base64 -d | gzip -d",
        envelope.lines().find(|line| line.starts_with("export COMPRESSED_SCRIPT=")).unwrap()
    );
    let output = Command::new("bash").args(["-c", &unpack]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Where a machine has its runner from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Ready,
    Unpacked,
    ArchiveInBase,
    ArchiveKept,
    Download,
}

/// A root of its own: this host's programs, and directories of the test's.
struct Machine {
    directory: TempDir,
    bwrap: PathBuf,
}

impl Machine {
    fn new(bwrap: PathBuf, source: Source) -> Self {
        let directory = TempDir::new().unwrap();
        let machine = Self { directory, bwrap };
        for name in ["base", "kept", "www"] {
            fs::create_dir(machine.path(name)).unwrap();
            fs::set_permissions(machine.path(name), fs::Permissions::from_mode(0o777)).unwrap();
        }
        fs::set_permissions(machine.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(
            machine.path("environment"),
            "FROM_ENVIRONMENT=yes\nPATH=/of-the-machine:$PATH\n",
        )
        .unwrap();
        fs::write(machine.path("hook"), "#!/bin/sh\n").unwrap();
        match source {
            Source::Ready => put_runner(&machine.path("base/runner")),
            Source::Unpacked => put_runner(&machine.path(&format!("kept/runner-{VERSION}"))),
            Source::ArchiveInBase => put_archive(&machine.path("base").join(archive())),
            Source::ArchiveKept => put_archive(&machine.path("kept").join(archive())),
            Source::Download => {
                fs::create_dir(machine.path("www").join(VERSION)).unwrap();
                put_archive(&machine.path("www").join(VERSION).join(archive()));
            }
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the script as root or as nobody's business.
    fn run(&self, script: &str, as_root: bool) -> (bool, String) {
        self.run_with(script, as_root, &[])
    }

    /// The same, where these hooks are there.
    fn run_with(&self, script: &str, as_root: bool, hooks: &[&str]) -> (bool, String) {
        let mut command = Command::new(&self.bwrap);
        // This host's programs, and nothing else of it.
        command.args(["--tmpfs", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]);
        command.args(["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]);
        for name in ["bin", "sbin", "lib", "lib64"] {
            command.args(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
        }
        for (name, place) in
            [("base", "/base"), ("kept", "/usr/local/etc"), ("environment", "/etc/environment")]
        {
            command.arg("--bind").arg(self.path(name)).arg(place);
        }
        for hook in hooks {
            command.arg("--bind").arg(self.path("hook")).arg(hook);
        }
        if !as_root {
            command.args(["setpriv", "--reuid=games", "--regid=games", "--clear-groups"]);
        }
        let file = self.path("base/setup.sh");
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let output = command.args(["bash", "/base/setup.sh"]).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

fn archive() -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    format!("actions-runner-linux-{architecture}-{}.tar.gz", VERSION.trim_start_matches('v'))
}

fn put_runner(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(directory.join("run.sh"), RUNNER).unwrap();
    fs::set_permissions(directory.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn put_archive(file: &Path) {
    let unpacked = TempDir::new().unwrap();
    put_runner(unpacked.path());
    let status =
        Command::new("tar").arg("-czf").arg(file).arg("-C").arg(unpacked.path()).arg(".").status();
    assert!(status.unwrap().success());
}

/// Serves a directory of files over HTTP for as long as it lives.
struct Files {
    url: String,
}

impl Files {
    fn serve(directory: PathBuf) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path =
                    request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
                let (status, body) = match fs::read(directory.join(path)) {
                    Ok(body) => ("200 OK", body),
                    Err(_) => ("404 Not Found", Vec::new()),
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { url }
    }
}

fn bwrap() -> Option<PathBuf> {
    let bwrap = std::env::var_os("FLEETFOOT_TEST_BWRAP").map(PathBuf::from);
    if bwrap.is_none() || !Path::new("/etc/environment").exists() {
        println!("SKIPPED: needs bwrap");
        return None;
    }
    bwrap
}

#[test]
fn a_machine_becomes_a_runner_in_every_way() {
    let Some(bwrap) = bwrap() else { return };
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    if !is_root {
        println!("SKIPPED: needs root");
        return;
    }
    let started = "/myshoes-actions-runner-hook-job-started.sh";
    let completed = "/myshoes-actions-runner-hook-job-completed.sh";
    for (source, hooks) in [
        (Source::Ready, vec![started, completed]),
        (Source::Unpacked, vec![started]),
        (Source::ArchiveInBase, vec![completed]),
        (Source::ArchiveKept, vec![]),
        (Source::Download, vec![started, completed]),
    ] {
        for as_root in [true, false] {
            let machine = Machine::new(bwrap.clone(), source);
            let files = Files::serve(machine.path("www"));
            let script = Script::new(settings(&files.url, "")).jit("the blob");
            let (succeeded, output) = machine.run_with(&script, as_root, &hooks);
            assert!(succeeded, "{source:?}, root {as_root}: {output}");
            let result = fs::read_to_string(machine.path("base/runner/result")).unwrap();
            let told = [started, completed].map(|it| if hooks.contains(&it) { it } else { "" });
            let expected = format!(
                "games\nthe blob\nargs \n/base/runner\nyes /of-the-machine\nhooks {}\n",
                told.join(" ")
            );
            assert_eq!(result, expected, "{source:?}, root {as_root}");
            assert!(!machine.path("base/main.sh").exists(), "the credential is left in a file");
        }
    }
    let machine = Machine::new(bwrap, Source::Download);
    let files = Files::serve(machine.path("www"));
    let platform = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
    let wrong = format!("osx-x64 00\n{platform} {}\n", "0".repeat(64));
    let (succeeded, output) =
        machine.run(&Script::new(settings(&files.url, &wrong)).jit("b"), true);
    assert!(!succeeded && output.contains("has the checksum"), "{output}");
    fs::remove_dir_all(machine.path("www").join(VERSION)).unwrap();
    let (succeeded, output) = machine.run(&Script::new(settings(&files.url, "")).jit("b"), true);
    assert!(!succeeded && output.contains("cannot download actions-runner-linux-"), "{output}");
}
