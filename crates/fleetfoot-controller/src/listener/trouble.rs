//! What keeps a session from being open, and what it asks for.

use std::time::Duration;

use fleetfoot_github::{Advice, ErrorKind, GithubError};

/// What keeps a session from being open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Github(#[from] GithubError),
    #[error("no runner group is named `{0}`, or the credential may not see it")]
    NoSuchGroup(String),
    #[error("the store did not take in what GitHub said: {0}")]
    Store(String),
}

impl Trouble {
    pub(super) fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Github(error) => Some(error.kind()),
            Self::NoSuchGroup(_) | Self::Store(_) => None,
        }
    }

    /// The least time GitHub wants to be left alone.
    pub(super) fn asked(&self) -> Duration {
        match self {
            Self::Github(error) => match error.advice() {
                Advice::Wait(wait) => wait,
                Advice::Retry | Advice::GiveUp => Duration::ZERO,
            },
            Self::NoSuchGroup(_) => Duration::from_secs(30),
            Self::Store(_) => Duration::ZERO,
        }
    }

    pub(super) fn detail(&self) -> String {
        match self {
            Self::Github(error) => error.chain(),
            Self::NoSuchGroup(_) | Self::Store(_) => self.to_string(),
        }
    }
}
