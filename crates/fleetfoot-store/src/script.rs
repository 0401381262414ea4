//! What a simulated world does to commits: lets them fail, loses their answers, ends the program around them.
//!
//! Only the inline execution asks; production never has a script.

use std::fmt;
use std::sync::Arc;

use fleetfoot_core::PoolName;

use crate::shared::Pools;

/// What becomes of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is made durable.
    Commit,
    /// Another program holds the database.
    Busy,
    /// The disk is full.
    Full,
    /// It is made durable, and its answer is lost.
    Doubt,
    /// The program ends before it: nothing is written, and no caller hears anything any more.
    HaltBefore,
    /// The program ends after it: it is durable, and no caller hears anything any more.
    HaltAfter,
}

/// Decides over commits, and sees them.
pub trait Script: Send + Sync {
    /// A transaction is about to be written.
    fn before(&self) -> Fate;

    /// The present that was just published, and the pools that the commit touched: what it shows of others is
    /// as old as the last heartbeat where several controllers share the database.
    fn committed(&self, present: &Arc<Pools>, touched: &[PoolName]);
}

/// A script, or none.
#[derive(Clone, Default)]
pub struct Scripted(pub Option<Arc<dyn Script>>);

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "scripted" } else { "as it comes" })
    }
}

impl Scripted {
    pub(crate) fn fate(&self) -> Fate {
        self.0.as_ref().map_or(Fate::Commit, |script| script.before())
    }
}
