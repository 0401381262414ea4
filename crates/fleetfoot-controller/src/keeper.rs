//! One controller among several: it beats, takes the pools that are its to serve, and stops what it lost.
//!
//! ```text
//!              take                     start
//! standby ───────────▶ owned ────────────────────▶ served
//!    ▲                                               │
//!    ├── let go ◀── tasks ended ◀── hand over ───────┤
//!    └───────────── tasks ended ◀── lost, lapsed ────┘
//! ```
//!
//! A pool is let go only after its session is closed and its tasks ended; one that was lost is another's
//! already, and its tasks end on their own side of the fence. Neither is asked for again before they ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetfoot_core::fleet::{Share, View, share};
use fleetfoot_core::{Candidacy, Fleet, PoolName, Span};
use fleetfoot_ordered::watch;
use fleetfoot_provisioner::Reach;
use fleetfoot_store::{Beat, Store, Taken};
use tokio::time::Instant;

use crate::executor::chain;
use crate::pool::{Shared, told};
use crate::settings::PoolSettings;

/// Between heartbeats.
const BEAT: Duration = Duration::from_secs(2);
/// After a heartbeat that failed.
const BEAT_AGAIN: Duration = Duration::from_millis(500);
/// A heartbeat is answered within this, or tried again.
const BEAT_BOUND: Duration = Duration::from_secs(3);
/// After a lease of another controller ended, before it is looked at.
const AFTER_END: Duration = Duration::from_millis(50);
/// Whoever should take a free pool takes it within this; then anybody may.
const OVERDUE: Duration = Duration::from_secs(3);
/// A pool that was handed over and came back stays for this long.
const SETTLED: Duration = Duration::from_secs(60);
/// A pool whose calls take longer than this to end is told of.
const LONG: Duration = Duration::from_secs(300);

/// The pools this controller can serve, by name.
pub(crate) type Candidates = BTreeMap<PoolName, PoolSettings>;

/// What is known of pools beside who owns them.
#[derive(Debug, Default)]
struct Notes {
    /// Free since then.
    free: BTreeMap<PoolName, Instant>,
    handed: BTreeMap<PoolName, Instant>,
    unlike: BTreeSet<PoolName>,
    elsewhere: BTreeMap<PoolName, String>,
}

/// Keeps the leases until the controller stops.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    candidates: watch::Receiver<Candidates>,
    notes: Notes,
    /// Pools whose tasks are ending.
    ending: Arc<Mutex<BTreeSet<PoolName>>>,
    /// The last heartbeat was not answered.
    silent: bool,
    first: bool,
}

