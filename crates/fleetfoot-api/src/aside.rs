//! Pools that are wanted and not served at all.

use serde::{Deserialize, Serialize};

/// A pool that is wanted and not served at all: it has no place in the list of pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// The name it would have.
    pub name: String,
    /// Why, in a sentence.
    pub reason: String,
}
