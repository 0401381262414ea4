//! How the controller behaves towards others, held at every step beside [`crate::checks`]: it leaves GitHub
//! alone when asked to, acquires what it is offered before it says so, looks before it opens a session,
//! advertises what really runs, holds an outage against no instance, and touches nothing of pools that
//! nobody serves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::{Cause, Health, InstanceName, PoolName};
use fleetfoot_provisioner::simulated::SimulatedEngine;
use fleetfoot_sim::{Endpoint, GithubBox, Seen};
use fleetfoot_store::Pools;
use tokio::time::Instant;

use crate::books::{Books, Inner};
use crate::options::Family;
use crate::peers;
use crate::world::Violation;

/// Calls that were on their way when GitHub asked to be left alone.
const ON_THE_WAY_MS: u64 = 1_000;
/// The first session waits no longer than this for a list (the controller's own bound).
const LIST_BOUND: Duration = Duration::from_secs(10);
/// After a start, a wake or a cut, what is told of pools without faults may be old.
const RECOVERS_MS: u64 = 150_000;

/// Families that let instances of ours fail, or take their backend away.
const HURTS_INSTANCES: &[Family] = &[
    Family::Create,
    Family::Deaths,
    Family::Reboot,
    Family::Backend,
    Family::Lists,
    Family::Deletes,
    Family::Store,
    Family::Settings,
];

/// What is remembered to judge manners.
#[derive(Default)]
pub(crate) struct Manners {
    /// By endpoint and what it is about: asked to be left alone then, until then.
    limited: BTreeMap<(Endpoint, String), (u64, u64)>,
    /// Engines that can be listed, by pool.
    pub(crate) engines: BTreeMap<PoolName, SimulatedEngine>,
    /// When the controller that was started last was.
    started: Option<(Instant, u64)>,
    /// When each was, by what it is called among several.
    pub(crate) members: BTreeMap<String, Instant>,
    /// Environments of pools that nobody serves: they live, so they are left.
    pub(crate) left_alone: BTreeSet<InstanceName>,
    /// Pools out of the configuration whose scope no configured pool has: nobody may ask GitHub about them.
    pub(crate) unserved: BTreeSet<PoolName>,
    /// Rows of theirs that were closed with a registration that nobody could ask for (11.8).
    pub(crate) unverified: BTreeSet<InstanceName>,
    /// No fault of this world lets an instance fail.
    pub(crate) instances_are_well: bool,
    /// Nothing in this world keeps what is due from being done.
    pub(crate) time_is_well: bool,
    /// Several controllers share a store: none knows what another one was told.
    pub(crate) several: bool,
}

impl Manners {
    /// Limits that are over.
    pub(crate) fn forget(&mut self, now: u64) {
        self.limited.retain(|_, (_, until)| *until > now);
    }

    pub(crate) fn expect(&mut self, families: &[Family]) {
        const DELAYS: &[Family] = &[
            Family::Backend,
            Family::Lists,
            Family::Store,
            Family::Clock,
            Family::Settings,
            Family::Commit,
        ];
        self.several = families.contains(&Family::Peers);
        self.time_is_well = !families.iter().any(|it| DELAYS.contains(it));
        self.instances_are_well = !families.iter().any(|it| HURTS_INSTANCES.contains(it));
    }
}

impl Inner {
    /// A controller starts; what GitHub asked of the one before it does not know.
    pub(crate) fn starts_anew(&mut self) {
        let now = self.now_ms();
        self.manners.started = Some((Instant::now(), now));
        self.manners.limited.clear();
        self.unsteady();
    }

    /// A list showed it, and nobody serves its pool.
    pub(crate) fn is_left_alone(&mut self, name: &InstanceName) {
        if self.manners.left_alone.contains(name) {
            let text = format!("{name}: delete asked, and it lives in a pool that nobody serves");
            self.breaks(2, vec![name.to_string()], text);
        }
    }

    fn limits(&mut self, key: (Endpoint, String), seconds: u64) {
        let now = self.now_ms();
        let until = now.saturating_add(seconds.saturating_mul(1000));
        let (_, known) = self.manners.limited.entry(key).or_insert((now, until));
        *known = until.max(*known);
    }

    fn asks_in_spite(&mut self, key: &(Endpoint, String)) {
        let now = self.now_ms();
        let Some((since, until)) = self.manners.limited.get(key).copied() else { return };
        if now >= until || self.manners.several {
            self.manners.limited.remove(key);
        } else if now > since + ON_THE_WAY_MS {
            let left = (until - now) / 1000;
            let (endpoint, subject) = key;
            let text = format!("{endpoint:?} of {subject} asked {left} s before GitHub allowed it");
            self.breaks(7, vec![subject.clone()], text);
        }
    }

    fn opens_session(&mut self, pool: &PoolName) {
        let Some((started, _)) = self.manners.started else { return };
        let Some(engine) = self.manners.engines.get(pool) else { return };
        // Among several it is the owner's list that counts, however lately another one was started.
        let owner = peers::owner(self, pool).and_then(|it| self.manners.members.get(&it).copied());
        let started = owner.unwrap_or(started);
        let listed = engine.listed_at().is_some_and(|at| at >= started);
        if !listed && started.elapsed() < LIST_BOUND {
            let text = format!("{pool}: a session is opened before its backend was listed");
            self.breaks(4, vec![pool.to_string()], text);
        }
    }
}

