//! The stand-in runner as a program, in place of `run.sh`.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::blob::{Blob, BlobError};
use super::work::{Exit, Runner, Stop};

/// `run.sh` ends with this when the version is too old and it was asked to say so.
const VERSION_DEPRECATED: u8 = 7;
const INPUT: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";

/// Runs as `run.sh` with these arguments (without the program's own name).
///
/// The exit code is the one of `run.sh`: 0 nearly always, also when there never was a job.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut out = std::io::stdout();
    let blob = match find_blob(arguments) {
        Ok(blob) => blob,
        Err(error) => {
            // What the listener calls "terminated, not retryable" is 0 behind run.sh.
            let _ = writeln!(out, "An error occurred: Not configured: {error}");
            return ExitCode::SUCCESS;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(out, "An error occurred: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        let runner = Runner::new(blob);
        let stop = runner.stop_handle();
        tokio::select! {
            ended = runner.run(&mut out) => ended,
            never = obey(stop) => match never {},
        }
    });
    match ended {
        Ok(Exit::Crashed) => ExitCode::from(137),
        Ok(Exit::VersionDeprecated) if wants_version_code() => ExitCode::from(VERSION_DEPRECATED),
        Ok(Exit::JobDone | Exit::Stopped | Exit::Refused | Exit::VersionDeprecated) => {
            let _ = writeln!(
                out,
                "Runner listener exit with 0 return code, stop the service, no retry needed."
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(out, "An error occurred: {error}");
            ExitCode::SUCCESS
        }
    }
}

enum Never {}

/// Signals reach the listener, except through a `run.sh` that is process 1 and was not told to
/// pass them on: then nothing happens, as with bash.
async fn obey(stop: Stop) -> Never {
    let forwarded =
        std::process::id() != 1 || std::env::var_os("RUNNER_MANUALLY_TRAP_SIG").is_some();
    if forwarded
        && let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.stop();
    }
    std::future::pending().await
}

fn wants_version_code() -> bool {
    std::env::var("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE")
        .is_ok_and(|value| value == "1")
}

fn find_blob(mut arguments: impl Iterator<Item = OsString>) -> Result<Blob, BlobError> {
    while let Some(argument) = arguments.next() {
        let Some(argument) = argument.to_str() else { continue };
        if argument == "--jitconfig" {
            let value = arguments.next().and_then(|value| value.into_string().ok());
            return Blob::parse(&value.unwrap_or_default());
        }
        if let Some(value) = argument.strip_prefix("--jitconfig=") {
            return Blob::parse(value);
        }
    }
    let input = std::env::vars_os()
        .find(|(key, _)| key.to_str().is_some_and(|key| key.eq_ignore_ascii_case(INPUT)));
    if let Some((_, value)) = input {
        return Blob::parse(&value.into_string().unwrap_or_default());
    }
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(PathBuf::from));
    let here = PathBuf::from(".");
    match beside.filter(|directory| directory.join(".runner").exists()) {
        Some(directory) => Blob::from_directory(&directory),
        None => Blob::from_directory(&here),
    }
}
