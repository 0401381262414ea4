//! The invariants that are held at every step: at each commit, each call to a backend, each request to
//! GitHub. What they compare is what GitHub, the engines and the store did.

use std::sync::Arc;

use fleetfoot_core::{InstanceName, Phase, PoolName};
use fleetfoot_provisioner::simulated::{Change, Operation};
use fleetfoot_sim::{Endpoint, GithubBox, Seen};
use fleetfoot_store::Pools;

use crate::books::{Books, Inner, Machine, NameBook};
use crate::levels::{self, created_for_a_reason, stated_anew};
use crate::manners;
use crate::whole;
use crate::world::Violation;

/// The same thing asked of GitHub or a backend about one name so often within a minute is no backoff.
const ASKED_MAX: usize = 40;
/// A call to GitHub is given up after this.
const CALL_MS: u64 = 30_000;
pub(crate) fn found(invariant: u8, about: Vec<String>, text: String) -> Violation {
    Violation { invariant, about, text, at_ms: 0 }
}

fn about(name: &InstanceName) -> Vec<String> {
    vec![name.to_string()]
}

impl Inner {
    /// The same again about one name; too often is a violation (7).
    fn asked_again(&mut self, name: &InstanceName, what: &str) {
        let now = self.now_ms();
        let asked = &mut self.names.entry(name.clone()).or_default().asked;
        asked.push_back(now);
        while asked.front().is_some_and(|at| at + 60_000 < now) {
            asked.pop_front();
        }
        if asked.len() > ASKED_MAX {
            let times = asked.len();
            asked.clear();
            let text = format!("{name}: asked {times} times within a minute to {what}");
            self.breaks(7, about(name), text);
        }
    }

    fn made(&mut self, name: &InstanceName, pool: &PoolName) {
        let (has_row, epoch) = (self.has_row(name), self.epoch);
        let limit = self.pools.get(pool).map_or(0, |book| book.limit);
        let book = self.names.entry(name.clone()).or_default();
        book.pool = Some(pool.clone());
        book.made += 1;
        book.machine = Machine::Made;
        // Its row was lost together with the store.
        let lost = book.epoch < epoch;
        book.unknown = lost && !has_row;
        let (again, lost) = (book.made > 1, lost);
        if self.phases.get(name).is_some_and(|(phase, _)| *phase == Phase::Stopping) {
            self.occurs("1 late landing");
        }
        if again {
            self.breaks(1, about(name), format!("{name}: made again under the same name"));
        } else if !has_row && !lost {
            self.breaks(1, about(name), format!("{name}: made, and no row names it"));
        }
        let living: Vec<(u32, u32)> = self.living(pool).map(|book| (book.limit, 1)).collect();
        let limit = living.iter().map(|(limit, _)| *limit).max().unwrap_or(limit).max(limit);
        let count = living.len();
        if count > usize::try_from(limit).unwrap_or(usize::MAX) {
            let text = format!("{pool}: {count} environments live, its limit is {limit}");
            self.breaks(4, vec![name.to_string()], text);
        }
        whole::host_is_kept(self, name);
    }
}

/// An engine did something.
pub(crate) fn engine_changed(
    books: &Books,
    github: &GithubBox,
    name: &InstanceName,
    change: &Change,
) {
    let mut inner = books.lock();
    inner.steps += 1;
    let pool = inner.names.get(name).and_then(|book| book.pool.clone());
    let subject = match &pool {
        Some(pool) => format!("{pool} {name}"),
        None => name.to_string(),
    };
    match change {
        Change::Asked(operation @ (Operation::Create | Operation::Launch)) => {
            let word = if *operation == Operation::Create { "create" } else { "launch" };
            inner.line(subject, format!("{name}: {word} asked"), false);
            if !inner.has_row(name) {
                let text = format!("{name}: {word} asked of the backend, and no row names it");
                inner.breaks(1, about(name), text);
            }
        }
        Change::Asked(Operation::Delete) => {
            inner.line(subject, format!("{name}: delete asked"), false);
            if !inner.names.contains_key(name) {
                let text = format!("{name}: delete asked of the backend, and it is none of ours");
                inner.breaks(2, about(name), text);
            }
            inner.asked_again(name, "delete it");
            inner.is_left_alone(name);
        }
        Change::Asked(Operation::List | Operation::Logs) => {}
        Change::Made(pool) => {
            inner.line(format!("{pool} {name}"), format!("{name}: made"), false);
            inner.made(name, pool);
        }
        Change::Launched => {
            inner.names.entry(name.clone()).or_default().machine = Machine::Running;
            inner.line(subject, format!("{name}: launched"), false);
        }
        Change::Ended(exit) => {
            let now = inner.now_ms();
            let book = inner.names.entry(name.clone()).or_default();
            if book.machine.lives() {
                book.machine = Machine::Ended;
            }
            inner.line(subject, format!("{name}: ended with {:?}", exit.code), false);
            if let Some(actor) = inner.actors.remove(name) {
                actor.abort();
            }
            if let Some(book) = pool.and_then(|pool| inner.pools.get_mut(&pool)) {
                book.ended.push_back(now);
            }
        }
        Change::Deleted { lived } => {
            inner.line(
                subject,
                format!("{name}: deleted{}", if *lived { " alive" } else { "" }),
                false,
            );
            let book = inner.names.entry(name.clone()).or_default();
            book.machine = Machine::Gone;
            let job = book.job;
            let pool = pool.and_then(|pool| inner.pools.get(&pool).cloned());
            let Some(pool) = pool.filter(|pool| *lived && !pool.may_kill) else { return };
            drop(inner);
            deleted_alive(books, github, name, &pool.scope, job);
            return;
        }
    }
    drop(inner);
    drop_and_tell(books);
}

