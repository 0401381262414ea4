//! What we ask of a guest's agent, as JSON, and its answers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleetfoot_provisioner::JitConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pool::{JitDelivery, LibvirtPool};
use crate::rpc::{AgentAnswer, CallError, Connection};
use crate::wire::Domain;

/// The original's bounds.
pub(crate) const PING_MAX: Duration = Duration::from_secs(5);
pub(crate) const EXEC_MAX: Duration = Duration::from_secs(30);
const STATUS_MAX: Duration = Duration::from_secs(5);
/// So much of a runner's output is kept when its machine is switched off, in bytes.
const OUTPUT_MAX: u32 = 256 * 1024;

/// Where the wrapper keeps its files in the guest. A machine has one runner in its life.
const PREPARE: &str =
    "d=/run/fleetfoot; mkdir -p $d 2>/dev/null || { d=/tmp/fleetfoot; mkdir -p $d; }";
const FIND: &str = "d=/run/fleetfoot; [ -d $d ] || d=/tmp/fleetfoot";

/// An agent's command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the guest agent does not answer: {0}")]
    Silent(String),
    #[error("the guest agent refuses: {0}")]
    Refused(String),
    #[error("the guest agent's answer makes no sense")]
    Malformed,
}

/// How far a process in the guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProcessStatus {
    Running,
    Exited {
        code: i32,
        output: String,
    },
    /// The agent does not know it: it was asked before, or the agent was restarted.
    Unknown,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: T,
}

/// An agent that names no process is believed, as by the original: its process is 0.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Launched {
    #[serde(rename = "return")]
    value: Pid,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pid {
    pid: i64,
}

#[derive(Deserialize)]
struct Status {
    exited: bool,
    #[serde(default)]
    exitcode: Option<i32>,
    #[serde(default)]
    signal: Option<i32>,
    #[serde(rename = "out-data", default)]
    output: Option<String>,
}

