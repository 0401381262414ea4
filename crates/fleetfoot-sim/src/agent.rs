//! A runner in this process: what the stand-in runner does over HTTP, without the HTTP. For worlds with
//! thousands of runners and a clock of their own.

use std::sync::Arc;

use crate::github_box::GithubBox;
use crate::http::RunnerCall;
use crate::runner::Blob;
use crate::state::{Connect, Offer, Shared};

/// A connected runner. Dropping it is the death of its machine: the box hears nothing more of it.
pub struct Agent {
    shared: Arc<Shared>,
    call: RunnerCall,
    name: String,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Agent").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The work that an [`Agent`] was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The job's number in the box.
    pub id: u64,
    /// How long it runs.
    pub duration_ms: u64,
    /// How it ends.
    pub result: String,
    /// Its runner ends without a word where it should say how it ended.
    pub crash: bool,
}

impl GithubBox {
    /// Connects with a JIT config; `None` if its registration is unknown, spent or deleted.
    #[must_use]
    pub fn connect_runner(&self, jit: &str) -> Option<Agent> {
        let blob = Blob::parse(jit).ok()?;
        let shared = self.shared();
        let connected = shared.lock().connect(&blob.credential);
        let Connect::Welcome { token, name } = connected else { return None };
        let call = RunnerCall::enter(&shared, &token)?;
        Some(Agent { shared, call, name })
    }
}

impl Agent {
    /// The runner's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for its one job; `None` when its registration is gone.
    pub async fn job(&mut self) -> Option<Work> {
        let wake = self.call.wake()?;
        self.call.wait();
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            let offer = self.shared.lock().offer_for(self.call.runner);
            match offer {
                Offer::Job(job) => {
                    self.call.stop_waiting();
                    let (id, duration_ms) = (job.id, job.duration_ms);
                    return Some(Work { id, duration_ms, result: job.result, crash: job.crash });
                }
                Offer::Gone => return None,
                Offer::Nothing => woken.await,
            }
        }
    }

    /// Says that it starts the job. False if the job is not its own any more.
    #[must_use]
    pub fn start(&self, job: u64) -> bool {
        self.shared.lock().start_job(self.call.runner, job)
    }

    /// Waits until the job is cancelled, or not its own any more.
    pub async fn cancelled(&self, job: u64) {
        let Some(wake) = self.call.wake() else { return };
        loop {
            let woken = wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.shared.lock().job_cancelled(self.call.runner, job) != Some(false) {
                return;
            }
            woken.await;
        }
    }

    /// Says how the job ended; the registration is gone with it. False if it was not its own any more.
    pub fn complete(&self, job: u64, result: &str) -> bool {
        self.shared.lock().finish_job(self.call.runner, job, result)
    }
}
