//! What is looked at as a whole now and then, beside the checks of every step: nothing outside without a row,
//! the host's budget, levels as GitHub stated them, and no phase without a way out.

use std::sync::Arc;

use fleetfoot_core::{Instance, InstanceName, Phase, PoolName, Reason};
use fleetfoot_sim::{Endpoint, GithubBox};
use fleetfoot_store::Pools;

use crate::books::{Books, Inner, Machine};
use crate::checks::found;
use crate::outside::ANOTHER_ENGINE;
use crate::world::Violation;

/// Everything is held against everything each time so many steps were taken.
const EVERY: u64 = 50;
/// Nothing ends for its age soon after a start, and a removal begins some time after it is due.
const GRACE_MS: u64 = 12 * 60_000;

/// A call is looked for twice, a call's bound apart (11.1). Who was killed in the middle of it begins at once (seed 108492).
const WAITED_FOR_MS: u64 = 30_000;

/// Commits, calls and requests of one world at most: those of fifty jobs are a few thousand.
const STEPS_MAX: u64 = 50_000;

/// The present with the pools that a commit touched.
pub(crate) fn merged(before: &Arc<Pools>, shown: &Arc<Pools>, touched: &[PoolName]) -> Arc<Pools> {
    let mut pools = Pools::clone(before);
    for pool in touched {
        match shown.get(pool) {
            Some(state) => drop(pools.insert(pool.clone(), state.clone())),
            None => drop(pools.remove(pool)),
        }
    }
    Arc::new(pools)
}

/// What GitHub states of a set at this moment, lies included.
pub(crate) fn stated(github: &GithubBox, scope: &str, pool: &PoolName) -> Option<u64> {
    github.stated(scope, pool.as_str()).map(|level| level.total_assigned_jobs)
}

/// Notes phases that began, and hard cases by their marks; a level is never more than GitHub stated (5).
pub(crate) fn phases(inner: &mut Inner, touched: &[PoolName]) {
    let (now, present) = (inner.now_ms(), inner.present.clone());
    for pool in touched {
        let Some(state) = present.get(pool) else { continue };
        for (name, row) in &state.instances {
            let known = inner.phases.get(name).map(|(phase, _)| *phase);
            if known == Some(row.phase) {
                continue;
            }
            inner.phases.insert(name.clone(), (row.phase, now));
            if known.is_none() && row.reason == Some(Reason::Stray) {
                inner.occurs("stray taken up");
            }
        }
        let demand = &state.pool.demand;
        let opened = demand.known && demand.last_message_id.is_none();
        let Some(book) = inner.pools.get(pool).filter(|_| opened) else { continue };
        let (level, most) = (u64::from(demand.statistics.assigned), book.stated);
        if let Some(most) = most.filter(|most| level > *most)
            && book.muddled_until < now
        {
            let text = format!("{pool}: its session began with {level} jobs, GitHub stated {most}");
            inner.breaks(5, vec![pool.to_string()], text);
        }
    }
    inner.phases.retain(|name, _| present.values().any(|state| state.instances.contains_key(name)));
}

/// The host holds no more than its budget, whoever made it (4).
pub(crate) fn host_is_kept(inner: &mut Inner, name: &InstanceName) {
    let Some(max) = inner.host_max else { return };
    let living = inner.names.values().filter(|book| book.machine.lives() && !book.unknown).count();
    if living > usize::try_from(max).unwrap_or(usize::MAX) {
        let text = format!("{living} environments live on a host for {max}");
        inner.breaks(4, vec![name.to_string()], text);
    }
}

/// Every machine has a row (1), each time so many steps were taken. A registration may land long after its call was
/// given up: it is gone at the end.
pub(crate) fn now_and_then(books: &Books) -> Option<Violation> {
    let rowless: Vec<(InstanceName, Machine)> = {
        let inner = books.lock();
        if !inner.steps.is_multiple_of(EVERY) {
            return None;
        }
        let of_now = inner.names.iter().filter(|(name, book)| {
            book.epoch == inner.epoch && !book.unknown && book.has_row && !inner.has_row(name)
        });
        of_now.map(|(name, book)| (name.clone(), book.machine)).collect()
    };
    for (name, machine) in rowless {
        if matches!(machine, Machine::Made | Machine::Running | Machine::Ended) {
            let text = format!("{name}: it is there ({machine:?}) and no row names it");
            return Some(found(1, vec![name.to_string()], text));
        }
    }
    None
}