async fn ask(
    talk: &Connection,
    domain: &Domain,
    command: &Value,
    answer_max: Duration,
) -> Result<String, AgentError> {
    match talk.agent(domain, &command.to_string(), answer_max).await? {
        AgentAnswer::Said(text) => Ok(text),
        AgentAnswer::Silent(why) => Err(AgentError::Silent(why)),
        AgentAnswer::Refused(why) => Err(AgentError::Refused(why)),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, AgentError> {
    let answer: Answer<T> = serde_json::from_str(text).map_err(|_| AgentError::Malformed)?;
    Ok(answer.value)
}

/// Whether it answers.
pub(crate) async fn ping(talk: &Connection, domain: &Domain) -> Result<(), AgentError> {
    ask(talk, domain, &json!({ "execute": "guest-ping" }), PING_MAX).await.map(drop)
}

/// With it GitHub's runner ends with code 7 when it is too old, and not with 0 as after a job.
const TELLS_OLD: &str = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE";

/// The command that starts the runner: by the wrapper, or as the original has it. A wrapper sets the clock first, if
/// it is given one: a call of its own would wait for the guest's `hwclock`.
pub(crate) fn runner_command(
    pool: &LibvirtPool,
    jit: &JitConfig,
    clock: Option<Duration>,
) -> Value {
    let runner = pool.runner_cmd.as_str();
    let arguments = match (pool.jit, pool.is_windows()) {
        (JitDelivery::Argument, _) => {
            let arg = ["--jitconfig", jit.expose()];
            return json!({ "execute": "guest-exec", "arguments": { "path": runner, "arg": arg } });
        }
        // A seed's machine is launched by its boot, not by this.
        (JitDelivery::Input | JitDelivery::Seed, false) => {
            // The exit status is kept in the guest: an agent tells it only once, and forgets when it restarts.
            let clock = clock.map(|now| {
                let seconds = (now + Duration::from_millis(500)).as_secs();
                format!("date -s @{seconds} >/dev/null 2>&1; ")
            });
            let clock = clock.unwrap_or_default();
            // It reads first, and so stands aside: a guest with one processor has the agent answer meanwhile.
            let script = format!(
                "IFS= read -r ACTIONS_RUNNER_INPUT_JITCONFIG; {clock}{PREPARE}; umask 077; echo $$ > $d/pid; \
                 export ACTIONS_RUNNER_INPUT_JITCONFIG {TELLS_OLD}=1; \"$0\" </dev/null >$d/log 2>&1; c=$?; \
                 echo $c > $d/exit.new; mv $d/exit.new $d/exit; exit $c"
            );
            json!({ "path": "/bin/sh", "arg": ["-c", script, runner] })
        }
        (JitDelivery::Input | JitDelivery::Seed, true) => {
            let runner = runner.replace('\'', "''");
            let script = format!(
                "$env:ACTIONS_RUNNER_INPUT_JITCONFIG=[Console]::In.ReadLine(); $env:{TELLS_OLD}='1'; & '{runner}'; \
                 exit $LASTEXITCODE"
            );
            json!({ "path": "powershell.exe", "arg": ["-NoProfile", "-NonInteractive", "-Command", script] })
        }
    };
    let mut arguments = arguments;
    if let Some(arguments) = arguments.as_object_mut() {
        let input = BASE64.encode(format!("{}\n", jit.expose()));
        arguments.insert("input-data".to_owned(), input.into());
    }
    json!({ "execute": "guest-exec", "arguments": arguments })
}

/// The same shell and tools as the wrapper's, and the runner's file in the guest's memory.
pub(crate) fn rehearsal(pool: &LibvirtPool) -> Value {
    let script = format!("{PREPARE}; date +%s; cat \"$0\" >/dev/null; exit 0");
    json!({ "execute": "guest-exec", "arguments": {
        "path": "/bin/sh", "arg": ["-c", script, pool.runner_cmd], "input-data": BASE64.encode("\n") } })
}

/// Whether the runner's wrapper keeps output and exit status in the guest.
pub(crate) fn is_wrapped(pool: &LibvirtPool) -> bool {
    pool.jit == JitDelivery::Input && !pool.is_windows()
}

/// Starts a process; its number in the guest.
pub(crate) async fn exec(
    talk: &Connection,
    domain: &Domain,
    command: &Value,
) -> Result<i64, AgentError> {
    process(&ask(talk, domain, command, EXEC_MAX).await?)
}

fn process(text: &str) -> Result<i64, AgentError> {
    if !text.trim_start().starts_with('{') {
        return Err(AgentError::Malformed);
    }
    let launched: Launched = serde_json::from_str(text).map_err(|_| AgentError::Malformed)?;
    Ok(launched.value.pid)
}

/// How far a process is. The agent tells an end only once.
pub(crate) async fn status(
    talk: &Connection,
    domain: &Domain,
    pid: i64,
) -> Result<ProcessStatus, AgentError> {
    let command = json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } });
    let said = match ask(talk, domain, &command, STATUS_MAX).await {
        Err(AgentError::Refused(_)) => return Ok(ProcessStatus::Unknown),
        other => other?,
    };
    let status: Status = parse(&said)?;
    if !status.exited {
        return Ok(ProcessStatus::Running);
    }
    let code = status.exitcode.or(status.signal.map(|signal| 128 + signal)).unwrap_or(-1);
    let output = status.output.and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
    Ok(ProcessStatus::Exited { code, output: String::from_utf8_lossy(&output).into_owned() })
}

/// Runs a shell's script to its end and gives what it printed.
pub(crate) async fn shell(
    talk: &Connection,
    domain: &Domain,
    script: &str,
) -> Result<(i32, String), AgentError> {
    shell_with(talk, domain, script, &[]).await
}

/// The same with something on its standard input.
pub(crate) async fn shell_with(
    talk: &Connection,
    domain: &Domain,
    script: &str,
    input: &[u8],
) -> Result<(i32, String), AgentError> {
    let command = json!({ "execute": "guest-exec", "arguments": {
        "path": "/bin/sh", "arg": ["-c", script], "capture-output": true,
        "input-data": BASE64.encode(input) } });
    run(talk, domain, &command).await
}

