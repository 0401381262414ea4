//! What a simulated engine is told to do wrong, and when.

use std::time::Duration;

use fleetfoot_core::{InstanceName, PoolName};

use crate::error::ErrorKind;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Make an environment.
    Create,
    /// Launch its runner.
    Launch,
    /// Remove it.
    Delete,
    /// List them.
    List,
    /// Read its output.
    Logs,
}

impl Operation {
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Create => "create environment",
            Self::Launch => "launch runner",
            Self::Delete => "delete environment",
            Self::List => "list environments",
            Self::Logs => "read logs",
        }
    }
}

/// How long each kind of call takes before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Of `create`.
    pub create: Duration,
    /// Of `launch`.
    pub launch: Duration,
    /// Of `delete`.
    pub delete: Duration,
    /// Of `list`.
    pub list: Duration,
}

impl Latency {
    /// The same for every kind of call.
    #[must_use]
    pub fn all(each: Duration) -> Self {
        Self { create: each, launch: each, delete: each, list: each }
    }

    pub(super) fn of(self, operation: Operation) -> Duration {
        match operation {
            Operation::Create => self.create,
            Operation::Launch => self.launch,
            Operation::Delete => self.delete,
            Operation::List => self.list,
            Operation::Logs => Duration::ZERO,
        }
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens; the answer is an error of this kind and these words.
    Fail(ErrorKind, String),
    /// Nothing happens and no answer comes.
    Hang,
    /// It happens, but the answer is lost.
    LostAnswer,
    /// It happens at once; the answer comes after this time.
    LateAnswer(Duration),
    /// No answer comes; it happens after this time, whether or not the caller still waits.
    LandLate(Duration),
}

/// Calls that go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which kind of call.
    pub operation: Operation,
    /// Only of this pool (`create` alone knows its pool before it acts; other calls look it up).
    pub pool: Option<PoolName>,
    /// Only about this instance.
    pub name: Option<InstanceName>,
    /// This many matching calls go well first.
    pub skip: u32,
    /// This many go wrong; `None` is all.
    pub times: Option<u32>,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// Every call of this kind goes wrong so.
    #[must_use]
    pub fn all(operation: Operation, fault: Fault) -> Self {
        Self { operation, pool: None, name: None, skip: 0, times: None, fault }
    }

    /// Only the next call of this kind goes wrong so.
    #[must_use]
    pub fn once(operation: Operation, fault: Fault) -> Self {
        Self { times: Some(1), ..Self::all(operation, fault) }
    }

    /// The same, only for one pool.
    #[must_use]
    pub fn of_pool(mut self, pool: &PoolName) -> Self {
        self.pool = Some(pool.clone());
        self
    }

    /// The same, only about one instance.
    #[must_use]
    pub fn about(mut self, name: &InstanceName) -> Self {
        self.name = Some(name.clone());
        self
    }

    /// The fault for this call, if the rule speaks of it; counts it.
    pub(super) fn matches(
        &mut self,
        operation: Operation,
        pool: Option<&PoolName>,
        name: Option<&InstanceName>,
    ) -> Option<Fault> {
        let speaks = self.operation == operation
            && self.pool.as_ref().is_none_or(|wanted| Some(wanted) == pool)
            && self.name.as_ref().is_none_or(|wanted| Some(wanted) == name);
        if !speaks || self.times == Some(0) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        Some(self.fault.clone())
    }
}
