//! A stand-in for the `tart` program, for tests on machines that are no Macs.
//!
//! A program of its own, not a mock: it keeps machines below `TART_HOME` as Tart does (`vms/NAME/config.json` is locked while
//! the machine runs), answers with Tart's exit codes (0; 1; 2 for a machine that is not there, not running or running already;
//! 64 for arguments it does not know), writes to both streams, stays in `run` until the machine is stopped, and runs what `exec`
//! is given as a process of this host that dies with its machine.
//!
//! What is different from a plain day is told in `TART_HOME/stand-in/`:
//!
//! | file | effect |
//! |---|---|
//! | `calls` | written: the arguments of every call, one JSON array a line |
//! | `fail/COMMAND`, `fail-once/COMMAND` | the command fails: exit code, a space, words for standard error |
//! | `fail-once-late/COMMAND` | the same, after the command did its work |
//! | `frozen` | every command waits until the file is gone |
//! | `boot_ms`, `clone_ms` | how long the guest agent takes after `run`, and a clone |
//! | `noise` | so many bytes go to each stream of `run` |
//! | `deaf` | `run` ignores SIGINT |
//!
//! In a machine's directory `poweroff` ends it as its guest would, and `crash` as a fault of the framework.

mod exec;
mod machine;
mod run;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use machine::Home;

/// Exit code and words of a command that did not do what was asked.
pub(crate) struct Refusal(pub(crate) u8, pub(crate) String);

type Outcome = Result<u8, Refusal>;

/// Runs one command of `tart`.
#[must_use]
pub fn main(arguments: Vec<String>) -> ExitCode {
    let home = Home(crate::command::home());
    home.record(&arguments);
    home.while_frozen();
    let command = arguments.first().map(String::as_str).unwrap_or_default().to_owned();
    let outcome = match home
        .fault("fail", &command, false)
        .or_else(|| home.fault("fail-once", &command, true))
    {
        Some(refusal) => Err(refusal),
        None => act(&home, &arguments),
    };
    let outcome = match home.fault("fail-once-late", &command, true) {
        Some(refusal) if outcome.is_ok() => Err(refusal),
        Some(_) | None => outcome,
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Refusal(code, words)) => {
            say(&words);
            ExitCode::from(code)
        }
    }
}

fn act(home: &Home, arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--version"] => {
            print("2.30.0");
            Ok(0)
        }
        ["clone", source, name] => home.clone_machine(source, name),
        ["pull", reference] => home.pull(reference),
        ["set", name, options @ ..] => home.set(name, options),
        ["run", rest @ ..] => run::run(home, rest),
        ["exec", rest @ ..] => exec::exec(home, rest),
        ["stop", name] => run::stop(home, name, Duration::from_secs(30)),
        ["stop", name, "--timeout", seconds] | ["stop", "--timeout", seconds, name] => {
            let seconds = seconds.parse().map_err(|_| usage())?;
            run::stop(home, name, Duration::from_secs(seconds))
        }
        ["delete", names @ ..] if !names.is_empty() => {
            names.iter().try_fold(0, |_, name| home.delete(name))
        }
        ["list", options @ ..] => home.list(options),
        ["get", name, "--format", "json"] => home.get(name),
        _ => Err(usage()),
    }
}

fn usage() -> Refusal {
    Refusal(64, "Error: Unexpected argument\nUsage: tart <subcommand>".to_owned())
}

/// A line on standard output.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on standard error.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A little wait between two looks; this program has nothing else to do.
#[expect(
    clippy::disallowed_methods,
    reason = "a small program without a runtime that waits for a level"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

#[expect(clippy::disallowed_methods, reason = "it plays a slow tool")]
fn pause_for(duration: Duration) {
    std::thread::sleep(duration);
}

impl Home {
    fn control(&self, name: &str) -> PathBuf {
        self.0.join("stand-in").join(name)
    }

    fn record(&self, arguments: &[String]) {
        let _ = std::fs::create_dir_all(self.0.join("stand-in"));
        let mut line = serde_json::to_string(arguments).unwrap_or_default();
        line.push('\n');
        let calls = std::fs::File::options().append(true).create(true).open(self.control("calls"));
        if let Ok(mut calls) = calls {
            let _ = calls.write_all(line.as_bytes());
        }
    }

    fn while_frozen(&self) {
        while self.control("frozen").exists() {
            pause();
        }
    }

    fn fault(&self, kind: &str, command: &str, once: bool) -> Option<Refusal> {
        let path = self.control(kind).join(command);
        let text = std::fs::read_to_string(&path).ok()?;
        if once {
            let _ = std::fs::remove_file(path);
        }
        let (code, words) = text.split_once(' ').unwrap_or((&text, ""));
        Some(Refusal(code.trim().parse().unwrap_or(1), words.to_owned()))
    }

    fn number(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.control(name)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}