/// Starts a process and waits for its end: its status and, if asked for, what it printed.
pub(crate) async fn run(
    talk: &Connection,
    domain: &Domain,
    command: &Value,
) -> Result<(i32, String), AgentError> {
    let pid = exec(talk, domain, command).await?;
    let mut pause = Duration::from_millis(10);
    let end = tokio::time::Instant::now() + EXEC_MAX;
    loop {
        match status(talk, domain, pid).await? {
            ProcessStatus::Exited { code, output } => return Ok((code, output)),
            ProcessStatus::Unknown => return Err(AgentError::Malformed),
            ProcessStatus::Running if tokio::time::Instant::now() > end => {
                return Err(AgentError::Silent("a script does not end".to_owned()));
            }
            ProcessStatus::Running => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// The last lines of a wrapped runner's output.
pub(crate) async fn tail(
    talk: &Connection,
    domain: &Domain,
    lines: usize,
) -> Result<String, AgentError> {
    let script = format!("{FIND}; [ ! -f $d/log ] || tail -n {lines} $d/log");
    shell(talk, domain, &script).await.map(|(_, output)| output)
}

/// What a wrapped runner printed, the end of it if it is much; and, if asked for, caches of shared directories are
/// written out.
pub(crate) async fn output(
    talk: &Connection,
    domain: &Domain,
    wrapped: bool,
    sync: bool,
) -> Result<String, AgentError> {
    let read = format!("{FIND}; [ ! -f $d/log ] || tail -c {OUTPUT_MAX} $d/log");
    let script = match (wrapped, sync) {
        (true, true) => format!("{read}; sync"),
        (true, false) => read,
        (false, _) => "sync".to_owned(),
    };
    shell(talk, domain, &script).await.map(|(_, output)| output)
}

/// How a wrapped runner is that the agent does not know: its kept exit status, or whether its process lives.
pub(crate) async fn look(talk: &Connection, domain: &Domain) -> Result<ProcessStatus, AgentError> {
    let script = format!(
        "{FIND}; if [ -f $d/exit ]; then cat $d/exit; elif [ -f $d/pid ] && kill -0 $(cat $d/pid); then echo lives; else echo lost; fi"
    );
    let (_, said) = shell(talk, domain, &script).await?;
    Ok(match said.trim() {
        "lives" => ProcessStatus::Running,
        "lost" => ProcessStatus::Unknown,
        code => match code.parse() {
            Ok(code) => ProcessStatus::Exited { code, output: String::new() },
            Err(_) => return Err(AgentError::Malformed),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jit() -> JitConfig {
        JitConfig::new("c2VjcmV0".to_owned().into())
    }

    #[test]
    fn the_secret_is_in_no_argument() {
        for runner in ["/actions-runner/run.sh", r"C:\actions-runner\run.cmd"] {
            let mut pool = LibvirtPool::new("/base.qcow2");
            pool.runner_cmd = runner.to_owned();
            let command = runner_command(&pool, &jit(), None);
            assert!(!command["arguments"]["arg"].to_string().contains("c2VjcmV0"), "{command}");
            let input = command["arguments"]["input-data"].as_str().unwrap();
            assert_eq!(BASE64.decode(input).unwrap(), b"c2VjcmV0\n");
        }
    }

    /// By the guest's own shell, with a runner as old as can be.
    #[test]
    fn a_runner_that_is_too_old_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let runner = dir.path().join("run.sh");
        let old = format!("#!/bin/sh\n[ \"${TELLS_OLD}\" = 1 ] && exit 7\nexit 0\n");
        std::fs::write(&runner, old).unwrap();
        std::fs::set_permissions(&runner, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut pool = LibvirtPool::new("/base.qcow2");
        pool.runner_cmd = runner.display().to_string();
        let command = runner_command(&pool, &jit(), None);
        let script = command["arguments"]["arg"][1].as_str().unwrap();
        let kept = dir.path().join("kept");
        let script = script.replace("/run/fleetfoot", &kept.display().to_string());
        assert!(script.contains(&kept.display().to_string()), "{script}");
        #[expect(clippy::disallowed_methods, reason = "a guest's shell")]
        let mut shell = std::process::Command::new("/bin/sh");
        let shell =
            shell.args(["-c", &script, &pool.runner_cmd]).stdin(std::process::Stdio::null());
        // Without an input `read` fails, and the wrapper goes on.
        assert_eq!(shell.status().unwrap().code(), Some(7));
        assert_eq!(std::fs::read_to_string(kept.join("exit")).unwrap().trim(), "7");
        pool.runner_cmd = r"C:\actions-runner\run.cmd".to_owned();
        let command = runner_command(&pool, &jit(), None)["arguments"]["arg"].to_string();
        assert!(command.contains(&format!("$env:{TELLS_OLD}='1'")), "{command}");
    }

    #[test]
    fn the_originals_form_is_path_and_two_arguments() {
        let mut pool = LibvirtPool::new("/base.qcow2");
        pool.jit = JitDelivery::Argument;
        assert_eq!(
            runner_command(&pool, &jit(), None),
            json!({ "execute": "guest-exec", "arguments": {
                "path": "/actions-runner/run.sh", "arg": ["--jitconfig", "c2VjcmV0"] } })
        );
    }

    #[test]
    fn malformed_answers_are_errors_and_one_without_a_process_is_none() {
        for text in ["", "{\"return\":1}", "{\"return\":{\"pid\":\"x\"}}", "[1]", "[]", "{"] {
            assert!(matches!(process(text), Err(AgentError::Malformed)), "{text}");
        }
        for (text, pid) in [("{\"return\":{\"pid\":7}}", 7), ("{\"return\":{}}", 0), ("{}", 0)] {
            assert_eq!(process(text).unwrap(), pid, "{text}");
        }
    }
}
