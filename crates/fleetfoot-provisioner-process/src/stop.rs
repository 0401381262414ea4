//! Launching a shim and ending it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fleetfoot_provisioner::InstanceName;
use fleetfoot_provisioner::{BackendError, ErrorKind};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

use crate::directory::{Directory, PidRecord};
use crate::shim::{Answer, Order, WORD};
use crate::{life, proc, program};

const OPERATION: &str = "launch runner process";
/// A shim's answer is one short line.
const ANSWER_MAX: u64 = 64 * 1024;

/// Starts the shim of `directory` with its order and waits for its answer: the warnings about limits.
pub(crate) async fn launch(
    shim: &Path,
    directory: &Directory,
    order: &Order,
    name: &InstanceName,
) -> Result<Vec<String>, BackendError> {
    let failed =
        |kind: ErrorKind, message: String| BackendError::new(OPERATION, kind, message).about(name);
    let mut command = tokio::process::Command::from(program::command(shim));
    command
        .arg(WORD)
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.launch.spawn.before");
    let mut child = command.spawn().map_err(|error| {
        failed(ErrorKind::Backend, format!("cannot start {}: {error}", shim.display()))
    })?;
    let (Some(mut orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(ErrorKind::Backend, "no pipe to the shim".to_owned()));
    };
    let unanswered =
        |error: io::Error| failed(ErrorKind::Unanswered, format!("lost the shim: {error}"));
    let text =
        serde_json::to_vec(order).map_err(|error| failed(ErrorKind::Backend, error.to_string()))?;
    // Not whole if we are dropped here, and the shim then does nothing.
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.launch.order.before");
    orders.write_all(&text).await.map_err(unanswered)?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.launch.order.after");
    drop(orders);
    let mut answer = Vec::new();
    answers.take(ANSWER_MAX).read_to_end(&mut answer).await.map_err(unanswered)?;
    // It only starts the shim proper and is at its end by now.
    child.wait().await.map_err(unanswered)?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Started { warnings }) => Ok(warnings),
        Ok(Answer::Refused { message, no_room }) => {
            let kind = if no_room { ErrorKind::NoRoom } else { ErrorKind::Instance };
            Err(failed(kind, message))
        }
        Err(_) => {
            let message = format!("{} ended without an answer", shim.display());
            Err(failed(ErrorKind::Unanswered, message))
        }
    }
}

/// A live process, held by descriptor: its number cannot come to mean another one.
#[derive(Debug)]
pub(crate) struct Held(AsyncFd<OwnedFd>);

impl Held {
    /// Holds the recorded process if it lives.
    pub(crate) fn new(record: &PidRecord, boot_id: &str) -> io::Result<Option<Self>> {
        let Some(pid) = proc::pid(record.pid) else { return Ok(None) };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only now: the descriptor is of this very process, or of one that came to its number before.
        if !life::alive(record, boot_id) {
            return Ok(None);
        }
        Ok(Some(Self(register(descriptor)?)))
    }

    fn signal(&self, signal: Signal) {
        // It may have ended meanwhile, which is what the signal is for.
        let _ = pidfd_send_signal(self.0.get_ref(), signal);
    }

    /// Resolves when the process has ended (it may still be a zombie).
    pub(crate) async fn ended(&self) -> io::Result<()> {
        self.0.readable().await.map(|_| ())
    }

    /// Asks a shim to stop its runner and gives it `grace` and a bit; then kills it. True if it ended by itself, so that
    /// nothing of its tree is left.
    pub(crate) async fn stop(&self, grace: Duration) -> io::Result<bool> {
        self.signal(Signal::TERM);
        let patience = grace + Duration::from_secs(3);
        if let Ok(ended) = tokio::time::timeout(patience, self.ended()).await {
            return ended.map(|()| true);
        }
        self.signal(Signal::KILL);
        self.ended().await?;
        Ok(false)
    }
}

/// The successor of the safe constructor is unsafe, which this workspace forbids. What it asks for holds here: an `OwnedFd`
/// keeps its one descriptor open for as long as it lives.
#[expect(deprecated, reason = "tokio's replacement needs unsafe code")]
fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
