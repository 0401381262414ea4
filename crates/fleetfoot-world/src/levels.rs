//! Demand is a level: what is made, held against what GitHub really had (invariant 5).

use fleetfoot_core::{Phase, PoolName};
use fleetfoot_sim::GithubBox;

use crate::books::{Books, Inner, PoolBook, Told};
use crate::checks::found;
use crate::world::Violation;

/// A job is waited for by new instances as long as this after GitHub last said so.
const WAITED_MS: u64 = 180_000;
/// Jobs of machines that ended may be counted by GitHub as long as this.
const ENDED_MS: u64 = 720_000;

/// Nothing is made that GitHub's level does not ask for (5).
pub(crate) fn created_for_a_reason(
    books: &Books,
    github: &GithubBox,
    pool: &PoolName,
) -> Option<Violation> {
    let (book, now) = {
        let inner = books.lock();
        (inner.pools.get(pool)?.clone(), inner.now_ms())
    };
    if !book.opened {
        let text = format!("{pool}: an instance was created before GitHub stated any demand");
        return Some(found(5, vec![pool.to_string()], text));
    }
    let waiting = waiting(github, &book.scope, pool);
    let state = books.lock().present.get(pool).cloned()?;
    let unused = state.instances.values().filter(|row| {
        row.serves()
            && row.phase != Phase::Running
            && !row.had_job()
            && books.lock().names.get(&row.name).is_none_or(|it| it.job.is_none())
    });
    let (mut waits, mut runs, mut young) = (0, 0, 0);
    for row in unused {
        if matches!(row.phase, Phase::Pending | Phase::Creating | Phase::Warm) {
            waits += 1;
            continue;
        }
        runs += 1;
        let asked = books.lock().names.get(&row.name).map_or(0, |it| it.jit_asked);
        young += u64::from(asked == 0 || asked + WAITED_MS >= now);
    }
    let unused = waits + runs;
    let recent =
        book.waiting.iter().filter(|(at, _)| at + WAITED_MS >= now).map(|(_, count)| *count);
    let in_vain =
        book.in_vain.iter().filter(|(at, _)| at + WAITED_MS >= now).map(|(_, count)| *count);
    let ended = book.ended.iter().filter(|at| **at + ENDED_MS >= now).count();
    let ended = u64::try_from(ended).unwrap_or(u64::MAX);
    // GitHub's level counts the jobs of machines that a lost store alone knew of, too.
    let inner = books.lock();
    let unknown = inner.names.iter().filter(|(name, it)| {
        it.pool.as_ref() == Some(pool) && it.job.is_some() && !state.instances.contains_key(*name)
    });
    let unknown = u64::try_from(unknown.count()).unwrap_or(u64::MAX);
    drop(inner);
    // What was said last is believed until GitHub says more (decision 0011).
    let runners = recent.max().unwrap_or(0).max(waiting).max(book.said)
        + u64::from(book.min_idle)
        + in_vain.sum::<u64>()
        + ended
        + unknown;
    let warm = u64::from(book.warm);
    let wanted = runners + warm;
    // What is made to wait is held on top of what jobs want, also beside runners of a while ago, whose jobs were taken
    // back or that never come (seeds 43762, 64209).
    let is_held = waits > 0 && waits <= warm + runners.saturating_sub(runs) && young <= runners;
    if unused > wanted && !is_held && book.muddled_until < now && !book.lied {
        let text =
            format!("{pool}: {unused} instances without a job, for {wanted} that GitHub asks for");
        return Some(found(5, vec![pool.to_string()], text));
    }
    None
}

