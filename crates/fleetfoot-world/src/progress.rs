//! How far a long world is, for whoever waits for it, and what its store kept in the end.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_store::{Location, Retention, inspect};
use tokio::time::Instant;

use crate::stage::Stage;

/// How far a long world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Simulated time so far.
    pub simulated: Duration,
    /// Jobs that are over.
    pub jobs: u64,
    /// Jobs that are not.
    pub open: u64,
    /// Bytes of the store's file.
    pub store_bytes: u64,
}

/// Hears of it every ten simulated minutes, and at the end.
#[derive(Clone, Default)]
pub struct Hears(Option<Arc<Ear>>);

type Ear = dyn Fn(&Progress) + Send + Sync;

impl fmt::Debug for Hears {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hears")
    }
}

impl Hears {
    /// Somebody who hears of it.
    pub fn new(hears: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hears)))
    }
}

impl Stage {
    /// Tells how far this world is.
    pub(crate) fn tell_progress(&self) {
        let Some(hears) = &self.hears.0 else { return };
        let summary = self.github.summary();
        let size = |path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        hears(&Progress {
            simulated: Instant::now() - self.began,
            jobs: summary.jobs_completed,
            open: summary.jobs_waiting + summary.jobs_assigned + summary.jobs_running,
            store_bytes: self.files().into_iter().map(size).sum(),
        });
    }

    /// What is wrong with the history that the store of a long world kept.
    pub(crate) async fn past_is_bounded(&self) -> Option<String> {
        let [path, _]: [PathBuf; 2] = self.files().try_into().ok()?;
        let kept = match inspect(&Location::Sqlite(path)).await {
            Ok(kept) => kept,
            Err(error) => return Some(format!("the store cannot be looked at: {error}")),
        };
        if let Some(finding) = kept.findings.first() {
            return Some(format!("the store is damaged: {finding}"));
        }
        // It is pruned in steps, and finished jobs and the closed ones of several controllers are counted seldom.
        let bound = |most: u32| u64::from(most) + u64::from(most / 8);
        let (rows, most) =
            (|table: &str| kept.rows.get(table).copied().unwrap_or(0), Retention::default());
        let past = [
            ("events", rows("events"), most.events_max),
            ("closed instances", kept.closed_instances, most.closed_max),
            ("finished jobs", rows("finished_jobs"), most.closed_max),
        ];
        let over = past.into_iter().find(|(_, kept, most)| *kept > bound(*most));
        over.map(|(what, kept, most)| format!("{kept} {what} are kept, {most} are the most"))
    }
}
