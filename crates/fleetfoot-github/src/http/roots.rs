//! Which certificate authorities a client trusts.

use std::fmt;

/// Which certificate authorities are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// Those of this machine.
    System,
    /// Mozilla's list, compiled in, because this machine has none (a container from scratch).
    BuiltIn,
    /// None: only plain HTTP is spoken, so they were not loaded.
    None,
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::BuiltIn => "built in",
            Self::None => "none",
        })
    }
}
