//! Several controllers on one database: how one takes part, and what it hears of the others.
//!
//! The time of a lease is the database's clock. What its holder may still do, it judges by a clock of its own
//! that goes on while the process is frozen (`CLOCK_BOOTTIME`), counted from before the heartbeat was sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fleetfoot_core::fleet::{Candidacy, Fleet};
use fleetfoot_core::{PoolName, Span};
use serde::{Deserialize, Serialize};

/// A lease is valid this long after a heartbeat.
pub const LEASE_VALID: Span = Span::seconds(10);

/// A clock in milliseconds; only differences count.
#[derive(Clone)]
pub struct Ticks(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Ticks {
    /// A clock that `read` reads.
    pub fn new(read: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time since the machine was started, sleep and frozen processes included.
    #[must_use]
    pub(crate) fn since_boot() -> Self {
        Self::new(|| {
            #[cfg(target_os = "linux")]
            let clock = rustix::time::ClockId::Boottime;
            // A Mac's goes on while it sleeps.
            #[cfg(not(target_os = "linux"))]
            let clock = rustix::time::ClockId::Monotonic;
            let time = rustix::time::clock_gettime(clock);
            time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
        })
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticks")
    }
}

/// One controller among several: what it is called and how long its leases are.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Its own name, new in every process.
    pub controller: String,
    /// The identity of its host: what host backends belong to.
    pub host_id: String,
    /// This boot of its host. A predecessor of the same host and boot is dead: its state directory was locked.
    pub boot_id: String,
    /// Its host's name, for people.
    pub host: String,
    /// Its version, for people.
    pub version: String,
    /// A lease is valid this long after a heartbeat, by the database's clock.
    pub valid: Span,
    /// The clock by which it judges its own leases.
    pub clock: Ticks,
}

impl Membership {
    /// A controller with the usual lease and clock.
    #[must_use]
    pub fn new(controller: &str, host_id: &str, host: &str) -> Self {
        Self {
            controller: controller.to_owned(),
            host_id: host_id.to_owned(),
            boot_id: String::new(),
            host: host.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            valid: LEASE_VALID,
            clock: Ticks::since_boot(),
        }
    }
}

/// A candidacy as the row of a controller holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SaidPool {
    digest: String,
    #[serde(default)]
    removed: bool,
    #[serde(default)]
    host_bound: bool,
}

/// What a controller says of itself, as its row holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    pub(crate) host: String,
    pub(crate) version: String,
    pools: BTreeMap<String, SaidPool>,
}

impl Said {
    pub(crate) fn new(me: &Membership, pools: &BTreeMap<PoolName, Candidacy>) -> Self {
        let said = |(name, it): (&PoolName, &Candidacy)| {
            let Candidacy { digest, removed, host_bound } = it.clone();
            (name.to_string(), SaidPool { digest, removed, host_bound })
        };
        let (host, version) = (me.host.clone(), me.version.clone());
        Self { host, version, pools: pools.iter().map(said).collect() }
    }

    pub(crate) fn pools(&self) -> BTreeMap<PoolName, Candidacy> {
        let read = |(name, it): (&String, &SaidPool)| {
            let SaidPool { digest, removed, host_bound } = it.clone();
            Some((PoolName::new(name).ok()?, Candidacy { digest, removed, host_bound }))
        };
        self.pools.iter().filter_map(read).collect()
    }
}

/// What came of asking for a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is ours, in this epoch; its rows were read anew.
    Yes {
        /// The epoch.
        epoch: i64,
        /// The controller that had it before, if it was not let go.
        before: Option<String>,
    },
    /// A living controller has it.
    Held {
        /// Which.
        owner: String,
    },
    /// It belongs to another host.
    Elsewhere {
        /// Which.
        host_id: String,
    },
}

/// What a heartbeat brought.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Everybody, as of now.
    pub fleet: Arc<Fleet>,
    /// Pools that were ours and are another one's now.
    pub lost: Vec<PoolName>,
}
