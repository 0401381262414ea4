//! Several controllers on one database: who takes part, who owns which pool, and what was asked of an owner
//! at another one.
//!
//! The time of a lease is the database's clock. What its holder may still do, it judges by a clock of its own
//! that goes on while the process is frozen (`CLOCK_BOOTTIME`), counted from before the heartbeat was sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fleetfoot_core::{InstanceName, PoolName, Span, Timestamp};
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
    pub fn since_boot() -> Self {
        Self::new(|| {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
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

/// That a controller can serve a pool, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidacy {
    /// A digest of the pool's settings: candidates that would serve it differently are told apart.
    pub digest: String,
    /// The pool is not in this controller's configuration any more: it could only drain it.
    #[serde(default)]
    pub removed: bool,
    /// Its backend belongs to this host.
    #[serde(default)]
    pub host_bound: bool,
}

/// What a controller says of itself, as its row holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    pub(crate) host: String,
    pub(crate) version: String,
    pub(crate) pools: BTreeMap<String, Candidacy>,
}

/// A controller as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub controller: String,
    /// The identity of its host.
    pub host_id: String,
    /// Its host's name.
    pub host: String,
    /// Its version.
    pub version: String,
    /// What is left of its leases by the database's clock; nothing or less when it is dead.
    pub left: Span,
    /// The pools it can serve.
    pub pools: BTreeMap<PoolName, Candidacy>,
}

impl Peer {
    /// Its heart beats.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.left > Span::ZERO
    }
}

/// Who owns a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The controller; nothing when it was let go.
    pub owner: Option<String>,
    /// Grows with every taking.
    pub epoch: i64,
    /// The host that the pool belongs to, if its backend is a host's.
    pub host_id: Option<String>,
    /// Grows with every commit that touched the pool.
    pub writes: i64,
}

/// What an operator asked at a controller that does not own the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WishWord {
    /// Take no more jobs.
    Drain,
    /// Take jobs again.
    Resume,
    /// Remove an instance unless it is busy.
    Stop,
    /// Remove an instance even if it is busy.
    StopForce,
}

impl WishWord {
    const ALL: [Self; 4] = [Self::Drain, Self::Resume, Self::Stop, Self::StopForce];

    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::StopForce => "stop force",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.as_str() == name)
    }
}

/// One such word, on its way to the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its number; 0 before it is in the store.
    pub id: i64,
    /// The pool it concerns.
    pub pool: PoolName,
    /// The instance it concerns.
    pub instance: Option<InstanceName>,
    /// What is asked.
    pub word: WishWord,
    /// When it was asked, by the clock of whoever took it in.
    pub at: Timestamp,
}

/// Everybody who takes part, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// Controllers, by name; dead ones too, as long as something is known by them.
    pub peers: BTreeMap<String, Peer>,
    /// Who owns what.
    pub pools: BTreeMap<PoolName, Ownership>,
    /// What is asked of owners.
    pub wishes: Vec<Wish>,
}

impl Fleet {
    /// The living controller that owns the pool.
    #[must_use]
    pub fn living_owner(&self, pool: &PoolName) -> Option<&Peer> {
        self.owner(pool).filter(|peer| peer.is_alive())
    }

    /// The controller that owns the pool, dead or alive.
    #[must_use]
    pub fn owner(&self, pool: &PoolName) -> Option<&Peer> {
        self.peers.get(self.pools.get(pool)?.owner.as_ref()?)
    }

    /// The living controllers that can serve the pool, with what they say of it.
    pub fn candidates<'a>(
        &'a self,
        pool: &'a PoolName,
    ) -> impl Iterator<Item = (&'a Peer, &'a Candidacy)> {
        let alive = self.peers.values().filter(|peer| peer.is_alive());
        alive.filter_map(move |peer| Some((peer, peer.pools.get(pool)?)))
    }

    /// The last name that is known of a host.
    #[must_use]
    pub fn host_name(&self, host_id: &str) -> Option<&str> {
        let peer = self.peers.values().filter(|peer| peer.host_id == host_id);
        peer.max_by_key(|peer| peer.left).map(|peer| peer.host.as_str())
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
