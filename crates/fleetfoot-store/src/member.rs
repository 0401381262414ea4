//! What a controller among several knows of its own part: which pools it owns, in which epoch, until when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use fleetfoot_core::{Candidacy, Fleet, InstallationId, Ownership, PoolName, Span};
use fleetfoot_ordered::watch;

use crate::fleet::Membership;
use crate::heard::Heard;
use crate::seen::Seen;
use crate::shared::locked;

/// Owned pools with their epochs.
pub(crate) type Owned = BTreeMap<PoolName, i64>;

/// What a controller said of itself: which pools it can serve, and the text of that in its row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken {
    pub(crate) pools: BTreeMap<PoolName, Candidacy>,
    pub(crate) text: String,
}

/// This controller's part.
pub(crate) struct Member {
    pub(crate) me: Membership,
    owned: Mutex<Arc<Owned>>,
    nothing: Arc<Owned>,
    /// The leases last until then, by our own clock.
    until: AtomicI64,
    /// What we last said of ourselves, as it stands in our row.
    pub(crate) said: Mutex<Spoken>,
    /// What others said of themselves, as it was read last.
    pub(crate) heard: Mutex<Heard>,
    pub(crate) fleet: watch::Sender<Arc<Fleet>>,
    /// What this host remembers of the database beyond its own life.
    pub(crate) seen: Mutex<Option<Seen>>,
    /// The database was put back while we ran: nothing of ours is written any more.
    pub(crate) put_back: watch::Sender<bool>,
}

impl Member {
    pub(crate) fn new(me: Membership) -> Self {
        Self {
            me,
            owned: Mutex::default(),
            nothing: Arc::default(),
            until: AtomicI64::new(i64::MIN),
            said: Mutex::default(),
            heard: Mutex::default(),
            fleet: watch::Sender::default(),
            seen: Mutex::default(),
            put_back: watch::Sender::default(),
        }
    }

    /// What is left of the leases, by our own clock; nothing or less when they lapsed.
    pub(crate) fn left(&self) -> Span {
        Span(self.until.load(Ordering::Acquire).saturating_sub(self.me.clock.now()))
    }

    /// A heartbeat that was sent at `sent` was answered.
    pub(crate) fn beaten(&self, sent: i64) {
        self.until.fetch_max(sent.saturating_add(self.me.valid.0), Ordering::AcqRel);
    }

    /// What is owned, whether or not the leases lapsed.
    pub(crate) fn owned(&self) -> Arc<Owned> {
        Arc::clone(&locked(&self.owned))
    }

    /// What may be written now: nothing, once the leases lapsed.
    pub(crate) fn writable(&self) -> Arc<Owned> {
        if self.left() > Span::ZERO { self.owned() } else { Arc::clone(&self.nothing) }
    }

    pub(crate) fn gain(&self, pool: &PoolName, epoch: i64) {
        Arc::make_mut(&mut locked(&self.owned)).insert(pool.clone(), epoch);
    }

    pub(crate) fn lose(&self, pool: &PoolName) {
        let mut owned = locked(&self.owned);
        if owned.contains_key(pool) {
            Arc::make_mut(&mut owned).remove(pool);
        }
    }

    /// The database says less of a pool that is ours all the while than it did: it was put back (design, 11.4).
    ///
    /// Who had `lapsed` leases may find that another one took a pool and was done with it, which left no row (seed 64861):
    /// then only what it says of others tells.
    pub(crate) fn is_past(
        &self,
        before: &Owned,
        seen: &Fleet,
        fleet: &Fleet,
        lapsed: bool,
    ) -> bool {
        let owned = self.owned();
        let less = |row: &Ownership, epoch: i64, writes: i64| {
            row.epoch < epoch || (row.epoch == epoch && row.writes < writes)
        };
        let says_less = || {
            let mut both =
                seen.pools.iter().filter_map(|(pool, was)| Some((was, fleet.pools.get(pool)?)));
            both.any(|(was, row)| less(row, was.epoch, was.writes))
        };
        let mut kept = before.iter().filter(|(pool, epoch)| owned.get(*pool) == Some(*epoch));
        kept.any(|(pool, epoch)| {
            let Some(row) = fleet.pools.get(pool) else { return !lapsed || says_less() };
            let writes = seen.pools.get(pool).map_or(0, |row| row.writes);
            less(row, *epoch, writes)
        })
    }

    /// Nothing is ours any more, nor will be.
    pub(crate) fn ends(&self) {
        self.put_back.send_replace(true);
        *locked(&self.owned) = Arc::default();
        self.until.store(i64::MIN, Ordering::Release);
    }

    /// Remembers how far the database is, beyond our own life.
    pub(crate) fn remember(&self, installation: &InstallationId, fleet: &Fleet, at_once: bool) {
        if let Some(seen) = &mut *locked(&self.seen)
            && let Err(error) = seen.note(installation, fleet, at_once)
        {
            tracing::warn!(%error, "how far the database is was not noted");
        }
    }

    /// Drops what `fleet` says is another one's, out of what was owned before it was read.
    pub(crate) fn compare(&self, before: &Owned, fleet: &Fleet) -> Vec<PoolName> {
        let mut owned = locked(&self.owned);
        let ours = |pool: &PoolName, epoch: i64| {
            fleet.pools.get(pool).is_some_and(|row| {
                row.epoch == epoch && row.owner.as_deref() == Some(self.me.controller.as_str())
            })
        };
        let lost: Vec<PoolName> = before
            .iter()
            .filter(|(pool, epoch)| owned.get(*pool) == Some(*epoch) && !ours(pool, **epoch))
            .map(|(pool, _)| pool.clone())
            .collect();
        if !lost.is_empty() {
            let owned = Arc::make_mut(&mut owned);
            owned.retain(|pool, _| !lost.contains(pool));
        }
        lost
    }
}
