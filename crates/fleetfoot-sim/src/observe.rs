//! Who watches a box in the same process: each request as it is answered, each registration as it is made.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::faults::Endpoint;

/// What a box saw, at the moment it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A request is about to be done or refused.
    Asked {
        /// Which kind.
        endpoint: Endpoint,
        /// About this scope.
        scope: Option<String>,
        /// About this scale set.
        scale_set: Option<String>,
        /// About this runner.
        runner: Option<String>,
        /// About this message.
        message: Option<i64>,
        /// What a poll advertises.
        capacity: Option<u32>,
    },
    /// The same request was answered.
    Answered {
        /// Which kind.
        endpoint: Endpoint,
        /// About this scope.
        scope: Option<String>,
        /// About this scale set.
        scale_set: Option<String>,
        /// About this runner.
        runner: Option<String>,
        /// With this status; 0 when the connection was cut instead.
        status: u16,
        /// Asking to be left alone for so many seconds.
        retry_after_s: Option<u64>,
    },
}

pub(crate) type Observer = Arc<dyn Fn(&Seen) + Send + Sync>;

/// The observer, if there is one.
#[derive(Default)]
pub(crate) struct Watching(Mutex<Option<Observer>>);

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watching")
    }
}

impl Watching {
    pub(crate) fn set(&self, observer: Observer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    pub(crate) fn tell(&self, seen: impl FnOnce() -> Seen) {
        let observer = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            observer(&seen());
        }
    }
}
