//! GitHub's side: its list of runners held against our rows.
//!
//! What it costs: one request for every hundred runners of a scope. A pool looks once in
//! [`Pace::registrations`](crate::Pace) (ten minutes), and no more often than one page a minute; pools of one
//! scope and credential share a list that is not older than half of that, and a pool that has had nothing
//! for two looks asks nothing. So a scope costs at most some 120 requests an hour of the 5,000 that
//! GitHub grants, however many pools and runners it has. While GitHub does not answer, or has told of a limit, nobody
//! looks.
//!
//! Ownership is exact (design, 7.2): only the exact name of a row, live or closed, at the scale set that the
//! row registered under.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::discrepancy::{Facts, Machine, Row, Runner};
use fleetfoot_core::pool::PoolSpec;
use fleetfoot_core::{
    Discrepancy, Instance, InstanceName, Observation, PoolState, Reason, Registration, ScaleSetId,
    Span, Timestamp,
};
use fleetfoot_github::{ErrorKind, Removal};

use crate::calls::{Failure, bounded};
use crate::executor::chain;
use crate::ledger::{Key, Look, tell};
use crate::pool::{PoolContext, stopped};
use crate::start::{github_failed, observe};
use crate::verify::{Status, verify};

/// Runners that are asked for or removed one by one, for each look.
const BATCH: usize = 20;

/// Runners of one page.
const PAGE: usize = 100;

/// At most this many pages in a period: one a minute.
const PAGES: u32 = 10;

/// Without the right to list, it is tried again after this many periods.
const FORBIDDEN_PERIODS: u32 = 6;

/// Looks that find nothing before a pool is left alone: a registration whose call was given up may land behind
/// the first of them (seed 215).
const QUIET_LOOKS: u32 = 2;

/// Looks until the pool is served no longer.
pub(crate) async fn run(pool: Arc<PoolContext>) {
    let mut course = pool.course.subscribe();
    let mut changes = pool.shared.store.changes(pool.name());
    let period = pool.shared.pace.registrations;
    // The first look soon, and not all pools at once.
    let mut wait = period / 10 + spread(period / 10);
    let mut quiet_looks = 0_u32;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut course) => return,
            () = tokio::time::sleep(wait) => {}
        }
        let Some(state) = pool.state() else { return };
        wait = period + spread(period / 10);
        if changes.has_changed().unwrap_or(false) || !state.instances.is_empty() {
            quiet_looks = 0;
        }
        if quiet_looks >= QUIET_LOOKS || !may_ask(&pool) {
            continue;
        }
        changes.mark_unchanged();
        // On the heap, and only while it looks: the task of an idle pool stays small.
        match Box::pin(look(&pool)).await {
            Ok(looked) => {
                let any = looked.found_any || !state.instances.is_empty();
                quiet_looks = if any { 0 } else { quiet_looks + 1 };
                let pages = u32::try_from(looked.pages).unwrap_or(u32::MAX);
                wait = wait.max((period / PAGES).saturating_mul(pages));
            }
            Err(is_forbidden) => {
                if is_forbidden {
                    wait = period * FORBIDDEN_PERIODS;
                }
                quiet_looks = 0;
            }
        }
    }
}

fn spread(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

fn may_ask(pool: &PoolContext) -> bool {
    let is_up = matches!(pool.github_state(), fleetfoot_core::Dependency::Up);
    is_up && !pool.settings().connection.budget().is_exhausted()
}

struct Looked {
    pages: usize,
    found_any: bool,
}

/// What GitHub listed, by name.
struct Listed<'a> {
    /// When the list began, on our clock.
    began: Timestamp,
    by_id: &'a BTreeMap<i64, Status>,
    by_name: BTreeMap<&'a str, (i64, &'a Status)>,
}

