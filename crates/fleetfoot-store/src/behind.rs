//! When the store is behind what is true outside, and why (design, 11.4).

use std::fmt;

use fleetfoot_core::Timestamp;

/// Why the store may know less than what is true outside. Until every backend was looked at once, nothing
/// new is made, and what carries our evidence is looked at twice before anything is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// It was made anew although an identity of before was there.
    Lost,
    /// It is a backup that was put in place.
    Restored {
        /// When the backup was taken, if it says so.
        taken_at: Option<Timestamp>,
    },
    /// It is not the copy that was last used here.
    Older,
    /// Its write-ahead log was taken away, and the last commits with it.
    LogGone,
}

impl Behind {
    /// The word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Restored { .. } => "restored",
            Self::Older => "older",
            Self::LogGone => "log_gone",
        }
    }

    /// The word in the store, which once knew only lost ones.
    pub(crate) fn stored(behind: Option<Self>) -> &'static str {
        match behind {
            None => "no",
            Some(Self::Lost) => "yes",
            Some(behind @ (Self::Restored { .. } | Self::Older | Self::LogGone)) => behind.as_str(),
        }
    }

    pub(crate) fn from_stored(word: &str, taken_at: Option<Timestamp>) -> Option<Self> {
        match word {
            "no" => None,
            "restored" => Some(Self::Restored { taken_at }),
            "older" => Some(Self::Older),
            "log_gone" => Some(Self::LogGone),
            // A word that this version does not know asks for care as well.
            _ => Some(Self::Lost),
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "the store was lost and made anew",
            Self::Restored { .. } => "the store was restored from a backup",
            Self::Older => "the store is not the copy that was last used here",
            Self::LogGone => {
                "the store's write-ahead log was taken away, and its last commits with it"
            }
        })
    }
}
