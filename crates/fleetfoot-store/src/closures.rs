//! The closures of one batch: run one after another, answered together.
//!
//! Among several controllers a closure that touches a pool of another one is refused, and so is, when the
//! database says only at the commit that a pool was taken, every closure that touched it; the others commit.

use std::collections::BTreeSet;

use fleetfoot_core::PoolName;

use crate::batch::Working;
use crate::error::UpdateError;
use crate::names::Names;
use crate::shared::Shared;
use crate::txn::{Done, Txn};
use crate::writer::{Job, Reply};

/// A closure that ran and waits for its fate.
struct Ran {
    reply: Reply,
    /// What it did; kept only where a fence may refuse it.
    done: Option<Done>,
}

/// The closures of a batch, and what they changed together.
pub(crate) struct Batch {
    pub(crate) working: Working,
    ran: Vec<Ran>,
}

impl Batch {
    /// Runs the closures. Those that may not do what they did are answered at once.
    pub(crate) fn run(shared: &Shared, names: &Names, jobs: Vec<Job>) -> Self {
        let mut working = Working::on(shared.present(), shared.writable());
        let fenced = working.owned.is_some();
        let mut ran = Vec::with_capacity(jobs.len());
        for job in jobs {
            let mut txn = Txn::new(&working, names);
            let Some(reply) = job(&mut txn) else { continue };
            if let Some(pool) = txn.foreign() {
                let pool = pool.clone();
                reply(Err(UpdateError::NotOwner { pool }));
                continue;
            }
            let done = txn.done();
            let kept = done.as_ref().filter(|_| fenced).cloned();
            ran.push(Ran { reply, done: kept });
            if let Some(done) = done {
                done.merge(&mut working);
            }
        }
        Self { working, ran }
    }

    /// How many wait for their fate.
    pub(crate) fn len(&self) -> usize {
        self.ran.len()
    }

    /// Refuses the closures that touched `pool`, and those that built on what these did elsewhere.
    pub(crate) fn refuse(&mut self, pool: &PoolName) {
        let present = self.working.present.clone();
        let owned = self.working.owned.take();
        self.working = Working::on(present, owned);
        let mut tainted = BTreeSet::from([pool.clone()]);
        let mut kept = Vec::with_capacity(self.ran.len());
        for Ran { reply, done } in std::mem::take(&mut self.ran) {
            let touched = done.as_ref().map(Done::touched).unwrap_or_default();
            if touched.is_disjoint(&tainted) {
                if let Some(done) = &done {
                    done.clone().merge(&mut self.working);
                }
                kept.push(Ran { reply, done });
            } else {
                tainted.extend(touched);
                reply(Err(UpdateError::Fenced { pool: pool.clone() }));
            }
        }
        self.ran = kept;
    }

    /// Tells every closure its fate; what they changed together.
    pub(crate) fn answer(self, fate: &Result<(), UpdateError>, publish: impl FnOnce(Working)) {
        if fate.is_ok() {
            publish(self.working);
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.reply.before");
        for Ran { reply, .. } in self.ran {
            reply(fate.clone());
        }
    }
}
