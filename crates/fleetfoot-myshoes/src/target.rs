//! What a target is: a repository or an organization, with the size of its machines.

use std::fmt;

use fleetfoot_core::{ResourceType, Timestamp};
use uuid::Uuid;

/// A row of `targets`, without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `uuid`
    pub id: Uuid,
    /// `org` or `owner/repo`, as it was written.
    pub scope: String,
    /// When the stored token ends; in the past where none is stored.
    pub token_expired_at: Timestamp,
    /// How big its machines are.
    pub resource_type: ResourceType,
    /// Stored and shown.
    pub provider_url: Option<String>,
    /// Where it is.
    pub status: Status,
    /// Why.
    pub status_description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// What brings its jobs, in place of what holds for all.
    pub mode: Option<Mode>,
    /// Machines at most, in place of the limit for all.
    pub max_runners: Option<u32>,
}

/// What brings a target's jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A scale set, polled for.
    ScaleSet,
    /// GitHub's deliveries.
    Webhook,
}

impl Mode {
    /// The mode of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "scaleset" => Some(Self::ScaleSet),
            "webhook" => Some(Self::Webhook),
            _ => None,
        }
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::ScaleSet => "scaleset",
            Self::Webhook => "webhook",
        }
    }
}

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It waits for jobs.
    Active,
    /// It has some.
    Running,
    /// An operator set it aside, in SQL.
    Suspend,
    /// It is deleted; the row stays.
    Deleted,
    /// Something failed; the description says what.
    Error,
    /// A word that somebody wrote into the row.
    Other(String),
}

impl Status {
    /// The status of this word.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "running" => Self::Running,
            "suspend" => Self::Suspend,
            "deleted" => Self::Deleted,
            "error" => Self::Error,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Its word.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Running => "running",
            Self::Suspend => "suspend",
            Self::Deleted => "deleted",
            Self::Error => "error",
            Self::Other(word) => word,
        }
    }

    /// It gets jobs.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        !matches!(self, Self::Suspend | Self::Deleted)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Puts targets that get jobs into the order in which they are listed: the newest first, of one moment the
/// smallest first.
#[must_use]
pub fn listed(targets: Vec<Target>) -> Vec<Target> {
    let mut targets: Vec<Target> =
        targets.into_iter().filter(|it| it.status.can_receive()).collect();
    // Stable: whatever else is equal stays as it came.
    targets.sort_by(|one, other| {
        other.created_at.cmp(&one.created_at).then(one.resource_type.cmp(&other.resource_type))
    });
    targets
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn target(scope: &str, status: Status) -> Target {
        Target {
            id: "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1".parse().unwrap(),
            scope: scope.to_owned(),
            token_expired_at: Timestamp(1_700_000_000_000),
            resource_type: ResourceType::Nano,
            provider_url: None,
            status,
            status_description: None,
            created_at: Timestamp(1_700_000_000_000),
            updated_at: Timestamp(1_700_000_001_999),
            mode: None,
            max_runners: None,
        }
    }

    #[test]
    fn words_come_back_and_two_get_no_jobs() {
        for word in ["active", "running", "suspend", "deleted", "error", "odd"] {
            assert_eq!(Status::of(word).word(), word);
            assert_eq!(Status::of(word).can_receive(), !matches!(word, "suspend" | "deleted"));
        }
    }

    #[test]
    fn modes_have_two_words() {
        for mode in [Mode::ScaleSet, Mode::Webhook] {
            assert_eq!(Mode::of(mode.word()), Some(mode));
        }
        assert_eq!(Mode::of("Webhook"), None);
    }

    #[test]
    fn the_newest_is_listed_first_and_of_one_moment_the_smallest() {
        let at = |scope: &str, created: i64, size: ResourceType| Target {
            created_at: Timestamp(created),
            resource_type: size,
            ..target(scope, Status::Active)
        };
        let targets = vec![
            at("old", 1, ResourceType::Nano),
            at("big", 5, ResourceType::XLarge),
            at("small", 5, ResourceType::Nano),
            at("micro", 5, ResourceType::Micro),
            target("gone", Status::Deleted),
            target("set aside", Status::Suspend),
        ];
        let scopes: Vec<String> = listed(targets).into_iter().map(|it| it.scope).collect();
        assert_eq!(scopes, ["small", "micro", "big", "old"]);
    }
}