/// A session of the pool was opened, and GitHub states its level with it.
pub(crate) fn opened(books: &Books, github: &GithubBox, pool: &PoolName) {
    let mut inner = books.lock();
    let now = inner.now_ms();
    if let Some(book) = inner.pools.get_mut(pool) {
        book.in_vain.retain(|(at, _)| at + WAITED_MS >= now);
        book.said = waiting(github, &book.scope, pool);
        // Of jobs that it was told of, and whose end the session before did not tell any more, demand is raised to for a
        // while (seed 73369).
        let over = u64::try_from(github.count_unassigned(&book.told.assigned)).unwrap_or(u64::MAX);
        let known: u64 = book.in_vain.iter().map(|(_, count)| *count).sum();
        book.in_vain.push_back((now, over.saturating_sub(known)));
    }
    stated_anew(&mut inner, github, pool);
}

/// GitHub states the pool's level once more: what it lied before holds no longer, once it says what is so.
pub(crate) fn stated_anew(inner: &mut Inner, github: &GithubBox, pool: &PoolName) {
    let now = inner.now_ms();
    let lied = |book: &&mut PoolBook| book.lied && !book.lies;
    let Some(book) = inner.pools.get_mut(pool).filter(lied) else { return };
    let stated = github.stated(&book.scope, pool.as_str());
    let so = github.level(&book.scope, pool.as_str());
    if stated.map(|it| it.total_assigned_jobs) == so.map(|it| it.total_assigned_jobs) {
        book.lied = false;
        book.muddled_until = book.muddled_until.max(now + WAITED_MS);
    }
}

/// A poll of the pool is answered: notes the message that this is, if it is one.
pub(crate) fn sent(books: &Books, github: &GithubBox, pool: Option<&PoolName>) {
    let mut inner = books.lock();
    let Some(book) = pool.and_then(|pool| Some((pool, inner.pools.get_mut(pool)?))) else { return };
    let (pool, book) = book;
    if let Some((message, assigned)) = github.told_assigned(&book.scope, pool.as_str()) {
        if book.told.message != message {
            book.left_offered = None;
        }
        book.told = Told { message, assigned, waiting: waiting(github, &book.scope, pool) };
    }
}

/// The message that the pool was sent last is committed. It raises demand to the assigned jobs it tells of, whatever
/// the statistics beside it say (design, 5): also to those whose assignment was taken back while it waited to be
/// fetched, or that are over by then.
/// A store that was put back may take it in a second time.
pub(crate) fn told(inner: &mut Inner, github: &GithubBox, pool: &PoolName, message: i64) {
    let now = inner.now_ms();
    let Some(book) = inner.pools.get_mut(pool).filter(|book| book.told.message == message) else {
        return;
    };
    book.said = book.told.waiting;
    let in_vain = github.count_unassigned(&book.told.assigned);
    book.in_vain.retain(|(at, _)| at + WAITED_MS >= now);
    book.in_vain.push_back((now, u64::try_from(in_vain).unwrap_or(u64::MAX)));
}

/// Jobs that GitHub has for the pool and no runner took.
fn waiting(github: &GithubBox, scope: &str, pool: &PoolName) -> u64 {
    github
        .level(scope, pool.as_str())
        .map_or(0, |level| level.total_assigned_jobs.saturating_sub(level.total_running_jobs))
}

/// Notes how many jobs wait, for later.
pub(crate) fn note_waiting(books: &Books, github: &GithubBox) {
    let pools: Vec<(PoolName, String)> = {
        let inner = books.lock();
        inner.pools.iter().map(|(pool, book)| (pool.clone(), book.scope.clone())).collect()
    };
    for (pool, scope) in pools {
        let count = waiting(github, &scope, &pool);
        let mut inner = books.lock();
        let now = inner.now_ms();
        let Some(book) = inner.pools.get_mut(&pool) else { continue };
        if book.waiting.back().is_none_or(|(at, last)| *last != count || at + 30_000 < now) {
            book.waiting.push_back((now, count));
        }
        while book.waiting.len() > 500 {
            book.waiting.pop_front();
        }
        while book.ended.front().is_some_and(|at| at + ENDED_MS < now) {
            book.ended.pop_front();
        }
    }
}
