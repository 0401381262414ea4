//! The numbers, as Prometheus reads them.
//!
//! Levels (how many instances in which phase, why something waits) are read from the store and from the
//! controller's health at the moment of the scrape, so they cannot drift. What happened over time
//! (counters, latencies) is recorded here through typed functions, fed by [`watch`](Watch).
//!
//! Labels are bounded: pools of the configuration, phases, causes, outcomes. Never a job or a runner.

mod levels;
mod process;
mod watch;

use std::sync::Arc;

use fleetfoot_core::{PoolName, Span};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::views::Snapshot;

pub use watch::Watch;

/// Bounds of the latency buckets, in seconds: from one round-trip to an hour of waiting.
const LATENCY_BUCKETS: [f64; 16] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    3600.0,
];

/// A part of the way from a queued job to its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// Queued at GitHub until we heard of it.
    Delivery,
    /// Heard of until its start was heard of.
    Start,
    /// Queued at GitHub until its start was heard of.
    Total,
}

impl Leg {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Start => "start",
            Self::Total => "total",
        }
    }
}

/// What became of a configuration that was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied,
    /// It was the same.
    Unchanged,
    /// It could not be used; nothing changed.
    Refused,
}

impl Reload {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Records what happens over time, and renders everything.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    began: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)
}

impl Metrics {
    /// A recorder of its own: nothing global, so two of them do not mix.
    #[must_use]
    pub fn new() -> Self {
        // Only an empty list of buckets is refused; latencies would then be summaries.
        let recorder = buckets(PrometheusBuilder::new())
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let handle = recorder.handle();
        let this = Self { recorder: Arc::new(recorder), handle, began: process::began() };
        this.within(|| {
            metrics::describe_counter!("fleetfoot_instances_created_total", "Names committed.");
            metrics::describe_counter!(
                "fleetfoot_instances_closed_total",
                "Instances whose life ended, by outcome."
            );
            metrics::describe_counter!(
                "fleetfoot_jobs_started_total",
                "Jobs whose start was heard of."
            );
            metrics::describe_counter!(
                "fleetfoot_jobs_finished_total",
                "Jobs whose end was heard of, by result."
            );
            metrics::describe_histogram!(
                "fleetfoot_queue_to_start_seconds",
                "From a queued job to its start, by leg."
            );
            metrics::describe_counter!(
                "fleetfoot_config_reloads_total",
                "Times the configuration was read again, by result."
            );
            metrics::describe_gauge!(
                "fleetfoot_config_last_load_time_seconds",
                "When the configuration in force was read."
            );
            metrics::describe_histogram!(
                "fleetfoot_boot_seconds",
                "From the commit of a name to its runner being online."
            );
        });
        this
    }

    /// The recorder of the process: what other rooms record through crate `metrics` comes here, too.
    #[must_use]
    pub fn install() -> Self {
        let this = Self::new();
        if metrics::set_global_recorder(Arc::clone(&this.recorder)).is_err() {
            tracing::debug!("a recorder of metrics is installed already");
        }
        this
    }

    /// An instance's name was committed.
    pub fn instance_created(&self, pool: &PoolName) {
        let pool = pool.as_str().to_owned();
        self.within(|| {
            metrics::counter!("fleetfoot_instances_created_total", "pool" => pool).increment(1)
        });
    }

    /// An instance's life ended; `outcome` is a word of a closed set.
    pub(crate) fn instance_closed(&self, pool: &PoolName, outcome: &'static str) {
        let pool = pool.as_str().to_owned();
        self.within(|| {
            metrics::counter!("fleetfoot_instances_closed_total", "pool" => pool, "outcome" => outcome)
                .increment(1);
        });
    }

    /// The configuration was read again.
    pub fn config_reload(&self, result: Reload) {
        let word = result.as_str();
        self.within(|| {
            metrics::counter!("fleetfoot_config_reloads_total", "result" => word).increment(1)
        });
        match result {
            Reload::Applied | Reload::Unchanged => self.config_loaded(),
            Reload::Refused => {}
        }
    }

    /// The configuration in force was read at this moment.
    pub fn config_loaded(&self) {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs_f64();
        self.within(|| metrics::gauge!("fleetfoot_config_last_load_time_seconds").set(seconds));
    }

    /// A job started.
    pub fn job_started(&self, pool: &PoolName) {
        let pool = pool.as_str().to_owned();
        self.within(|| {
            metrics::counter!("fleetfoot_jobs_started_total", "pool" => pool).increment(1)
        });
    }

    /// A job ended; GitHub's word for the result is folded into a closed set.
    pub fn job_finished(&self, pool: &PoolName, result: Option<&str>) {
        let pool = pool.as_str().to_owned();
        let result = match result.map(str::to_ascii_lowercase).as_deref() {
            Some("succeeded" | "success") => "succeeded",
            Some("failed" | "failure") => "failed",
            Some("canceled" | "cancelled") => "canceled",
            Some("skipped") => "skipped",
            Some(_) => "other",
            None => "unknown",
        };
        self.within(|| {
            metrics::counter!("fleetfoot_jobs_finished_total", "pool" => pool, "result" => result)
                .increment(1);
        });
    }

    /// A leg of the way from a queued job to its start took this long.
    pub(crate) fn queue_to_start(&self, pool: &PoolName, leg: Leg, took: Span) {
        let pool = pool.as_str().to_owned();
        self.within(|| {
            metrics::histogram!("fleetfoot_queue_to_start_seconds", "pool" => pool, "leg" => leg.as_str())
                .record(took.to_std().as_secs_f64());
        });
    }

    /// A runner came online this long after its name was committed.
    pub fn booted(&self, pool: &PoolName, took: Span) {
        let pool = pool.as_str().to_owned();
        self.within(|| {
            metrics::histogram!("fleetfoot_boot_seconds", "pool" => pool)
                .record(took.to_std().as_secs_f64());
        });
    }

    /// Folds what was recorded into the buckets. Without it each recorded latency is kept until somebody
    /// asks for the numbers, and perhaps nobody ever does.
    pub fn settle(&self) {
        self.handle.run_upkeep();
    }

    /// Everything, in Prometheus' text format.
    #[must_use]
    pub fn render(&self, snapshot: &Snapshot) -> String {
        self.settle();
        let mut text = levels::render(snapshot);
        text.push_str(&self.handle.render());
        text.push_str(&process::render(self.began));
        text
    }

    fn within(&self, record: impl FnOnce()) {
        metrics::with_local_recorder(&*self.recorder, record);
    }
}
