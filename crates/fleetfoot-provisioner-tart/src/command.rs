//! Invocations of `tart`: the arguments of each, and running the short ones.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use fleetfoot_provisioner::InstanceName;
use tokio::process::Command;

use crate::pool::{JitDelivery, TartPool};

/// Of the daemon's own surroundings `tart` gets everything but what is meant for the daemon alone.
pub(crate) const NOT_INHERITED: [&str; 6] = [
    "GITHUB_TOKEN",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "FLEETFOOT_TOKEN",
];

/// Takes the JIT config from its standard input. The runner's own arguments are seen inside the machine only, whose one job may
/// read them.
const FROM_STDIN: &str = "IFS= read -r jit && export ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1 && \
     exec \"$0\" --jitconfig \"$jit\" </dev/null";

/// A command to start `program`; the one place that makes them.
#[expect(clippy::disallowed_methods, reason = "a backend starts programs; this one does it here")]
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command
}

pub(crate) fn clone(pool: &TartPool, name: &InstanceName) -> Vec<String> {
    words(["clone", &pool.image, name.as_str()])
}

pub(crate) fn set(pool: &TartPool, name: &InstanceName) -> Vec<String> {
    let (cpus, memory) = (pool.cpus.to_string(), pool.memory_mib.to_string());
    words(["set", name.as_str(), "--cpu", &cpus, "--memory", &memory])
}

pub(crate) fn run(pool: &TartPool, name: &InstanceName) -> Vec<String> {
    let mut arguments = words(["run", "--no-graphics"]);
    arguments.extend(pool.mounts.iter().map(crate::pool::TartMount::option));
    arguments.push(name.as_str().to_owned());
    arguments
}

pub(crate) fn echo(name: &InstanceName) -> Vec<String> {
    words(["exec", name.as_str(), "echo", "ok"])
}

/// The arguments that launch the runner, and what goes to its standard input.
pub(crate) fn runner(
    pool: &TartPool,
    name: &InstanceName,
    jit: &str,
) -> (Vec<String>, Option<String>) {
    let name = name.as_str();
    match pool.jit {
        JitDelivery::Argument => {
            (words(["exec", name, &pool.runner_cmd, "--jitconfig", jit]), None)
        }
        JitDelivery::Stdin => {
            let arguments =
                words(["exec", "-i", name, "/bin/sh", "-c", FROM_STDIN, &pool.runner_cmd]);
            (arguments, Some(format!("{jit}\n")))
        }
    }
}

pub(crate) fn stop(name: &InstanceName) -> Vec<String> {
    words(["stop", name.as_str()])
}

pub(crate) fn delete(name: &InstanceName) -> Vec<String> {
    words(["delete", name.as_str()])
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

/// How a short invocation ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// "VM does not exist", "VM is not running".
    pub(crate) fn says_not_there(&self) -> bool {
        self.code == Some(2)
    }

    /// A command line that it does not know.
    pub(crate) fn says_usage(&self) -> bool {
        self.code == Some(64)
    }

    /// `<error>: <output>`, as the original says it.
    pub(crate) fn said(&self) -> String {
        let status = self.code.map_or("signal".to_owned(), |code| format!("exit status {code}"));
        let output = format!("{}{}", self.stdout, self.stderr);
        format!("{status}: {}", one_line(&output))
    }
}

/// Several lines as one.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Runs a short invocation to its end; dropped, it is killed.
pub(crate) async fn short(tart: &Path, arguments: &[String]) -> std::io::Result<Done> {
    let mut command = command(tart);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    Ok(Done {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Where `tart` keeps its machines: `TART_HOME`, else `.tart` in the home directory.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("TART_HOME").filter(|home| !home.is_empty()).map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".tart"),
        PathBuf::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::TartMount;

    #[test]
    fn invocations_are_the_originals() {
        let name = InstanceName::new("macos-0123abcd").unwrap();
        let mut pool = TartPool::new("ghcr.io/cirruslabs/macos:latest");
        pool.jit = JitDelivery::Argument;
        pool.mounts = vec![
            TartMount { name: "a".into(), source: "/x".into(), read_only: false },
            TartMount { name: "b".into(), source: "/y".into(), read_only: true },
        ];
        assert_eq!(
            clone(&pool, &name),
            ["clone", "ghcr.io/cirruslabs/macos:latest", "macos-0123abcd"]
        );
        assert_eq!(set(&pool, &name), ["set", "macos-0123abcd", "--cpu", "4", "--memory", "8192"]);
        assert_eq!(
            run(&pool, &name),
            ["run", "--no-graphics", "--dir=a:/x", "--dir=b:/y:ro", "macos-0123abcd"]
        );
        assert_eq!(echo(&name), ["exec", "macos-0123abcd", "echo", "ok"]);
        let (arguments, input) = runner(&pool, &name, "JIT");
        assert_eq!(
            arguments,
            ["exec", "macos-0123abcd", "/actions-runner/run.sh", "--jitconfig", "JIT"]
        );
        assert_eq!(input, None);
        assert_eq!(stop(&name), ["stop", "macos-0123abcd"]);
        assert_eq!(delete(&name), ["delete", "macos-0123abcd"]);
    }

    #[test]
    fn by_standard_input_no_argument_holds_the_jit_config() {
        let name = InstanceName::new("macos-0123abcd").unwrap();
        let (arguments, input) = runner(&TartPool::new("base"), &name, "SECRET");
        assert!(!arguments.concat().contains("SECRET"));
        assert_eq!(input.as_deref(), Some("SECRET\n"));
    }
}