fn drop_and_tell(books: &Books) {
    let broken = books.lock().violation.is_some();
    if broken {
        books.after(Vec::new());
    }
}

/// A living environment may go only when GitHub holds nothing under its name any more (11.3).
fn deleted_alive(
    books: &Books,
    github: &GithubBox,
    name: &InstanceName,
    scope: &str,
    job: Option<u64>,
) {
    match github.runner(scope, name.as_str()) {
        Some(Some(at_github)) => {
            let job = job.unwrap_or(at_github);
            let text = format!("{name}: its machine was deleted while it had job {job}");
            books.breaks(3, vec![name.to_string(), format!("job{job}.")], text);
        }
        Some(None) => {
            let text = format!("{name}: deleted alive while GitHub still holds its registration");
            books.breaks(3, about(name), text);
        }
        None => {}
    }
}

/// GitHub was asked something.
pub(crate) fn github_saw(books: &Books, github: &GithubBox, seen: &Seen) {
    manners::github_saw(books, github, seen);
    match seen {
        Seen::Asked { endpoint, scale_set, runner, message, capacity, .. } => {
            let mut inner = books.lock();
            inner.steps += 1;
            let pool = scale_set.as_ref().and_then(|name| PoolName::new(name).ok());
            let name = runner.as_ref().and_then(|name| InstanceName::new(name).ok());
            #[allow(clippy::collapsible_match, reason = "a guard would let them fall through")]
            match (endpoint, name) {
                (Endpoint::GenerateJitConfig | Endpoint::RestGenerateJitConfig, Some(name)) => {
                    if !inner.has_row(&name) {
                        let text = format!("{name}: registered at GitHub, and no row names it");
                        inner.breaks(1, about(&name), text);
                    }
                    let now = inner.now_ms();
                    inner.names.entry(name).or_default().jit_asked = now;
                }
                (Endpoint::RemoveRunner | Endpoint::RestRemoveRunner, Some(name)) => {
                    if !inner.names.contains_key(&name) {
                        let text = format!("{name}: removed at GitHub, and it is none of ours");
                        inner.breaks(2, about(&name), text);
                    }
                    inner.asked_again(&name, "remove its runner");
                }
                (Endpoint::GetMessage, _) => polled(&mut inner, pool.as_ref(), *capacity),
                (Endpoint::DeleteMessage, _) => acknowledged(&mut inner, pool.as_ref(), *message),
                (Endpoint::DeleteScaleSet, _) => {
                    inner.breaks(
                        2,
                        scale_set.iter().cloned().collect(),
                        "a scale set was deleted".to_owned(),
                    );
                }
                _ => {}
            }
        }
        Seen::Answered { endpoint, scope, scale_set, runner, status, .. } => {
            answered(books, github, *endpoint, (scope, scale_set, runner), *status);
        }
    }
    drop_and_tell(books);
}

fn polled(inner: &mut Inner, pool: Option<&PoolName>, capacity: Option<u32>) {
    if capacity == Some(0) {
        let text = "a poll advertised 0, which takes the set out of the choice for good".to_owned();
        inner.breaks(5, pool.map(ToString::to_string).into_iter().collect(), text);
    }
    let Some(pool) = pool else { return };
    if let Some(capacity) = capacity {
        manners::advertised(inner, pool, capacity);
    }
}

fn acknowledged(inner: &mut Inner, pool: Option<&PoolName>, message: Option<i64>) {
    let (Some(pool), Some(message)) = (pool, message) else { return };
    let Some(committed) = inner.pools.get(pool).map(|book| book.message) else { return };
    inner.line(pool.to_string(), format!("{pool}: message {message} acknowledged"), false);
    if committed < message {
        let text = format!("{pool}: message {message} was acknowledged before it was committed");
        inner.breaks(6, vec![pool.to_string()], text);
    }
}

type Subject<'a> = (&'a Option<String>, &'a Option<String>, &'a Option<String>);

