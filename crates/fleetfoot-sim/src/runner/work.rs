//! Connect, wait, work, say how it went.

use std::io::Write;
use std::time::Duration;

use fleetfoot_ordered::watch;
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::state::JobFor;

use super::blob::Blob;
use super::client::Client;

/// How a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ran its job; the result is in the log and at the box only.
    JobDone,
    /// It was stopped before it had a job.
    Stopped,
    /// Its registration is unknown, spent or deleted.
    Refused,
    /// Its version is too old.
    VersionDeprecated,
    /// The job was meant to end the process without a word.
    Crashed,
}

/// What went wrong on the way to the box.
#[derive(Debug, Error)]
pub enum RunnerError {
    /// The URL in the JIT config is not one of a box.
    #[error("the JIT config's server URL is not a plain http one")]
    Url,
    /// The box cannot be reached.
    #[error("failed to speak with the box")]
    Connection(#[from] std::io::Error),
    /// The box answered what it should not.
    #[error("the box answered {status} {message}")]
    Answer {
        /// HTTP status.
        status: u16,
        /// The box's words.
        message: String,
    },
}

/// Ends a [`Runner`] from outside, as a signal to the real listener does.
#[derive(Debug, Clone)]
pub struct Stop {
    sender: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { sender: watch::Sender::new(false) }
    }
}

impl Stop {
    /// Asks the runner to end: an idle one leaves, a job is cancelled.
    pub fn stop(&self) {
        self.sender.send_replace(true);
    }