/// Runs until the controller stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let candidates = shared.candidates.subscribe();
    let mut keeper = Keeper {
        shared,
        candidates,
        notes: Notes::default(),
        ending: Arc::default(),
        silent: false,
        first: true,
    };
    loop {
        let pause = tokio::select! {
            biased;
            () = told(&mut stop) => return,
            pause = keeper.once() => pause,
        };
        let mut candidates = keeper.candidates.clone();
        tokio::select! {
            biased;
            () = told(&mut stop) => return,
            changed = candidates.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

impl Keeper {
    /// One heartbeat with everything that follows from it; how long to wait for the next one.
    async fn once(&mut self) -> Duration {
        self.follow_settings().await;
        let candidacies: BTreeMap<PoolName, Candidacy> = self
            .candidates
            .borrow()
            .iter()
            .map(|(name, it)| (name.clone(), candidacy(it)))
            .collect();
        // On the heap: it is moved into its bound, and again with the task that waits for it.
        let beat = Box::pin(self.shared.store.beat(&candidacies));
        let beaten = tokio::time::timeout(BEAT_BOUND, beat).await;
        let beat = match beaten {
            Ok(Ok(beat)) => Some(beat),
            Ok(Err(error)) => self.fell_silent(&chain(&error)),
            Err(_) => self.fell_silent("the database did not answer in time"),
        };
        self.give_up_lapsed();
        let Some(Beat { fleet, lost }) = beat else { return BEAT_AGAIN };
        if std::mem::take(&mut self.silent) {
            tracing::info!("heartbeat is answered again");
        }
        for pool in lost {
            tracing::warn!(%pool, "lease lost, another controller took the pool");
            self.end(&pool, false);
        }
        self.deal(&fleet).await;
        self.see_to_wishes(&fleet).await;
        next_beat(&fleet, &candidacies)
    }

    /// Served pools whose settings changed get them; those that it does not stand for any more end.
    async fn follow_settings(&mut self) {
        let store = self.shared.store.clone();
        // A removed one that is gone is not to be asked for again.
        self.shared.candidates.send_if_modified(|candidates| {
            candidates.retain(|name, it| !it.removed || store.pool(name).is_some());
            false
        });
        if !self.candidates.has_changed().unwrap_or(false) && !self.first {
            return;
        }
        let candidates = self.candidates.borrow_and_update().clone();
        let fleet = store.fleet();
        let served: Vec<PoolName> = self.shared.roster.borrow().pools.keys().cloned().collect();
        for name in served {
            match candidates.get(&name) {
                // Another one that has it gets it; only what nobody has is drained.
                Some(settings) if settings.removed && has_another(&fleet, &name, &store) => {}
                Some(settings) => self.serve(settings.clone()).await,
                None => self.end(&name, true),
            }
        }
    }

    fn fell_silent(&mut self, error: &str) -> Option<Beat> {
        if !std::mem::replace(&mut self.silent, true) {
            tracing::warn!(error, "heartbeat failed, trying again");
        }
        None
    }

    /// Stops every pool whose lease ended by our own clock: another controller may have it by now.
    fn give_up_lapsed(&mut self) {
        let served: Vec<PoolName> = self.shared.roster.borrow().pools.keys().cloned().collect();
        let lapsed: Vec<PoolName> =
            served.into_iter().filter(|pool| !self.shared.store.owns(pool)).collect();
        if lapsed.is_empty() {
            return;
        }
        let pools = lapsed.len();
        tracing::error!(pools, "lease lost, stopping the pools until the database answers");
        for pool in lapsed {
            self.end(&pool, false);
        }
    }

    async fn deal(&mut self, fleet: &Fleet) {
        let store = self.shared.store.clone();
        let Some(me) = store.membership() else { return };
        let now = Instant::now();
        let free = |pool: &&PoolName| fleet.living_owner(pool).is_none();
        self.notes.free.retain(|pool, _| free(&pool));
        for pool in self.candidates.borrow().keys().filter(free) {
            self.notes.free.entry(pool.clone()).or_insert(now);
        }
        self.notes.handed.retain(|_, at| now.duration_since(*at) < SETTLED);
        let overdue =
            self.notes.free.iter().filter(|(_, since)| now.duration_since(**since) >= OVERDUE);
        let overdue: BTreeSet<PoolName> = overdue.map(|(pool, _)| pool.clone()).collect();
        let settled = self.notes.handed.keys().cloned().collect();
        let view = View {
            fleet,
            me: &me.controller,
            host_id: &me.host_id,
            overdue: &overdue,
            settled: &settled,
        };
        let load = |pool: &PoolName| store.pool(pool).map_or(0, |state| state.instances.len());
        let share = share(view, load);
        self.tell(fleet, &share);
        // What is ours by the database and not by us: an answer was lost, or its tasks were still ending.
        let forgotten = fleet.pools.iter().filter(|(pool, row)| {
            row.owner.as_deref() == Some(&me.controller) && !self.shared.is_served(pool)
        });
        let forgotten: Vec<PoolName> = forgotten.map(|(pool, _)| pool.clone()).collect();
        self.take([share.take, forgotten].concat(), fleet).await;
        if let Some(pool) = share.hand_over {
            tracing::info!(%pool, "handing a pool over to another controller");
            self.notes.handed.insert(pool.clone(), now);
            self.end(&pool, true);
        }
    }

    async fn take(&mut self, pools: Vec<PoolName>, fleet: &Fleet) {
        // As they are at the beginning, for all of them.
        let wanted: Vec<PoolSettings> = {
            let candidates = self.candidates.borrow();
            pools.iter().filter_map(|pool| candidates.get(pool).cloned()).collect()
        };
        let mut taken = Vec::new();
        for settings in wanted {
            let pool = settings.name.clone();
            if self.is_ending(&pool) {
                continue;
            }
            match self.shared.store.take(&pool, is_host_bound(&settings)).await {
                Ok(Taken::Yes { epoch, before }) => {
                    let from = before.as_ref().and_then(|id| fleet.peers.get(id));
                    let from = from.map(|peer| peer.host.as_str());
                    tracing::info!(%pool, epoch, from, "pool taken");
                    self.notes.free.remove(&pool);
                    taken.push(settings);
                }
                Ok(Taken::Held { .. } | Taken::Elsewhere { .. }) => {}
                Err(error) => {
                    tracing::warn!(%pool, error = %chain(&error), "pool could not be asked for");
                }
            }
        }
        if std::mem::take(&mut self.first) {
            self.shared.awaits(taken.iter().map(|settings| settings.name.clone()));
        }
        if !taken.is_empty() {
            // Nothing that runs ends for its age soon after its owner changed (11.11).
            let from = (self.shared.clock.now() + self.shared.pace.ages_grace).0;
            self.shared.ages_count_from.fetch_max(from, Ordering::SeqCst);
        }
        for settings in taken {
            self.serve(settings).await;
        }
    }

    async fn serve(&self, settings: PoolSettings) {
        let pool = settings.name.clone();
        if let Err(error) = self.shared.start_pool(settings).await {
            tracing::error!(%pool, error = %chain(&error), "store did not take a pool in");
            self.end(&pool, true);
        }
    }

    /// Ends the tasks of a pool; then lets it go, if it is still ours to let go.
    fn end(&self, pool: &PoolName, let_go: bool) {
        if (!let_go && !self.shared.is_served(pool)) || !self.ending().insert(pool.clone()) {
            return;
        }
        let (shared, ending, pool) = (self.shared.clone(), self.ending.clone(), pool.clone());
        self.shared.tasks.spawn("end pool", async move {
            let began = Instant::now();
            if !shared.end_pool_wholly(&pool, LONG).await {
                return;
            }
            if let_go && let Err(error) = shared.store.let_go(&pool).await {
                tracing::warn!(%pool, error = %chain(&error), "pool could not be let go, its lease lapses");
            }
            let duration_ms = began.elapsed().as_millis();
            tracing::info!(%pool, duration_ms, "pool is served here no longer");
            ending.lock().unwrap_or_else(PoisonError::into_inner).remove(&pool);
        });
    }

    fn ending(&self) -> std::sync::MutexGuard<'_, BTreeSet<PoolName>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self, pool: &PoolName) -> bool {
        self.ending().contains(pool)
    }

    /// Says once what an operator should know.
    fn tell(&mut self, fleet: &Fleet, share: &Share) {
        for pool in share.unlike.difference(&self.notes.unlike) {
            tracing::warn!(%pool, "controllers have different settings for a pool, it stays where it is");
        }
        for (pool, host_id) in &share.elsewhere {
            if self.notes.elsewhere.get(pool) != Some(host_id) {
                let host = fleet.host_name(host_id).unwrap_or(host_id);
                tracing::error!(%pool, host, "pool belongs to another host, not serving it: give it another name here, or remove it there first");
            }
        }
        self.notes.unlike.clone_from(&share.unlike);
        self.notes.elsewhere.clone_from(&share.elsewhere);
    }

    /// What operators asked at other controllers.
    async fn see_to_wishes(&self, fleet: &Fleet) {
        let store = &self.shared.store;
        for wish in fleet.wishes.iter().filter(|wish| store.owns(&wish.pool)) {
            let (granted, now) = (wish.clone(), self.shared.clock.now());
            let done = store.update(move |txn| txn.grant(&granted, now)).await;
            let done = match done {
                Ok(()) => store.wish_done(wish.id).await.map_err(|error| chain(&error)),
                Err(error) => Err(chain(&error)),
            };
            if let Err(error) = done {
                tracing::warn!(pool = %wish.pool, error, "wish of an operator waits");
            }
        }
    }
}

/// A living controller other than this one has the pool in its configuration.
fn has_another(fleet: &Fleet, pool: &PoolName, store: &Store) -> bool {
    let me = store.membership().map(|me| me.controller.as_str());
    fleet.candidates(pool).any(|(peer, it)| !it.removed && Some(peer.controller.as_str()) != me)
}

fn candidacy(settings: &PoolSettings) -> Candidacy {
    Candidacy {
        digest: settings.digest.clone(),
        removed: settings.removed,
        host_bound: is_host_bound(settings),
    }
}

fn is_host_bound(settings: &PoolSettings) -> bool {
    match settings.provisioner.capabilities().reach {
        Reach::Host => true,
        Reach::Shared => false,
    }
}

/// When to look again: with the usual period, or as soon as a lease on a pool of interest can have ended.
fn next_beat(fleet: &Fleet, candidacies: &BTreeMap<PoolName, Candidacy>) -> Duration {
    let owners = candidacies.keys().filter_map(|pool| fleet.living_owner(pool));
    let left = owners.map(|peer| peer.left).min().unwrap_or(Span(i64::MAX));
    BEAT.min(left.to_std().saturating_add(AFTER_END))
}