/// What GitHub's own budgets are kept by: JIT configs by credential, the rest by what they are about.
fn key(
    endpoint: Endpoint,
    scope: Option<&str>,
    scale_set: Option<&str>,
    runner: Option<&str>,
) -> Option<(Endpoint, String)> {
    let is = |any: &[Endpoint]| any.contains(&endpoint);
    let subject = if is(&[Endpoint::GenerateJitConfig]) {
        scope
    } else if is(&[Endpoint::GetMessage, Endpoint::CreateSession]) {
        scale_set
    } else if is(&[Endpoint::RemoveRunner]) {
        runner
    } else {
        None
    };
    subject.map(|subject| (endpoint, subject.to_owned()))
}

/// GitHub was asked something, or answered.
pub(crate) fn github_saw(books: &Books, github: &GithubBox, seen: &Seen) {
    match seen {
        Seen::Asked { endpoint, scope, scale_set, runner, message, .. } => {
            let (scope, set) = (scope.as_deref(), scale_set.as_deref());
            let pool = set.and_then(|name| PoolName::new(name).ok());
            let mut inner = books.lock();
            if let Some(key) = key(*endpoint, scope, set, runner.as_deref()) {
                inner.asks_in_spite(&key);
            }
            if *endpoint == Endpoint::CreateSession
                && let Some(pool) = &pool
            {
                inner.opens_session(pool);
            }
            drop(inner);
            if *endpoint == Endpoint::DeleteMessage
                && let (Some(scope), Some(set), Some(message)) = (scope, set, *message)
            {
                let offered = github.unacquired(scope, set, message);
                // It may have been offered anew after ours was answered.
                let left = pool.as_ref().and_then(|pool| {
                    books.lock().pools.get(pool).and_then(|book| book.left_offered)
                });
                if offered > 0 && left.is_none_or(|left| left > 0) {
                    let text = format!(
                        "{set}: message {message} was acknowledged before {offered} jobs that it offers were acquired"
                    );
                    books.breaks(6, vec![set.to_owned()], text);
                }
            }
        }
        Seen::Answered { endpoint, scope, scale_set, runner, status, retry_after_s } => {
            let limited = matches!(status, 403 | 429);
            let (scope, set) = (scope.as_deref(), scale_set.as_deref());
            let key = key(*endpoint, scope, set, runner.as_deref());
            let pool = set.and_then(|name| PoolName::new(name).ok());
            if *endpoint == Endpoint::AcquireJobs
                && let (Some(scope), Some(set), Some(pool)) = (scope, set, &pool)
                && let Some((message, _)) = github.told_assigned(scope, set)
            {
                let left = (*status == 200).then(|| github.unacquired(scope, set, message));
                if let Some(book) = books.lock().pools.get_mut(pool) {
                    book.left_offered = left;
                }
            }
            if limited && let (Some(key), Some(seconds)) = (key, *retry_after_s) {
                books.lock().limits(key, seconds);
            }
        }
    }
}

/// A poll advertises a capacity: never less than what runs, as long as nothing is wrong with a backend.
pub(crate) fn advertised(inner: &mut Inner, pool: &PoolName, capacity: u32) {
    let Some(book) = inner.pools.get(pool) else { return };
    if !book.calm && !inner.manners.instances_are_well {
        return;
    }
    let limit = book.limit;
    let of_pool = |book: &&crate::books::NameBook| book.pool.as_ref() == Some(pool);
    // A job whose machine was taken from it, for its age or by an operator, runs in GitHub's books alone.
    let runs = |book: &&crate::books::NameBook| book.job.is_some() && book.machine.lives();
    let busy = inner.names.values().filter(of_pool).filter(runs).count();
    let busy = u32::try_from(busy).unwrap_or(u32::MAX).min(limit);
    if capacity < busy {
        let text = format!("{pool}: a poll advertised {capacity} while {busy} jobs ran");
        inner.breaks(5, vec![pool.to_string()], text);
    }
}

/// Only failures of instances count against them (11.6).
pub(crate) fn committed(inner: &mut Inner, before: &Arc<Pools>, present: &Arc<Pools>) {
    let taken = inner
        .manners
        .left_alone
        .iter()
        .find(|name| present.values().any(|state| state.instances.contains_key(*name)));
    if let Some(name) = taken.cloned() {
        let text = format!("{name}: taken up, and it lives in a pool that nobody serves");
        inner.breaks(2, vec![name.to_string()], text);
    }
    if !inner.manners.instances_are_well {
        return;
    }
    for (pool, state) in present.iter() {
        let failures = state.pool.circuit.failures;
        if failures > before.get(pool).map_or(0, |old| old.pool.circuit.failures) {
            let last = &state.pool.circuit.last_failure;
            let text = format!(
                "{pool}: its circuit counts a failure and no instance of it failed: {last}"
            );
            inner.breaks(8, vec![pool.to_string()], text);
        }
    }
}

/// A pool without faults does not wait for others (8). Returns what is wrong, if it is.
pub(crate) fn disturbed(books: &Books, health: &Health) -> Option<Violation> {
    let inner = books.lock();
    let now = inner.now_ms();
    let recovers = |until: &Option<u64>| until.is_none_or(|until| until + RECOVERS_MS > now);
    let started = inner.manners.started.is_none_or(|(_, at)| at + RECOVERS_MS > now);
    if started || inner.away.iter().any(|(from, until)| *from <= now && recovers(until)) {
        return None;
    }
    for (pool, told) in &health.pools {
        if !inner.pools.get(pool).is_some_and(|book| book.calm) {
            continue;
        }
        let waits = told.causes.iter().find(|cause| {
            matches!(
                cause,
                Cause::GithubUnavailable { .. }
                    | Cause::BackendUnavailable { .. }
                    | Cause::CircuitOpen { .. }
            )
        });
        if let Some(cause) = waits {
            let text = format!("{pool}: nothing is wrong with it, and it waits: {}", cause.code());
            return Some(Violation { invariant: 8, about: vec![pool.to_string()], text, at_ms: 0 });
        }
    }
    None
}
