//! One sweeper per backend connection: it lists what exists, compares it with the store, and tells.
//!
//! It only observes. What is to be done about a difference, the plan decides: a thing without a row gets
//! a row (in `Stopping`, so that it passes the removal gate), a row without a thing learns that its
//! environment is gone. Order of a sweep: list first, then view (design, 11.2).

mod disagreements;
mod elsewhere;
mod exits;
mod finding;
mod stray;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleetfoot_core::{InstanceName, PoolName, PoolState, Timestamp};
use fleetfoot_ordered::watch;
use fleetfoot_provisioner::{EnvironmentInfo, Listing};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::executor::chain;
use crate::ledger::Ledger;
use crate::pool::{Shared, told};
use crate::record::observe;
use crate::roster::{Pools, Roster};
use crate::shift::UNSTEADY_PAUSE;

pub(crate) use exits::watch;
use finding::{Finding, View, finding, unchanged};
use stray::Seen;

/// Sweeps one connection for as long as a pool uses it.
pub(crate) async fn run(shared: Arc<Shared>, backend: Arc<Backend>) {
    let mut unused = backend.unused.subscribe();
    let mut roster = shared.roster.subscribe();
    roster.mark_changed();
    let mut sweep = Sweep {
        shared,
        backend,
        roster,
        pools: Pools::new(),
        strays: Seen::default(),
        left_alone: BTreeSet::new(),
        elsewhere: BTreeSet::new(),
        last_began: None,
        others: Vec::new(),
        others_seen: None,
        unserved: Ledger::default(),
        careful_looks: 0,
        seen_once: 0,
        refused: false,
    };
    loop {
        let pause = tokio::select! {
            biased;
            () = told(&mut unused) => return sweep.forget(),
            pause = sweep.once() => pause,
        };
        let backend = sweep.backend.clone();
        tokio::select! {
            biased;
            () = told(&mut unused) => return sweep.forget(),
            () = backend.look.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Sweep {
    shared: Arc<Shared>,
    backend: Arc<Backend>,
    roster: watch::Receiver<Roster>,
    /// The pools of this connection, as of this sweep.
    pools: Pools,
    /// Things without a row seen by the last sweep: only what is seen twice is taken up.
    strays: Seen,
    /// Living things of pools that nobody serves: told once.
    left_alone: BTreeSet<InstanceName>,
    /// Pools whose instances another backend holds: told once.
    elsewhere: BTreeSet<PoolName>,
    /// When the last list began that was answered.
    last_began: Option<Timestamp>,
    /// Things of other installations, and when they were last asked for.
    others: Vec<EnvironmentInfo>,
    others_seen: Option<Instant>,
    /// What is disagreed about that belongs to no pool that is served.
    unserved: Ledger,
    /// Looks of the careful pass so far.
    careful_looks: u32,
    /// Strays of served pools that the last list was the first to show.
    seen_once: usize,
    /// The store did not take the strays that were to be taken up.
    refused: bool,
}

impl Sweep {
    async fn once(&mut self) -> Duration {
        let pace = self.shared.pace;
        if self.roster.has_changed().unwrap_or(true) {
            self.pools = self.roster.borrow_and_update().at(&self.backend);
        }
        let number = self.backend.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.backend.provisioner.capabilities().list {
            self.disagreements(None, self.shared.clock.now());
            self.swept(number);
            return pace.sweep * 20;
        }
        let Some(steady) = self.shared.clock.steady() else { return UNSTEADY_PAUSE };
        let began = self.shared.clock.now();
        let bound = pace.call_bound.to_std();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.backend.list.before");
        let listed = tokio::time::timeout(bound, self.backend.provisioner.list()).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.backend.list.after");
        let connection = self.backend.provisioner.connection().to_owned();
        let listing = match listed {
            Ok(Ok(listing)) => listing,
            #[cfg(feature = "faults")]
            Ok(Err(_)) if fleetfoot_faults::Defect::CutListIsEmpty.is_planted() => Listing {
                identity: self.backend.identity().unwrap_or_default().to_string(),
                environments: Vec::new(),
            },
            Ok(Err(error)) => return self.unreachable(&connection, &chain(&error)),
            Err(_) => return self.unreachable(&connection, "the backend did not list in time"),
        };
        let mut listing = listing;
        match self.legacy().await {
            Ok(found) => listing.environments.extend(found),
            Err(detail) => return self.unreachable(&connection, &detail),
        }
        if self.backend.reach.answered() {
            tracing::info!(connection, "backend answers again");
            // Starts failed because nobody was there; a start that fails while it lists is its own matter.
            self.backend.starts.answered();
            self.wake_pools();
        }
        let is_another = self.backend.answers_as(&listing.identity);
        if is_another {
            self.wake_pools();
        }
        // Times of rows and the time of this list are of two clocks: another list.
        if !self.shared.clock.is_still(steady) {
            return UNSTEADY_PAUSE;
        }
        self.look_for_others().await;
        self.disagreements(Some(&listing), began);
        if is_another {
            self.doubt(&listing).await;
        }
        self.last_began = Some(began);
        let settled = self.compare(&listing, began).await;
        let careful = self.is_careful();
        if careful {
            tracing::warn!(
                strays = self.strays.len(),
                "the store is younger than what runs here, looking twice before acting"
            );
            return Duration::from_secs(1).min(pace.sweep_urgent);
        }
        self.swept(number);
        if settled { pace.sweep } else { pace.sweep_urgent }
    }

    /// What the original program left, for the pools that take it over.
    async fn legacy(&self) -> Result<Vec<EnvironmentInfo>, String> {
        let bound = self.shared.pace.call_bound.to_std();
        let mut found = Vec::new();
        for pool in self.pools.values() {
            let settings = pool.settings();
            if !settings.takeover {
                continue;
            }
            let asked = settings.provisioner.legacy(pool.name());
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("controller.backend.legacy.before");
            let listed = tokio::time::timeout(bound, asked).await;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("controller.backend.legacy.after");
            match listed {
                Ok(Ok(environments)) => found.extend(environments),
                Ok(Err(error)) => return Err(chain(&error)),
                Err(_) => return Err("the backend did not list in time".to_owned()),
            }
        }
        Ok(found)
    }

    fn swept(&self, number: u64) {
        self.backend.done.send_replace(number);
        self.backend.swept.send_if_modified(|swept| !std::mem::replace(swept, true));
    }

    fn wake_pools(&self) {
        for pool in self.pools.values() {
            pool.wake.notify_one();
        }
    }

    fn unreachable(&self, connection: &str, detail: &str) -> Duration {
        if self.backend.reach.failed(detail, None, self.shared.clock.unshifted()) {
            tracing::error!(connection, error = detail, "backend does not answer");
            self.wake_pools();
        }
        self.shared.pace.sweep_urgent
    }

    /// Compares the list with the rows as they are now. True when nothing is left to be proven.
    async fn compare(&mut self, listing: &Listing, began: Timestamp) -> bool {
        let mut listed: BTreeMap<&InstanceName, &EnvironmentInfo> =
            listing.environments.iter().map(|info| (&info.name, info)).collect();
        let mut findings = Vec::new();
        let mut settled = true;
        let (watched, ended) =
            (self.backend.provisioner.capabilities().watch, self.shared.clock.now());
        let served = self
            .pools
            .keys()
            .filter_map(|name| Some((name.clone(), self.shared.store.pool(name)?)));
        let orphans = self.orphans();
        let has_orphans = !orphans.is_empty();
        let states: Vec<(PoolName, Arc<PoolState>)> = served.chain(orphans).collect();
        let mut elsewhere = BTreeSet::new();
        for (pool_name, state) in &states {
            let pool = self.pools.get(pool_name);
            for (name, row) in &state.instances {
                let info = listed.remove(name);
                // What another backend holds, this one says nothing about (11.2). What it shows, it holds: another one
                // may have taken its place between the last list and the call that made it.
                let moved = self.backend.is_elsewhere(row);
                if moved && info.is_none() {
                    elsewhere.insert(pool_name.clone());
                    continue;
                }
                let view = View {
                    began,
                    ended,
                    boot: self.shared.settings.boot_id.as_deref(),
                    bound: self.shared.pace.call_bound,
                    in_flight: pool.is_some_and(|pool| pool.is_in_flight(name)),
                };
                settled &= row.unanswered_since.is_none();
                // Where nobody tells of an end, the one that has to follow a completion is looked for.
                settled &= watched || row.job_completed_at.is_none() || row.exit.is_some();
                findings.extend(finding(row, info, view).or_else(|| moved.then(|| unchanged(row))));
            }
        }
        self.tell_elsewhere(elsewhere, &listing.identity);
        if !findings.is_empty() {
            settled &= findings.iter().all(|finding| finding.clear_list_at.is_none());
            // What the store refused is looked for again soon.
            settled &= self.record(findings, listing.identity.clone()).await;
        }
        if has_orphans {
            self.close_orphans().await;
        }
        let strays: Vec<EnvironmentInfo> =
            listed.into_values().filter(|info| !self.is_anothers(info)).cloned().collect();
        settled & self.take_up(strays, &listing.identity).await
    }

    /// False if the store refused them.
    async fn record(&self, findings: Vec<Finding>, identity: String) -> bool {
        let now = self.shared.clock.now();
        findings.iter().filter_map(Finding::exit).for_each(|exit| self.shared.saw(exit));
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.sweep.before");
        let recorded = self
            .shared
            .store
            .update(move |txn| {
                for finding in findings {
                    for observation in &finding.observations {
                        observe(txn, &finding.pool, &finding.name, observation, now);
                    }
                    let identity = identity.clone();
                    txn.modify_instance(&finding.name, |row| {
                        row.backend_identity = Some(identity);
                        if let Some(at) = finding.clear_list_at {
                            row.unanswered_since = row.unanswered_since.or(Some(at));
                            row.clear_lists = row.clear_lists.saturating_add(1);
                            row.last_clear_list_at = Some(at);
                        }
                    });
                }
            })
            .await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.sweep.after");
        if let Err(error) = &recorded {
            tracing::error!(error = %chain(error), "store refused a sweep");
        }
        recorded.is_ok()
    }
}