/// No runner is waited for longer than its pool's bound (7).
pub(crate) fn waits_too_long(books: &Books) -> Option<Violation> {
    let inner = books.lock();
    let now = inner.now_ms();
    if !inner.manners.time_is_well || inner.away.last().is_some_and(|(_, until)| until.is_none()) {
        return None;
    }
    for (name, (phase, since)) in &inner.phases {
        let pool = inner.names.get(name).and_then(|book| book.pool.as_ref());
        let Some(book) = pool.and_then(|pool| inner.pools.get(pool)) else { continue };
        let from = (*since).max(inner.steady_since);
        if *phase == Phase::Starting && from + book.boot_ms + GRACE_MS < now {
            let text = format!(
                "{name}: it starts for {} s, its bound is {} s",
                (now - since) / 1000,
                book.boot_ms / 1000
            );
            return Some(found(7, vec![name.to_string()], text));
        }
    }
    None
}

/// Whoever does the same again and again gets nowhere, however long it waits in between (7).
pub(crate) fn goes_round(books: &Books) -> Option<Violation> {
    let inner = books.lock();
    let jobs = inner.github.as_ref().map_or(0, |github| github.summary().jobs_queued_total);
    let most = STEPS_MAX + jobs * 1_000;
    let text = || format!("{} commits, calls and requests for {jobs} jobs", inner.steps);
    (inner.steps > most).then(|| found(7, Vec::new(), text()))
}

/// The hard cases of design.md 11 that show in an answer of GitHub.
pub(crate) fn hard_case(
    books: &Books,
    github: &GithubBox,
    endpoint: Endpoint,
    (scope, scale_set): (Option<&str>, Option<&str>),
    status: u16,
) {
    let is_full = || scope.zip(scale_set).is_some_and(|(scope, set)| github.sent_full(scope, set));
    let hard = match (endpoint, status) {
        (Endpoint::RemoveRunner, 400 | 422) => Some("3 busy at the gate"),
        (Endpoint::CreateSession, 409) => Some("9 old session in the way"),
        (Endpoint::AcquireJobs, 200) => Some("12 offers acquired"),
        (Endpoint::GetMessage, 200) if is_full() => Some("message cut at fifty jobs"),
        (Endpoint::GenerateJitConfig, 403 | 429) => Some("6 refused by github"),
        _ => None,
    };
    if let Some(hard) = hard {
        books.lock().occurs(hard);
    }
}

/// A row goes only after everything outside is proven gone.
pub(crate) fn closed_clean(
    books: &Books,
    github: &GithubBox,
    pool: &PoolName,
    row: &Instance,
) -> Option<Violation> {
    let name = &row.name;
    let (machine, scope, is_unserved) = {
        let inner = books.lock();
        let scope = inner.pools.get(pool).map(|book| book.scope.clone());
        let is_unserved = inner.manners.unserved.contains(pool);
        let known = inner.names.get(name).filter(|book| !book.unknown);
        (known.map(|book| book.machine), scope, is_unserved)
    };
    // Another engine was to make it, took the call in the last moment it answered, and lists nothing of it: by all that
    // the row can know it is gone (seed 65291). What the first one made after all is a stray.
    let by_another = row.backend_identity.as_deref() == Some(ANOTHER_ENGINE);
    if by_another && machine == Some(Machine::Ended) {
        books.lock().names.entry(name.clone()).or_default().unknown = true;
    } else if matches!(machine, Some(Machine::Made | Machine::Running | Machine::Ended)) {
        let text =
            format!("{name}: its row was closed while its environment is there ({machine:?})");
        return Some(found(1, vec![name.to_string()], text));
    }
    let scope = scope.filter(|scope| github.runner(scope, name.as_str()).is_some())?;
    if landed_late(books, github, &scope, name) {
        return None;
    }
    if is_unserved {
        // Its environment ended, and there is no credential to ask GitHub with (11.8).
        books.lock().manners.unverified.insert(name.clone());
        return None;
    }
    let text = format!("{name}: its row was closed while GitHub holds its runner");
    Some(found(1, vec![name.to_string()], text))
}

/// Its registration landed when nobody waited for it any more, nor had to look for it once more (11.1): what looks
/// at all of GitHub's runners later removes it.
fn landed_late(books: &Books, github: &GithubBox, scope: &str, name: &InstanceName) -> bool {
    let of_name = |it: &fleetfoot_sim::Runner| it.scope == scope && it.name == name.as_str();
    let Some(runner) = github.runners().into_iter().find(of_name) else { return false };
    let began_ms = u64::try_from(crate::stage::EPOCH_MS).unwrap_or(0);
    let landed_ms = (runner.registered_us / 1000).saturating_sub(began_ms);
    let asked = books.lock().names.get(name).map_or(0, |book| book.jit_asked);
    landed_ms > asked + WAITED_FOR_MS
}
