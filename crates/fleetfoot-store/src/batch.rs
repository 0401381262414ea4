//! What a batch of closures changed, and the statements that make it durable.
//!
//! Nobody marks anything as changed: the state before and the state after are compared. So a closure that
//! changed nothing, or changed it back, costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetfoot_core::{Instance, InstanceName, JobId, PoolName, PoolState, Timestamp};

use crate::event::Event;
use crate::floor;
use crate::history::FinishedJob;
use crate::homes::Present;
use crate::lease;
use crate::member::Owned;
use crate::rows;
use crate::shared::Pools;
use crate::sql::{Sql, Statement, Value};

/// A late word of GitHub about a closed instance.
#[derive(Debug, Clone)]
pub(crate) struct Amendment {
    pub(crate) name: InstanceName,
    pub(crate) job: Option<JobId>,
    pub(crate) result: Option<String>,
    pub(crate) at: Timestamp,
}

/// What closures write besides the present.
#[derive(Debug, Default, Clone)]
pub(crate) struct Past {
    pub(crate) closed: BTreeMap<InstanceName, Instance>,
    pub(crate) amendments: Vec<Amendment>,
    pub(crate) finished: Vec<FinishedJob>,
    pub(crate) events: Vec<Event>,
}

impl Past {
    pub(crate) fn append(&mut self, mut other: Self) {
        self.closed.append(&mut other.closed);
        self.amendments.append(&mut other.amendments);
        self.finished.append(&mut other.finished);
        self.events.append(&mut other.events);
    }

    /// Tells of something. Steps that a closure takes an instance through at once are one row: with its indexes it is
    /// as much work as the instance's own.
    pub(crate) fn tell(&mut self, event: Event) {
        match self.events.last_mut() {
            Some(last) if event.goes_on(last) => last.join(event),
            Some(_) | None => self.events.push(event),
        }
    }

    /// The pools that it tells of.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &PoolName> {
        let closed = self.closed.values().map(|instance| &instance.pool);
        let finished = self.finished.iter().map(|finished| &finished.pool);
        closed.chain(finished).chain(self.events.iter().filter_map(|event| event.pool.as_ref()))
    }
}

/// The working copy of a batch: the published state, and over it what its closures changed.
pub(crate) struct Working {
    pub(crate) base: Arc<Pools>,
    pub(crate) pools: BTreeMap<PoolName, Option<Arc<PoolState>>>,
    pub(crate) past: Past,
    /// The pools that may be changed; all of them, if nothing is said.
    pub(crate) owned: Option<Arc<Owned>>,
    /// Where instances of the published state are.
    pub(crate) present: Present,
}

impl Working {
    pub(crate) fn on(present: Present, owned: Option<Arc<Owned>>) -> Self {
        let base = Arc::clone(&present.pools);
        Self { base, pools: BTreeMap::new(), past: Past::default(), owned, present }
    }

    /// Whether closures may change the pool.
    pub(crate) fn may_change(&self, pool: &PoolName) -> bool {
        self.owned.as_ref().is_none_or(|owned| owned.contains_key(pool))
    }

    /// Every pool that the batch changes or tells of.
    pub(crate) fn touched(&self) -> BTreeSet<&PoolName> {
        self.pools.keys().chain(self.past.pools()).collect()
    }

    pub(crate) fn get(&self, name: &PoolName) -> Option<&Arc<PoolState>> {
        match self.pools.get(name) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(name),
        }
    }

    /// The statements of the batch. Pools that turn out to be unchanged are dropped from it.
    pub(crate) fn statements(&mut self, sql: &Sql) -> Vec<Statement> {
        let mut out = Vec::new();
        let base = &self.base;
        self.pools.retain(|name, new| match (base.get(name), new.as_deref()) {
            (Some(old), Some(new)) => {
                changed(sql, Some(old), new, &mut out);
                // A closed instance has its statement below, with the past.
                **old != *new
            }
            (None, Some(new)) => {
                changed(sql, None, new, &mut out);
                true
            }
            (Some(old), None) => {
                removed(sql, old, &mut out);
                true
            }
            (None, None) => false,
        });
        let Past { closed, amendments, finished, events } = &self.past;
        out.extend(closed.values().map(|instance| put_instance(sql, instance)));
        out.extend(amendments.iter().map(|amendment| amend(sql, amendment)));
        out.extend(finished.iter().map(|finished| Statement {
            sql: Arc::clone(&sql.put_history),
            values: rows::job::history_values(finished),
        }));
        out.extend(events.iter().map(|event| Statement {
            sql: Arc::clone(&sql.insert_event),
            values: rows::event::values(event),
        }));
        out
    }
}

fn put_instance(sql: &Sql, instance: &Instance) -> Statement {
    Statement { sql: Arc::clone(&sql.put_instance), values: rows::instance::values(instance) }
}

/// The statement that makes the row of `old` that of `new`, which both live.
fn change_instance(sql: &Sql, old: &Instance, new: &Instance) -> Statement {
    if (&old.job, old.created_at) != (&new.job, new.created_at) {
        return put_instance(sql, new);
    }
    let keeps_phase = old.phase == new.phase;
    let sql = if keeps_phase { &sql.keep_instance } else { &sql.move_instance };
    Statement { sql: Arc::clone(sql), values: rows::instance::changed_values(new, keeps_phase) }
}

fn amend(sql: &Sql, amendment: &Amendment) -> Statement {
    let Amendment { name, job, result, at } = amendment;
    Statement {
        sql: Arc::clone(&sql.amend_instance),
        values: vec![
            Value::maybe_text(job.as_ref().map(JobId::as_str)),
            Value::maybe_text(result.as_deref()),
            Value::Int(Some(at.0)),
            Value::text(name),
        ],
    }
}

fn delete_job(sql: &Sql, pool: &PoolName, job: &JobId) -> Statement {
    Statement {
        sql: Arc::clone(&sql.delete_job),
        values: vec![Value::text(pool), Value::text(job)],
    }
}

fn changed(sql: &Sql, old: Option<&PoolState>, new: &PoolState, out: &mut Vec<Statement>) {
    let name = &new.pool.name;
    let same_pool =
        old.is_some_and(|old| Arc::ptr_eq(&old.pool, &new.pool) || old.pool == new.pool);
    if !same_pool {
        out.push(Statement {
            sql: Arc::clone(&sql.put_pool),
            values: rows::pool::values(&new.pool),
        });
    }
    for (name, instance) in &new.instances {
        match old.and_then(|old| old.instances.get(name)) {
            Some(old) if Arc::ptr_eq(old, instance) || old == instance => {}
            Some(old) => out.push(change_instance(sql, old, instance)),
            None => out.push(put_instance(sql, instance)),
        }
    }
    for (id, job) in &new.jobs {
        let same = old
            .and_then(|old| old.jobs.get(id))
            .is_some_and(|old| Arc::ptr_eq(old, job) || old == job);
        if !same {
            out.push(Statement {
                sql: Arc::clone(&sql.put_job),
                values: rows::job::values(name, job),
            });
        }
    }
    let gone =
        old.into_iter().flat_map(|old| old.jobs.keys()).filter(|id| !new.jobs.contains_key(id));
    out.extend(gone.map(|id| delete_job(sql, name, id)));
}

fn removed(sql: &Sql, old: &PoolState, out: &mut Vec<Statement>) {
    let name = &old.pool.name;
    out.extend(old.jobs.keys().map(|id| delete_job(sql, name, id)));
    out.push(Statement { sql: Arc::clone(&sql.delete_pool), values: vec![Value::text(name)] });
    out.push(lease::forget(sql, name));
    out.push(floor::keep(sql, old));
}
