//! What keeps a long world small: what is over is judged every simulated hour, and forgotten soon.
//!
//! A year has hundreds of thousands of jobs and instances. Of a name that is closed, gone at its engine and at
//! GitHub for ten minutes nothing is kept but a number, so that it is still noticed if it is given again.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetfoot_core::InstanceName;
use fleetfoot_provisioner::simulated::SimulatedEngine;
use tokio::time::Instant;

use crate::books::{Inner, Machine};
use crate::finish;
use crate::incarnation::POLLS_MAX;
use crate::stage::Stage;

/// Worlds of more hours than this are long.
pub(crate) const LONG_HOURS: f64 = 6.0;
/// Completed jobs that the box of a long world remembers: more than end in an hour, for they are judged by then.
pub(crate) const HISTORY_MAX: usize = 10_000;
/// How often jobs are judged.
const JUDGED_EVERY: Duration = Duration::from_secs(3600);
/// How often what is over is forgotten: what the checks of every step go through stays small.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(600);
/// What a job may be excused by is kept as long as this.
const EXCUSES_MS: u64 = 24 * 3_600_000;

/// What a long world remembers between two looks.
#[derive(Default)]
pub(crate) struct Keeping {
    next: Option<Instant>,
    next_judged: Option<Instant>,
    /// Names whose machine a fault took, and that were over when jobs were judged: their jobs are excused.
    excused: BTreeSet<InstanceName>,
    /// Names that were over at the look before.
    over: BTreeSet<InstanceName>,
    /// Jobs that were completed until then are judged.
    pub(crate) judged_until_us: u64,
    /// Polls of this life at the look before.
    pub(crate) polls: u64,
}

impl Stage {
    /// Judges and forgets what is over, now and then in a long world.
    pub(crate) fn keep_small(&mut self) {
        let now = Instant::now();
        let is_due = |next: Option<Instant>| next.is_none_or(|next| next <= now);
        if !self.long || !is_due(self.keeping.next) {
            return;
        }
        self.keeping.next = Some(now + FORGOTTEN_EVERY);
        self.go_on();
        let judges = is_due(self.keeping.next_judged);
        if judges {
            self.keeping.next_judged = Some(now + JUDGED_EVERY);
            self.judge();
        }
        self.engines.iter().for_each(SimulatedEngine::forget_calls);
        let runners = self.github.runners();
        let registered: BTreeSet<&str> = runners.iter().map(|it| it.name.as_str()).collect();
        let mut inner = self.books.lock();
        let mut over = inner.over(&registered);
        let killed = |name: &&InstanceName| inner.names.get(*name).is_some_and(|book| book.killed);
        if judges {
            self.keeping.excused = over.iter().filter(killed).cloned().collect();
        }
        let excused = &self.keeping.excused;
        over.retain(|name| !killed(&name) || excused.contains(name));
        for name in over.intersection(&self.keeping.over) {
            inner.names.remove(name);
            inner.past.insert(number(name));
        }
        inner.forget();
        drop(inner);
        self.keeping.over = over;
        self.tell_progress();
    }

    /// The end of the world: nothing of it stays in memory.
    pub(crate) fn end(&mut self) {
        for life in [self.incarnation.take(), self.second.take()].into_iter().flatten() {
            life.gate.end();
        }
        let mut inner = self.books.lock();
        inner.members.clear();
        inner.github = None;
        inner.manners.engines.clear();
        let actors = std::mem::take(&mut inner.actors);
        drop(inner);
        // They hold the books, and the books held them.
        self.engines.iter().for_each(SimulatedEngine::forget_observers);
        actors.into_values().for_each(|actor| actor.abort());
    }

    fn judge(&mut self) {
        for wrong in finish::judged(self) {
            wrong.tell(&self.books);
        }
        let until = self.keeping.judged_until_us;
        let completed = self.github.jobs_since(until).into_iter().filter_map(|it| it.completed_us);
        self.keeping.judged_until_us = completed.max().unwrap_or(until);
    }

    /// A controller that polls too often spins; a long life has its share of every hour.
    fn go_on(&mut self) {
        if let Some(life) = self.incarnation.as_ref().filter(|_| !self.doomed()) {
            self.keeping.polls = life.gate.polls();
            life.gate.shut_after(POLLS_MAX);
        }
        if let Some(life) = &self.second {
            life.gate.shut_after(POLLS_MAX);
        }
    }
}

impl Inner {
    fn over(&self, registered: &BTreeSet<&str>) -> BTreeSet<InstanceName> {
        let over = self.names.iter().filter(|(name, book)| {
            let gone = matches!(book.machine, Machine::None | Machine::Gone);
            gone && !registered.contains(name.as_str()) && !self.has_row(name)
        });
        over.map(|(name, _)| name.clone()).collect()
    }

    fn forget(&mut self) {
        let now = self.now_ms();
        self.actors.retain(|_, actor| !actor.is_finished());
        let counts =
            |span: &(u64, Option<u64>)| span.1.is_none_or(|until| until + EXCUSES_MS > now);
        self.away.retain(counts);
        self.pools.values_mut().for_each(|book| book.full.retain(counts));
        self.manners.forget(now);
    }

    /// It was given, closed and forgotten before.
    pub(crate) fn is_past(&self, name: &InstanceName) -> bool {
        !self.past.is_empty() && self.past.contains(&number(name))
    }
}

/// A digest of a name.
fn number(name: &InstanceName) -> u64 {
    fleetfoot_core::naming::fnv1a(name.as_str().bytes())
}