    async fn asked(&self) {
        let mut receiver = self.sender.subscribe();
        if receiver.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How often a runner that cannot reach the box tries again, and how long.
const RETRY_EVERY: Duration = Duration::from_millis(500);
const RETRIES_MAX: u32 = 60;
/// How long one that is stopped while it connects waits for the answer.
const GOODBYE: Duration = Duration::from_secs(1);

/// A stand-in runner inside a runtime.
#[derive(Debug)]
pub struct Runner {
    blob: Blob,
    stop: Stop,
}

impl Runner {
    /// A runner with this JIT config.
    #[must_use]
    pub fn new(blob: Blob) -> Self {
        Self { blob, stop: Stop::default() }
    }

    /// The handle that ends it.
    #[must_use]
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Connects, waits for its one job, does it. Its log goes to `out`.
    ///
    /// # Errors
    /// When the box cannot be reached or answers nonsense.
    pub async fn run(&self, out: &mut (impl Write + Send)) -> Result<Exit, RunnerError> {
        let mut client = Client::new(&self.blob.url).ok_or(RunnerError::Url)?;
        if let Some(exit) = self.connect(&mut client, out).await? {
            return Ok(exit);
        }
        // One connection while it waits: the one of the poll.
        let mut client = client.fork();
        say(out, "");
        say(out, "√ Connected to GitHub");
        say(out, "");
        say(out, "Current runner version: '2.336.0'");
        say(out, &format!("{}: Listening for Jobs", stamp()));
        loop {
            let poll = client.fork();
            let answer = tokio::select! {
                biased;
                answer = persistent(poll, "/_runner/poll") => answer?,
                () = self.stop.asked() => {
                    say(out, "Exiting...");
                    // A job may come in this very moment; then it is lost to this runner.
                    let _ = client.post("/_runner/leave", &json!({})).await;
                    return Ok(Exit::Stopped);
                }
            };
            match answer.status {
                202 => {}
                200 => {
                    let status = answer.status;
                    let job: JobFor = serde_json::from_value(answer.body).map_err(|error| {
                        RunnerError::Answer { status, message: error.to_string() }
                    })?;
                    return self.work(client, job, out).await;
                }
                401 | 410 => {
                    say(out, &format!("Runner listener exited: {}", answer.message()));
                    return Ok(Exit::Refused);
                }
                status => {
                    let message = answer.message().to_owned();
                    return Err(RunnerError::Answer { status, message });
                }
            }
        }
    }

    async fn connect(
        &self,
        client: &mut Client,
        out: &mut (impl Write + Send),
    ) -> Result<Option<Exit>, RunnerError> {
        let body = json!({ "credential": self.blob.credential });
        let mut tries = 0;
        let answer = loop {
            let post = client.post("/_runner/connect", &body);
            let mut post = std::pin::pin!(post);
            let answer = tokio::select! {
                biased;
                answer = &mut post => answer,
                // It may be connected already, and then it says goodbye.
                () = self.stop.asked() => match timeout(GOODBYE, post).await {
                    Ok(answer) => answer,
                    Err(_) => return Ok(Some(Exit::Stopped)),
                },
            };
            match answer {
                Ok(answer) if answer.status < 500 => break answer,
                Ok(answer) if tries >= RETRIES_MAX => {
                    let message = answer.message().to_owned();
                    return Err(RunnerError::Answer { status: answer.status, message });
                }
                Err(error) if tries >= RETRIES_MAX => return Err(error.into()),
                Ok(_) | Err(_) => tokio::select! {
                    biased;
                    () = self.stop.asked() => return Ok(Some(Exit::Stopped)),
                    () = sleep(RETRY_EVERY) => {}
                },
            }
            tries += 1;
        };
        match (answer.status, answer.body["token"].as_str()) {
            (200, Some(token)) => {
                client.token = Some(token.to_owned());
                Ok(None)
            }
            (403, _) => {
                say(out, &format!("An error occurred: {}", answer.message()));
                Ok(Some(Exit::VersionDeprecated))
            }
            _ => {
                say(out, &format!("An error occurred: {}", answer.message()));
                Ok(Some(Exit::Refused))
            }
        }
    }

    async fn work(
        &self,
        mut client: Client,
        job: JobFor,
        out: &mut (impl Write + Send),
    ) -> Result<Exit, RunnerError> {
        let path = |what: &str| format!("/_runner/jobs/{}/{what}", job.id);
        if client.post(&path("start"), &json!({})).await?.status != 204 {
            say(out, "The job was given to another runner or cancelled");
            return Ok(Exit::Refused);
        }
        let ends = Instant::now() + Duration::from_millis(job.duration_ms);
        say(out, &format!("{}: Running job: {}", stamp(), job.name));
        for line in 1..=job.log_lines {
            say(out, &format!("{}: line {line} of {}", job.name, job.log_lines));
        }
        let _taken = vec![1_u8; usize::try_from(job.memory_mib).unwrap_or(0) << 20];
        let cancelled = async {
            loop {
                match persistent(client.fork(), &path("wait")).await {
                    Ok(answer) if answer.status == 202 => {}
                    Ok(_) => return,
                    // Without the box nobody can cancel; the end of the job will tell.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        let result = tokio::select! {
            biased;
            () = sleep_until(ends) => job.result.as_str(),
            () = self.stop.asked() => "canceled",
            () = cancelled => "canceled",
        };
        if job.crash {
            return Ok(Exit::Crashed);
        }
        let answer = complete(client, &path("complete"), result).await?;
        if answer != 204 {
            say(out, &format!("Job completion was refused: {answer}"));
        }
        let shown = match result {
            "succeeded" => "Succeeded",
            "canceled" => "Canceled",
            _ => "Failed",
        };
        say(out, &format!("{}: Job {} completed with result: {shown}", stamp(), job.name));
        Ok(Exit::JobDone)
    }
}

/// Asks until there is an answer that means something; the box may be away for a while.
async fn persistent(mut client: Client, path: &str) -> Result<super::client::Answer, RunnerError> {
    let mut tries = 0;
    loop {
        match client.post(path, &json!({})).await {
            Ok(answer) if answer.status < 500 => return Ok(answer),
            Ok(answer) if tries >= RETRIES_MAX => {
                let message = answer.message().to_owned();
                return Err(RunnerError::Answer { status: answer.status, message });
            }
            Err(error) if tries >= RETRIES_MAX => return Err(error.into()),
            Ok(_) | Err(_) => sleep(RETRY_EVERY).await,
        }
        tries += 1;
    }
}

async fn complete(mut client: Client, path: &str, result: &str) -> Result<u16, RunnerError> {
    let body = json!({ "result": result });
    let mut tries = 0;
    loop {
        match client.post(path, &body).await {
            Ok(answer) if answer.status < 500 || tries >= RETRIES_MAX => return Ok(answer.status),
            Err(error) if tries >= RETRIES_MAX => return Err(error.into()),
            Ok(_) | Err(_) => sleep(RETRY_EVERY).await,
        }
        tries += 1;
    }
}

fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A log that nobody reads must not end a job.
fn say(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
