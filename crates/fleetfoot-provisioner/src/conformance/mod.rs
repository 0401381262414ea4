//! The contract as a program: every backend passes it against the real thing.
//!
//! A backend's tests implement [`Harness`] (how to make a provisioner, what its runners play, how to put
//! foreign things there) and call [`run`]. Each case has a name; what the backend does not declare in its
//! [`Capabilities`](crate::Capabilities) is printed as not declared and not run.
//!
//! ```text
//! run ──▶ case ──▶ harness.provisioner()  create · launch · list · watch · logs · delete
//!              └─▶ harness                 foreign things · leftovers · hold and release the backend
//! ```

mod cancel;
mod cases;
mod ground;
mod play;
pub mod proxy;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetfoot_core::{InstallationId, InstanceName, PoolName};

use crate::provisioner::{JitConfig, Provisioner};
use ground::Ground;

pub use play::{Ending, Play};

/// Something that is not ours, put there by the harness under a given name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// It carries no evidence of ours at all; only its name looks like ours.
    Unlabelled,
    /// It carries the evidence of another installation.
    OtherInstallation,
}

/// What the suite needs to know of a backend.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The backend's name in the report.
    fn backend(&self) -> String;

    /// The installation whose evidence the provisioners put and look for.
    fn installation(&self) -> InstallationId;

    /// The pool whose settings the provisioners have.
    fn pool(&self) -> PoolName;

    /// A new provisioner over the same backend, as a controller makes it after its own restart.
    async fn provisioner(&self) -> Arc<dyn Provisioner>;

    /// A JIT config whose runner plays `play`.
    ///
    /// [`Play::shell`] is a POSIX shell script that does it, [`Play::encode`] a text that
    /// [`Play::decode`] takes back.
    fn jit(&self, play: &Play) -> JitConfig;

    /// Puts a foreign thing there. `None` where the backend cannot have such things.
    async fn create_foreign(&self, name: &InstanceName, foreign: Foreign) -> Option<()>;

    /// Whether the foreign thing of that name is there as it was put.
    async fn foreign_intact(&self, name: &InstanceName) -> bool;

    /// Takes the foreign thing away.
    async fn remove_foreign(&self, name: &InstanceName);

    /// What is left at the backend of these names, listed by other means than `list`: containers,
    /// directories, processes, one line each.
    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String>;

    /// Stops the backend from answering (frozen, not ended). False if that cannot be done.
    async fn freeze(&self) -> bool {
        false
    }

    /// The backend goes on after [`freeze`](Self::freeze).
    async fn thaw(&self) {}

    /// Makes the next `list` fail in its middle. False if that cannot be done.
    async fn cut_next_list(&self) -> bool {
        false
    }

    /// Breaks the connections under open watches. False if that cannot be done.
    async fn break_watch(&self) -> bool {
        false
    }

    /// The bound of one call.
    fn bound(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How long to look whether a late answer still lands.
    fn landing_time(&self) -> Duration {
        Duration::from_secs(3)
    }
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds; with a word on what was seen.
    Passed(String),
    /// The backend does not declare the capability.
    NotDeclared(&'static str),
    /// The backend, or its harness, cannot have the situation.
    NotApplicable(&'static str),
    /// It does not hold.
    Failed(String),
}

/// One case of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseReport {
    /// The case's name.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub duration: Duration,
}

/// What the suite found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The backend.
    pub backend: String,
    /// What it declares.
    pub declared: String,
    /// All cases in order.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// The cases that do not hold.
    #[must_use]
    pub fn failures(&self) -> Vec<&CaseReport> {
        self.cases.iter().filter(|case| matches!(case.verdict, Verdict::Failed(_))).collect()
    }

    /// Panics with the whole report if a case does not hold.
    ///
    /// # Panics
    /// If a case failed: this is for tests.
    pub fn assert_passed(&self) {
        assert!(self.failures().is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "conformance of {}: declares {}", self.backend, self.declared)?;
        for case in &self.cases {
            let (word, detail) = match &case.verdict {
                Verdict::Passed(detail) => ("ok", detail.as_str()),
                Verdict::NotDeclared(what) => ("not declared", *what),
                Verdict::NotApplicable(why) => ("not applicable", *why),
                Verdict::Failed(why) => ("FAILED", why.as_str()),
            };
            writeln!(f, "  {word:<14} {} ({} ms) {detail}", case.name, case.duration.as_millis())?;
        }
        Ok(())
    }
}

/// Runs every case, one after the other, and reports all of them.
pub async fn run(harness: &dyn Harness) -> Report {
    run_share(harness, Share::default()).await
}

/// One part of equal parts of the suite, for backends that take minutes over the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which one, from 0.
    pub part: usize,
    /// Of how many.
    pub of: usize,
}

impl Default for Share {
    /// The whole.
    fn default() -> Self {
        Self { part: 0, of: 1 }
    }
}

/// Runs every case of this share, one after the other, and reports all of them.
pub async fn run_share(harness: &dyn Harness, share: Share) -> Report {
    let capabilities = harness.provisioner().await.capabilities();
    let mut cases = Vec::new();
    for (name, case) in cases::ALL.iter().skip(share.part).step_by(share.of.max(1)) {
        let begun = tokio::time::Instant::now();
        let ground = Ground::new(harness, capabilities);
        let ended = within_bounds(&ground, case(&ground)).await;
        let cleared = ground.clear().await;
        let verdict = match (ended, cleared) {
            (Err(why), _) => Verdict::Failed(why),
            (Ok(Verdict::Passed(_)), Err(left)) => Verdict::Failed(left),
            (Ok(verdict), _) => verdict,
        };
        cases.push(CaseReport { name, verdict, duration: begun.elapsed() });
    }
    Report { backend: harness.backend(), declared: format!("{capabilities:?}"), cases }
}

/// A case has four times as long as one call, which may become longer while it runs.
async fn within_bounds(
    ground: &Ground<'_>,
    case: impl Future<Output = ground::Outcome<Verdict>>,
) -> ground::Outcome<Verdict> {
    let mut case = std::pin::pin!(case);
    let begun = tokio::time::Instant::now();
    loop {
        let bound = ground.bound() * 4;
        match tokio::time::timeout_at(begun + bound, &mut case).await {
            Ok(ended) => return ended,
            Err(_) if ground.bound() * 4 > bound => {}
            Err(_) => return Err(format!("not done within {} s", bound.as_secs())),
        }
    }
}
