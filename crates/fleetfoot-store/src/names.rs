//! Names that were used and may not be used again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The names of all closed instances, as hashes: enough to refuse their reuse.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<u64>);

impl Names {
    fn hash(name: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn insert(&mut self, name: &str) {
        self.0.insert(Self::hash(name));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(&Self::hash(name));
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(&Self::hash(name))
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
