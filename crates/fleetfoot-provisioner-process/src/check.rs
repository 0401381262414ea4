//! What is missing on this host, each with its remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use fleetfoot_provisioner::{Finding, Severity};
use rustix::fs::{Access, AtFlags, CWD};

use crate::create::missing_command;
use crate::host::ProcessHost;
use crate::layout::Controller;
use crate::pool::{ProcessPool, RunnerSource, Sandbox};
use crate::{program, sandbox};

/// Looks at everything the pool needs. Blocking.
pub(crate) fn check(host: &ProcessHost, pool: &ProcessPool, shim: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    source(pool, &mut findings);
    root(host, pool, &mut findings);
    users(pool, &mut findings);
    limits(host, pool, &mut findings);
    if let Sandbox::Bubblewrap(_) = pool.sandbox {
        bubblewrap(pool, &mut findings);
    }
    if !sandbox::executable(shim) {
        findings.push(error(
            &format!(
                "the program {} that instances need is missing or not executable",
                shim.display()
            ),
            "reinstall fleetfoot, or restart it if it was replaced while it ran",
        ));
    }
    findings
}

fn error(message: &str, hint: &str) -> Finding {
    Finding { severity: Severity::Error, message: message.to_owned(), hint: hint.to_owned() }
}

fn warning(message: &str, hint: &str) -> Finding {
    Finding { severity: Severity::Warning, message: message.to_owned(), hint: hint.to_owned() }
}

/// What keeps the runner from being copied, if anything does; told at the start, too.
pub(crate) fn missing_source(pool: &ProcessPool) -> Option<String> {
    let mut findings = Vec::new();
    source(pool, &mut findings);
    findings.pop().map(|finding| format!("{}: {}", finding.message, finding.hint))
}

fn source(pool: &ProcessPool, findings: &mut Vec<Finding>) {
    match &pool.source {
        RunnerSource::RunnerDirectory(path) => match fs::read_dir(path) {
            Ok(_) => {
                if let Some(message) = missing_command(pool, path) {
                    findings.push(error(
                        &format!("{message} (in {})", path.display()),
                        "unpack the runner's release there, or name the command that starts it",
                    ));
                }
            }
            Err(cause) => findings.push(error(
                &format!("the runner's directory {} cannot be read: {cause}", path.display()),
                "unpack the release of github.com/actions/runner there",
            )),
        },
        RunnerSource::KeptRunner(path) => {
            // Whoever keeps it says why it is not there.
            if let Some(message) = path.is_dir().then(|| missing_command(pool, path)).flatten() {
                findings.push(error(
                    &format!("{message} (in {})", path.display()),
                    "name the command that starts the runner",
                ));
            }
        }
        RunnerSource::RunnerArchive(path) => {
            if let Err(cause) = fs::File::open(path) {
                findings.push(error(
                    &format!("the runner's archive {} cannot be read: {cause}", path.display()),
                    "download actions-runner-linux-….tar.gz of github.com/actions/runner to there",
                ));
            }
        }
    }
}

fn root(host: &ProcessHost, pool: &ProcessPool, findings: &mut Vec<Finding>) {
    if let Err(cause) =
        rustix::fs::accessat(CWD, &host.root, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
    {
        findings.push(error(
            &format!(
                "the directory of process instances {} is not writable: {cause}",
                host.root.display()
            ),
            "change its owner to the daemon's user, or choose another state_dir",
        ));
    }
    if pool.uid_range.is_none() {
        return;
    }
    let closed = host
        .root
        .ancestors()
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0));
    if let Some(path) = closed {
        findings.push(error(
            &format!("jobs with user ids of their own cannot pass through {}", path.display()),
            &format!("chmod o+x {}", path.display()),
        ));
    }
}

fn users(pool: &ProcessPool, findings: &mut Vec<Finding>) {
    let root = rustix::process::geteuid().is_root();
    match pool.uid_range {
        Some((first, last)) if first == 0 || first > last => {
            findings.push(error("uid_range must go from a user id above 0 to one that is not smaller", "for example 200000-200999"));
        }
        Some(_) if !root => findings.push(error(
            "uid_range needs root: only root can give a job a user id of its own",
            "run fleetfoot as root, or leave uid_range out and use the sandbox",
        )),
        Some(_) => {}
        None if root && !pool.env.iter().any(|(name, _)| name == "RUNNER_ALLOW_RUNASROOT") => findings.push(warning(
            "jobs run as root, and GitHub's runner refuses to start as root",
            "set uid_range, run fleetfoot as another user, or set RUNNER_ALLOW_RUNASROOT=1 in env",
        )),
        None if pool.sandbox == Sandbox::None => findings.push(warning(
            "jobs run as the daemon's own user and can read its credentials and state",
            "use it for trusted repositories only, or set a sandbox",
        )),
        None => {}
    }
}

/// Not only whether it is there: distributions forbid the namespaces that it needs.
fn bubblewrap(pool: &ProcessPool, findings: &mut Vec<Finding>) {
    let Some(bwrap) = sandbox::find("bwrap") else {
        let message = "`bwrap` is not in PATH, and the pool's sandbox is bubblewrap";
        findings.push(error(message, "apt install bubblewrap"));
        return;
    };
    let mut command = program::command(bwrap);
    command
        .args(["--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"])
        .current_dir("/");
    if let Some((uid, _)) = pool.uid_range.filter(|_| rustix::process::geteuid().is_root()) {
        command.uid(uid).gid(uid);
    }
    let said = match command.output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => {
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()
        }
        Err(cause) => cause.to_string(),
    };
    findings.push(error(
        &format!("bubblewrap cannot make a sandbox here: {said}"),
        "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or kernel.apparmor_restrict_unprivileged_userns=0)",
    ));
}

fn limits(host: &ProcessHost, pool: &ProcessPool, findings: &mut Vec<Finding>) {
    let wanted = [
        (pool.cpus.is_some(), Controller::Cpu),
        (pool.memory.is_some(), Controller::Memory),
        (pool.pids.is_some(), Controller::Pids),
    ];
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|(wanted, controller)| *wanted && !host.layout.enforces(*controller))
        .map(|(_, controller)| controller.name())
        .collect();
    if !missing.is_empty() {
        findings.push(warning(
            &format!(
                "limits that are not enforced, because no cgroup is writable for them: {}",
                missing.join(", ")
            ),
            "under systemd set Delegate=yes and DelegateSubgroup=daemon, else run as root",
        ));
    }
}
