//! What is done about a disagreement, and who disagrees.

/// What is done about a disagreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Remedy {
    /// The row learns what is true; the plan goes on from there.
    Record,
    /// A row is made for it, on its way out through the removal gate; a busy one comes back as running.
    TakeUp,
    /// It is removed through the removal gate: never while GitHub calls it busy.
    Gate,
    /// Its registration is removed; GitHub refuses while it is busy.
    Deregister,
    /// What is left at the backend is deleted: it cannot run a job any more.
    Delete,
    /// The row is closed.
    Close,
    /// It is looked at again until it is over.
    AskAgain,
    /// It is left alone and told to the operator.
    Report,
}

impl Remedy {
    /// What is done, as a clause.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Record => "the row takes it in, and the plan goes on from there",
            Self::TakeUp => "a row is made for it, and it goes through the removal gate",
            Self::Gate => "removed through the gate: never while GitHub calls it busy",
            Self::Deregister => {
                "its registration is removed, which GitHub refuses while it is busy"
            }
            Self::Delete => "deleted at the backend",
            Self::Close => "the row is closed",
            Self::AskAgain => "looked at again until it is over",
            Self::Report => "left alone and told",
        }
    }
}

/// The sides that disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Backend and store.
    BackendStore,
    /// GitHub and store.
    GithubStore,
    /// GitHub and backend: the row knows both.
    GithubBackend,
    /// The store alone: nothing else is left.
    Store,
}

impl Sides {
    /// The sides in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::BackendStore => "backend, store",
            Self::GithubStore => "GitHub, store",
            Self::GithubBackend => "GitHub, backend",
            Self::Store => "store",
        }
    }
}
