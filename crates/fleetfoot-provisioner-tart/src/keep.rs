//! The daemon's side of a keeper: starting it, waiting for it, ending it.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::command;
use crate::directory::{Directory, Job};
use crate::keeper::{Answer, Order, WORD};
use crate::life;

/// How often to look at a lock that somebody else holds.
const LOOK: Duration = Duration::from_millis(20);
/// An answer is one short line.
const ANSWER_MAX: u64 = 64 * 1024;

/// Why a keeper does not keep.
#[derive(Debug)]
pub(crate) enum KeepError {
    /// Another keeper was first.
    Begun,
    /// It said so, and nothing was started.
    Refused(String),
    /// The keeper itself could not be started.
    NoKeeper(String),
    /// Nothing was heard from it: it may have started or may still start.
    Unanswered(String),
}

/// Starts a keeper; answers its warning once the command runs.
pub(crate) async fn start(
    keeper: &Path,
    directory: &Directory,
    job: Job,
    order: &Order,
) -> Result<Option<String>, KeepError> {
    let text = serde_json::to_vec(order).map_err(|error| KeepError::NoKeeper(error.to_string()))?;
    let mut command = command::command(keeper);
    command
        .arg(WORD)
        .arg(directory.path())
        .arg(job.word())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| {
        KeepError::NoKeeper(format!("cannot start {}: {error}", keeper.display()))
    })?;
    let (Some(mut orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(KeepError::NoKeeper("no pipe to the keeper".to_owned()));
    };
    let unanswered = |error: io::Error| KeepError::Unanswered(error.to_string());
    // Not whole if we are dropped here, and the keeper then does nothing.
    orders.write_all(&text).await.map_err(unanswered)?;
    drop(orders);
    let mut line = String::new();
    BufReader::new(answers.take(ANSWER_MAX)).read_line(&mut line).await.map_err(unanswered)?;
    // It is not waited for: it lives as long as its command, and the runtime takes up its status.
    drop(child);
    match serde_json::from_str(&line) {
        Ok(Answer::Started { warning }) => Ok(warning),
        Ok(Answer::Begun) => Err(KeepError::Begun),
        Ok(Answer::Refused { message }) => Err(KeepError::Refused(message)),
        Err(_) => Err(KeepError::Unanswered("the keeper ended without an answer".to_owned())),
    }
}

/// Waits until the keeper of `job` is gone, or does not wait at all if it is.
pub(crate) async fn ended(directory: &Directory, job: Job) -> io::Result<()> {
    while life::is_alive(directory, job)? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Ends the keeper of `job` and its command; says whether it is gone within `bound`.
pub(crate) async fn end(directory: &Directory, job: Job, bound: Duration) -> io::Result<bool> {
    let gone = async {
        let mut asked = false;
        while life::is_alive(directory, job)? {
            if !asked {
                asked = ask(directory, job);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    match tokio::time::timeout(bound, gone).await {
        Ok(outcome) => outcome.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// The number is the keeper's own as long as its lock is held, which was just seen.
fn ask(directory: &Directory, job: Job) -> bool {
    let text = std::fs::read_to_string(directory.of(job, "pid")).unwrap_or_default();
    let pid = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, Signal::TERM).is_ok())
}