/// One look. An error says whether listing is forbidden.
async fn look(pool: &Arc<PoolContext>) -> Result<Looked, bool> {
    let (clock, settings, github) = (&pool.shared.clock, pool.settings(), pool.github());
    let steady = clock.steady();
    let fresh = pool.shared.pace.registrations / 2;
    let (began, list) = match github.runners.all(&settings.connection, fresh).await {
        Ok(listed) => listed,
        Err(failure) => return Err(give_up(pool, &failure)),
    };
    if steady.is_none_or(|steady| !clock.is_still(steady)) {
        return Err(false);
    }
    let age = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
    let listed = Listed {
        began: pool.now() - Span(age),
        by_id: &list,
        by_name: list.iter().map(|(id, status)| (&*status.name, (*id, status))).collect(),
    };
    let Some(state) = pool.state() else { return Err(false) };
    let mut found = of_rows(pool, &settings.spec, &state, &listed);
    act_on_rows(pool, &state, &found).await;
    let closed = closed_rows(pool, &listed).await;
    for left in &closed {
        let kind = of_closed(pool, &settings.spec, left.runner);
        found.extend(kind.map(|kind| (kind, Some(left.name.clone()))));
    }
    let found_any = !found.is_empty();
    let spec = &settings.spec;
    let told = pool.ledger.take(Look::Github, found, pool.name().as_str(), spec, clock);
    tell(&pool.shared, pool.name(), told);
    for left in closed {
        if left.runner != Runner::Busy {
            deregister(pool, &left).await;
        }
    }
    Ok(Looked { pages: list.len() / PAGE + 1, found_any })
}

fn runner_of(status: &Status) -> Runner {
    match status {
        Status { busy: true, .. } => Runner::Busy,
        Status { online: true, .. } => Runner::Online,
        Status { .. } => Runner::Offline,
    }
}

/// What the list says of rows that nobody is at.
fn of_rows(
    pool: &PoolContext,
    spec: &PoolSpec,
    state: &PoolState,
    listed: &Listed<'_>,
) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    for row in state.instances.values().filter(|row| !pool.is_in_flight(&row.name)) {
        let Registration::Registered(id) = row.registration else { continue };
        let runner = match listed.by_id.get(&id.0) {
            Some(status) => runner_of(status),
            // It may have come since the list began.
            None if row.last_call_at.is_some_and(|at| at >= listed.began) => Runner::Unasked,
            None => Runner::Absent,
        };
        let facts = Facts {
            row: Row::Live(row),
            machine: Machine::Unasked,
            runner,
            scale_set: state.pool.scale_set_id,
            spec: Some(spec),
            settle: pool.shared.pace.settle,
        };
        let kinds = facts.disagreements(pool.now()).into_iter();
        found.extend(kinds.map(|kind| (kind, Some(row.name.clone()))));
    }
    found
}

fn of_closed(pool: &PoolContext, spec: &PoolSpec, runner: Runner) -> Option<Discrepancy> {
    let facts = Facts {
        row: Row::Closed,
        machine: Machine::Unasked,
        runner,
        scale_set: None,
        spec: Some(spec),
        settle: pool.shared.pace.settle,
    };
    facts.disagreements(pool.now()).into_iter().next()
}

/// The remedies of what concerns rows: a runner that is gone or busy is asked for by its number, as the list
/// may be of another scope; one that is offline for two looks goes through the gate.
async fn act_on_rows(pool: &Arc<PoolContext>, state: &PoolState, found: &BTreeSet<Key>) {
    let mut asked = 0;
    for key in found {
        let (kind, Some(name)) = key else { continue };
        let Some(row) = state.instances.get(name) else { continue };
        let is_offline = *kind == Discrepancy::RunnerOffline;
        if is_offline && pool.ledger.since(key).is_some() {
            tracing::warn!(pool = %pool.name(), instance = %name, idle_ms = row.phase_since.age(pool.now()).0, "runner is not connected, removing it");
            let reason = Reason::Offline;
            observe(pool, name, vec![Observation::Removal { reason }]).await;
        }
        let asks = matches!(kind, Discrepancy::RunnerGone | Discrepancy::JobUnseen);
        if asks
            && asked < BATCH
            && let Some(flight) = pool.take_off(name)
        {
            asked += 1;
            pool.tasks.spawn("verify runner", verify(flight));
        }
    }
}

/// A closed row whose exact name GitHub listed.
struct Left {
    name: InstanceName,
    /// Where it registered.
    scale_set: ScaleSetId,
    /// What GitHub has under its name.
    runner: Runner,
}

