//! The kept command: its three streams, its end, and ending it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::capture::Capture;
use super::{Answer, Order, answer};
use crate::command;
use crate::directory::{Directory, End, Job};
use crate::keep;
use crate::life;
use crate::logs::Output;

/// How long streams may stay open after the command's end: somebody inherited them.
const DRAIN: Duration = Duration::from_secs(1);
/// How often the runner's keeper looks whether there is still a machine.
const LOOK: Duration = Duration::from_secs(1);
/// How long a runner may take to notice that its machine is gone.
const ORPHANED: Duration = Duration::from_secs(5);

/// Starts the command, answers, and stays until it ended.
pub(super) async fn keep(directory: &Directory, job: Job, order: &Order) -> Result<End, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut asked = signal(SignalKind::terminate()).map_err(said)?;
    let pid = std::process::id().to_string();
    std::fs::write(directory.of(job, "pid"), pid).map_err(said)?;
    let (capture, warning) = Capture::open(order.capture.as_deref());
    let mut command = command::command(&order.program);
    let input = if order.input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.args(&order.arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            capture.close(false);
            let _ = std::fs::remove_file(directory.of(job, "pid"));
            return Err(format!("cannot start {}: {error}", order.program.display()));
        }
    };
    answer(&Answer::Started { warning });
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), &order.input) {
        // A command that does not read ends, and says more than this.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    }
    let grace = Duration::from_millis(order.grace_ms);
    let mut kept = Kept {
        directory,
        job,
        capture,
        output: Output::new(directory.of(job, "log"), order.output_max),
        by_us: false,
        orphaned: None,
        kill_at: None,
    };
    let status = kept.until_end(&mut child, &mut asked, grace).await.map_err(said)?;
    if job == Job::Runner && !kept.by_us {
        // Whoever deletes stops the machine by itself.
        let _ = keep::end(directory, Job::Vm, grace + ORPHANED).await;
    }
    Ok(kept.close(status))
}

struct Kept<'a> {
    directory: &'a Directory,
    job: Job,
    capture: Capture,
    output: Output,
    by_us: bool,
    /// Since when there is no machine any more.
    orphaned: Option<Instant>,
    kill_at: Option<Instant>,
}

impl Kept<'_> {
    async fn until_end(
        &mut self,
        child: &mut Child,
        asked: &mut tokio::signal::unix::Signal,
        grace: Duration,
    ) -> std::io::Result<ExitStatus> {
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (vec![0; 8192], vec![0; 8192]);
        let mut status: Option<(ExitStatus, Instant)> = None;
        loop {
            if let Some((status, drained)) = status
                && (stdout.is_none() && stderr.is_none() || Instant::now() >= drained)
            {
                return Ok(status);
            }
            let next = status.map(|(_, drained)| drained).or(self.kill_at);
            tokio::select! {
                biased;
                read = read(&mut stdout, &mut out) => self.output.write(&out[..read]),
                read = read(&mut stderr, &mut err) => {
                    self.capture.write(&err[..read]);
                    self.output.write(&err[..read]);
                }
                ended = child.wait(), if status.is_none() => {
                    status = Some((ended?, Instant::now() + DRAIN));
                }
                _ = asked.recv(), if status.is_none() => {
                    self.by_us = true;
                    // `tart run` stops its machine on this one.
                    self.signal(child, if self.job == Job::Vm { Signal::INT } else { Signal::TERM });
                    self.kill_at.get_or_insert(Instant::now() + grace);
                }
                () = until(next) => {
                    if status.is_none() {
                        self.signal(child, Signal::KILL);
                        self.kill_at = Some(Instant::now() + grace);
                    }
                }
                () = tokio::time::sleep(LOOK), if self.job == Job::Runner && status.is_none() => self.look(),
            }
        }
    }

    /// A runner whose machine is gone must not wait for ever.
    fn look(&mut self) {
        if life::is_alive(self.directory, Job::Vm).unwrap_or(true) {
            return;
        }
        let since = *self.orphaned.get_or_insert_with(Instant::now);
        self.kill_at.get_or_insert(since + ORPHANED);
    }

    fn signal(&self, child: &Child, signal: Signal) {
        // Not waited for yet, so the number is still its own.
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    fn close(self, status: ExitStatus) -> End {
        use std::os::unix::process::ExitStatusExt as _;
        let keep = !self.by_us && !status.success();
        let (stderr, log) = self.capture.close(keep);
        let killed = self.orphaned.is_some() && status.code().is_none();
        End {
            code: status.code(),
            signal: status.signal(),
            by_us: self.by_us,
            message: killed.then(|| "its machine ended under it".to_owned()),
            stderr,
            log,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits for ever on a stream that has ended.
async fn read(stream: &mut Option<impl AsyncReadExt + Unpin>, buffer: &mut [u8]) -> usize {
    let Some(open) = stream else { return std::future::pending().await };
    match open.read(buffer).await {
        Ok(read) if read > 0 => read,
        Ok(_) | Err(_) => {
            *stream = None;
            0
        }
    }
}