fn answered(
    books: &Books,
    github: &GithubBox,
    endpoint: Endpoint,
    subject: Subject<'_>,
    status: u16,
) {
    let (scope, scale_set, runner) = subject;
    let pool = scale_set.as_ref().and_then(|name| PoolName::new(name).ok());
    if endpoint != Endpoint::GetMessage || status >= 300 {
        let mut inner = books.lock();
        let words = [scale_set.as_deref(), runner.as_deref()];
        let subject = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let quiet =
            matches!(endpoint, Endpoint::RunnerConnect | Endpoint::DeleteMessage) && status < 300;
        if !quiet {
            inner.line(
                subject.clone(),
                format!("github: {endpoint:?} {subject} -> {status}"),
                false,
            );
        }
    }
    whole::hard_case(books, github, endpoint, (scope.as_deref(), scale_set.as_deref()), status);
    if endpoint == Endpoint::GetMessage && status == 200 {
        levels::sent(books, github, pool.as_ref());
    }
    if endpoint == Endpoint::CreateSession
        && status == 200
        && let Some(book) = pool.as_ref().and_then(|pool| books.lock().pools.get(pool).cloned())
        && let Some(pool) = &pool
    {
        books.lock().pools.insert(
            pool.clone(),
            crate::books::PoolBook {
                opened: true,
                stated: whole::stated(github, &book.scope, pool),
                ..book
            },
        );
        levels::opened(books, github, pool);
    }
    if endpoint == Endpoint::GenerateJitConfig
        && let (Some(scope), Some(runner)) = (scope, runner)
        && let Ok(name) = InstanceName::new(runner)
        && github.runner(scope, runner).is_some()
    {
        let mut inner = books.lock();
        let epoch = inner.epoch;
        let lost = inner.names.get(&name).is_none_or(|book| book.epoch < epoch);
        // Whoever asked gave up, if it did not stand still; the later looks at all runners find it.
        let now = inner.now_ms();
        let late = inner.names.get(&name).is_some_and(|book| book.jit_asked + CALL_MS < now);
        if !lost && !late && !inner.has_row(&name) {
            let text = format!("{name}: a registration landed after its row was closed");
            inner.breaks(1, about(&name), text);
        }
    }
}

/// A commit was published.
pub(crate) fn committed(
    books: &Books,
    github: &GithubBox,
    shown: &Arc<Pools>,
    touched: &[PoolName],
) {
    let mut closed = Vec::new();
    let mut created = Vec::new();
    {
        let mut inner = books.lock();
        inner.steps += 1;
        let before = inner.present.clone();
        let present = &whole::merged(&before, shown, touched);
        inner.present = present.clone();
        manners::committed(&mut inner, &before, present);
        whole::phases(&mut inner, touched);
        let (trace, epoch) = (true, inner.epoch);
        for (pool, state) in present.iter() {
            let old = before.get(pool);
            if old.is_some_and(|old| Arc::ptr_eq(old, state)) {
                continue;
            }
            let limit = inner.pools.get(pool).map_or(0, |book| book.limit);
            // GitHub counts jobs that died with their machines for a while, and keeps to itself what is beyond the
            // capacity that it was told (seed 79918).
            let in_vain = state.instances.values().filter(|row| row.is_counted_in_vain()).count();
            let in_vain = u32::try_from(in_vain).unwrap_or(u32::MAX);
            inner.occupied(pool, state.occupying().saturating_add(in_vain));
            let last = state.pool.demand.last_message_id;
            if let Some(last) = last
                && old.is_none_or(|old| old.pool.demand.last_message_id != Some(last))
            {
                levels::told(&mut inner, github, pool, last);
            }
            if let (Some(book), Some(last)) = (inner.pools.get_mut(pool), last)
                && last > book.message
            {
                book.message = last;
                stated_anew(&mut inner, github, pool);
            }
            for (name, row) in &state.instances {
                let was = old.and_then(|old| old.instances.get(name));
                if was.is_some_and(|was| Arc::ptr_eq(was, row)) {
                    continue;
                }
                if was.is_none() {
                    let past = inner.is_past(name);
                    let book = inner.names.entry(name.clone()).or_default();
                    let again = book.has_row || past;
                    *book =
                        NameBook { pool: Some(pool.clone()), epoch, has_row: true, ..book.clone() };
                    if book.made == 0 {
                        book.limit = limit;
                        created.push((pool.clone(), name.clone()));
                    }
                    book.unknown = false;
                    if again
                        && row.reason != Some(fleetfoot_core::Reason::Stray)
                        && row.phase != Phase::Stopping
                    {
                        let text = format!("{name}: its name was committed again");
                        inner.breaks(1, about(name), text);
                    }
                }
                if trace && was.is_none_or(|was| was.phase != row.phase) {
                    let from = was.map_or("nothing", |was| was.phase.as_str());
                    let reason = row.reason.map_or("", fleetfoot_core::Reason::as_str);
                    let text = format!("{name}: {from} -> {} {reason}", row.phase.as_str());
                    inner.line(format!("{pool} {name}"), text, false);
                }
            }
            for (name, was) in old.into_iter().flat_map(|old| &old.instances) {
                if !state.instances.contains_key(name) {
                    inner.line(format!("{pool} {name}"), format!("{name}: closed"), false);
                    closed.push((pool.clone(), was.clone()));
                }
            }
        }
    }
    let mut found = Vec::new();
    for (pool, row) in closed {
        found.extend(whole::closed_clean(books, github, &pool, &row));
    }
    if let Some((pool, _)) = created.first() {
        found.extend(created_for_a_reason(books, github, pool));
    }
    found.extend(whole::now_and_then(books));
    books.after(found);
    drop_and_tell(books);
}
