//! What the routes are given.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fleetfoot_core::{Health, InstanceName, Timestamp};
use fleetfoot_store::Store;
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;
use crate::views::Snapshot;

/// Fetches the last lines of an instance's output; the error is one line for people.
pub type LogReader = Arc<
    dyn Fn(InstanceName, usize) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>>
        + Send
        + Sync,
>;

/// What a caller of the control socket may ask of the process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRequest {
    /// Stop deciding, close the sessions, release the lock, exit: another process takes over.
    Takeover,
}

/// What the routes are given.
#[derive(Clone)]
pub struct ServerState {
    /// The durable record.
    pub store: Store,
    /// What the controller tells about itself.
    pub health: watch::Receiver<Health>,
    /// Fetches logs.
    pub logs: LogReader,
    /// The program's version.
    pub version: &'static str,
    /// Takes requests to the process itself.
    pub control: mpsc::Sender<ControlRequest>,
    /// The numbers.
    pub metrics: Metrics,
    /// The time: the controller's, so that ages of rows mean the same here and there.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The wall clock, for who has no controller to ask.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl ServerState {
    /// The numbers as `GET /metrics` shows them.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        self.metrics.render(&self.snapshot())
    }

    /// Everything that can be shown of this moment.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let health = Some(self.health.borrow().clone());
        crate::record::snapshot(&self.store, health, self.version, (self.clock)())
    }
}
