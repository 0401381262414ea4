//! The list of crash points, read from the sources: a new point is covered at once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// What a point looks like in a source, up to its name.
const CALL: &str = "fleetfoot_faults::point(";

/// Every point by name, with the file that has it.
pub(crate) fn read(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut points = BTreeMap::new();
    let crates = root.join("crates");
    for entry in std::fs::read_dir(&crates).context("cannot list crates")? {
        collect(root, &entry?.path().join("src"), &mut points)?;
    }
    ensure!(!points.is_empty(), "no source has a crash point");
    Ok(points)
}

fn collect(root: &Path, dir: &Path, points: &mut BTreeMap<String, String>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, points)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            points.extend(names(&text).map(|name| (name.to_owned(), file.clone())));
        }
    }
    Ok(())
}

/// The names in one source, without those that a comment shows.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(CALL).filter_map(|(at, call)| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        let literal = text[at + call.len()..].trim_start().strip_prefix('"')?;
        let is_comment = line.trim_start().starts_with("//");
        literal.split('"').next().filter(|_| !is_comment)
    })
}

/// Whether `name` is asked for: a part of it, or with `*` all of it.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let mut rest = name;
    let mut parts = pattern.split('*').peekable();
    let mut is_first = true;
    while let Some(part) = parts.next() {
        let found = match (is_first, parts.peek().is_none()) {
            (true, _) => rest.starts_with(part).then_some(0),
            (false, true) => rest.len().checked_sub(part.len()).filter(|at| &rest[*at..] == part),
            (false, false) => rest.find(part),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
        is_first = false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_where_they_are_passed_and_nowhere_else() {
        let text = "
            /// fleetfoot_faults::point(\"shown.only\");
            fleetfoot_faults::point(\"a.b.before\");
            Self::X => fleetfoot_faults::point(
                \"a.c.after\",
            ),
            fleetfoot_faults::point(name);";
        assert_eq!(names(text).collect::<Vec<_>>(), ["a.b.before", "a.c.after"]);
    }

    #[test]
    fn patterns_are_parts_or_have_stars() {
        for (pattern, wanted) in [
            ("commit", true),
            ("store.*", true),
            ("*.after", true),
            ("store.*.after", true),
            ("store.*.before", false),
            ("commit.*", false),
            ("github", false),
            ("*", true),
        ] {
            assert_eq!(matches(pattern, "store.commit.after"), wanted, "{pattern}");
        }
    }
}
