//! What runs in an environment: a runner that connects, takes its one job and ends, or does not.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use fleetfoot_core::{Exit, InstanceName, PoolName};
use fleetfoot_provisioner::simulated::SimulatedEngine;
use fleetfoot_sim::GithubBox;

use crate::books::Books;

/// What becomes of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunnerFate {
    /// It does what it should.
    Well,
    /// It never registers, and its process lives.
    NeverRegisters,
    /// Its machine dies before it registered.
    DiesBooting,
    /// Its machine dies so long after it is online, in a job or not.
    Dies(u32),
    /// It is slow to come up, by so many seconds.
    Slow(u32),
    /// Its process does not end after its job.
    Lingers,
}

impl RunnerFate {
    pub(crate) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..8) {
            0 => Self::NeverRegisters,
            1 => Self::DiesBooting,
            2..=4 => Self::Dies(rng.u32(1..=120)),
            5..=6 => Self::Slow(rng.u32(20..=400)),
            _ => Self::Lingers,
        }
    }
}

/// Everything a runner needs.
pub(crate) struct Play {
    pub(crate) github: Arc<GithubBox>,
    pub(crate) engine: SimulatedEngine,
    pub(crate) books: Books,
    pub(crate) pool: PoolName,
    pub(crate) name: InstanceName,
    pub(crate) jit: String,
    pub(crate) fate: RunnerFate,
    pub(crate) boot: Duration,
}

impl Play {
    /// Plays the runner to its end; the environment ends with it.
    pub(crate) async fn run(self) {
        tokio::time::sleep(self.boot).await;
        match self.fate {
            RunnerFate::NeverRegisters => std::future::pending().await,
            RunnerFate::DiesBooting => return self.die("dies booting"),
            RunnerFate::Slow(seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            }
            RunnerFate::Well | RunnerFate::Dies(_) | RunnerFate::Lingers => {}
        }
        let death = async {
            match self.fate {
                RunnerFate::Dies(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                }
                RunnerFate::Well
                | RunnerFate::NeverRegisters
                | RunnerFate::DiesBooting
                | RunnerFate::Slow(_)
                | RunnerFate::Lingers => std::future::pending().await,
            }
        };
        let code = tokio::select! {
            biased;
            () = death => return self.die("dies"),
            code = self.work() => code,
        };
        if self.fate == RunnerFate::Lingers {
            std::future::pending::<()>().await;
        }
        self.engine.end(&self.name, Exit { code: Some(code), ..Exit::default() });
    }

    fn die(&self, how: &str) {
        self.books.killed(&self.pool, &self.name, how);
        self.engine.end(&self.name, Exit { code: Some(137), ..Exit::default() });
    }

    async fn work(&self) -> i32 {
        let Some(mut agent) = self.github.connect_runner(&self.jit) else {
            self.books.say(&self.pool, &self.name, "runner is refused");
            return 1;
        };
        self.books.say(&self.pool, &self.name, "runner is online");
        let Some(work) = agent.job().await else {
            self.books.say(&self.pool, &self.name, "runner's registration is gone");
            return 0;
        };
        if !agent.start(work.id) {
            return 0;
        }
        self.books.job_started(&self.pool, &self.name, work.id);
        let done = tokio::select! {
            biased;
            () = tokio::time::sleep(Duration::from_millis(work.duration_ms)) => work.result.as_str(),
            () = agent.cancelled(work.id) => "canceled",
        };
        agent.complete(work.id, done);
        self.books.job_ended(&self.pool, &self.name, work.id, done);
        0
    }
}