/// Closed rows of this pool whose exact names GitHub listed.
async fn closed_rows(pool: &PoolContext, listed: &Listed<'_>) -> Vec<Left> {
    let names: Vec<InstanceName> =
        listed.by_name.keys().filter_map(|name| InstanceName::new(name).ok()).collect();
    let known = pool
        .shared
        .store
        .update(move |txn| {
            let closed = |name: &InstanceName| txn.instance(name).is_none() && txn.is_closed(name);
            names.into_iter().filter(closed).collect::<Vec<_>>()
        })
        .await;
    let mut known = known.unwrap_or_default();
    // Those of other pools, or busy ones, must not be the first of each look.
    if known.len() > BATCH {
        fastrand::shuffle(&mut known);
        known.truncate(BATCH);
    }
    let (now, mut rows) = (pool.now(), Vec::new());
    for name in known {
        let Ok(Some(row)) = pool.shared.store.closed_instance(&name).await else { continue };
        let is_over = was_closed_before(row.phase_since, listed.began, now);
        let Some((_, status)) = listed.by_name.get(name.as_str()).filter(|_| is_over) else {
            continue;
        };
        // What a removed pool left its neighbours of the same scope see to: nobody else would (seed 22683).
        let is_ours = row.pool == *pool.name() || pool.shared.store.pool(&row.pool).is_none();
        if is_ours && let Some(scale_set) = scale_set_of(pool, &row) {
            rows.push(Left { name: row.name, scale_set, runner: runner_of(status) });
        }
    }
    rows
}

/// Where the row registered. Of a stray only the store knew that was lost: its environment says whose it was, and its
/// call may have landed when it was gone already (seed 75562).
fn scale_set_of(pool: &PoolContext, row: &Instance) -> Option<ScaleSetId> {
    let of_stray = || {
        let ours = row.reason == Some(Reason::Stray) && row.pool == *pool.name();
        ours.then(|| pool.state()?.pool.scale_set_id).flatten()
    };
    row.scale_set_id.or_else(of_stray)
}

/// A list that began before the row closed shows what it has since been rid of. The times of closed rows do not follow
/// a clock that steps back: what lies ahead of it closed long ago (seed 1339).
fn was_closed_before(closed: Timestamp, began: Timestamp, now: Timestamp) -> bool {
    closed < began || closed > now
}

/// Removes the registration of a closed row, if it is at the scale set the row registered under.
async fn deregister(pool: &PoolContext, left: &Left) {
    let connection = &pool.settings().connection.clone();
    let asked = bounded(pool.call_bound(), connection.runner_by_name(left.name.as_str())).await;
    let runner = match asked {
        Ok(Some(runner)) if left.scale_set.0 == runner.set_id => runner,
        Ok(Some(_) | None) => return,
        Err(failure) => {
            give_up(pool, &failure);
            return;
        }
    };
    match bounded(pool.call_bound(), connection.remove_runner(runner.id)).await {
        Ok(Removal::Gone) => {
            tracing::warn!(pool = %pool.name(), instance = %left.name, runner_id = runner.id, "registration of a closed instance removed");
        }
        // The next look tells of it.
        Ok(Removal::Busy) => {}
        Err(failure) => {
            give_up(pool, &failure);
        }
    }
}

/// True if it is forbidden for good.
fn give_up(pool: &PoolContext, failure: &Failure<fleetfoot_github::GithubError>) -> bool {
    let (detail, is_forbidden) = match failure {
        Failure::Unanswered => ("github did not answer in time".to_owned(), false),
        Failure::Failed(error) => {
            let kind = error.kind();
            (chain(error), matches!(kind, ErrorKind::Forbidden { .. } | ErrorKind::NotFound))
        }
    };
    if !is_forbidden {
        github_failed(pool, failure);
    }
    tracing::debug!(pool = %pool.name(), error = detail, "registrations not compared");
    is_forbidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_closed_ahead_of_the_clock_closed_before_it_stepped_back() {
        let (began, now) = (Timestamp(1_000), Timestamp(1_500));
        for (closed, before) in [(0, true), (999, true), (1_000, false), (1_500, false)] {
            assert_eq!(was_closed_before(Timestamp(closed), began, now), before, "{closed}");
        }
        assert!(was_closed_before(Timestamp(84_000_000), began, now));
    }
}
