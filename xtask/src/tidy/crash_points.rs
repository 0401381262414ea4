//! The page of crash points names what the sources have, no more and no less.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::crash::{PAGE, names_in_page, points};

/// All findings.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let points = points::read(root)?;
    Ok(compare(&names_in_page(&page), &points.into_keys().collect()))
}

fn compare(page: &BTreeSet<String>, sources: &BTreeSet<String>) -> Vec<String> {
    let missing = sources.difference(page).map(|name| {
        format!("{PAGE}: does not name `{name}`: cargo xtask crash --points {name} --write-docs")
    });
    let stale = page.difference(sources).map(|name| format!("{PAGE}: `{name}` is no crash point"));
    missing.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_held_against_each_other() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(compare(&set(&["a"]), &set(&["a"])), Vec::<String>::new());
        assert_eq!(compare(&set(&["a", "b"]), &set(&["a", "c"])).len(), 2);
    }
}
