//! Names that go out, of scale sets and of runners, and ids that come in.

use uuid::Uuid;

/// The name of a target's scale set (13.3).
#[must_use]
pub fn scale_set(prefix: &str, scope: &str) -> String {
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    let scope: String = scope.chars().map(plain).collect();
    format!("{prefix}-{}", scope.trim_matches('-'))
}

/// What every runner's name begins with, before its uuid. Plugins read it.
pub const RUNNER_PREFIX: &str = "myshoes-";

/// A uuid in any form that is taken: canonical in either case, its digits alone, in braces, after `urn:uuid:`.
#[must_use]
pub fn uuid(text: &str) -> Option<Uuid> {
    let has_prefix_in_capitals = text.starts_with('U');
    (!has_prefix_in_capitals).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// The uuid in a runner's name.
#[must_use]
pub fn runner_uuid(name: &str) -> Option<Uuid> {
    name.strip_prefix(RUNNER_PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_sets_are_named_as_the_original_names_them() {
        for (prefix, scope, name) in [
            ("myshoes", "myorg", "myshoes-myorg"),
            ("myshoes", "myorg/myrepo", "myshoes-myorg-myrepo"),
            ("prefix", "org/repo-name_v2", "prefix-org-repo-name-v2"),
            ("test", "org.com/repo.name", "test-org-com-repo-name"),
            ("myshoes", "_org_", "myshoes-org"),
        ] {
            assert_eq!(scale_set(prefix, scope), name);
        }
    }

    #[test]
    fn a_runner_has_its_uuid_in_its_name() {
        let name = "myshoes-3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";
        assert_eq!(runner_uuid(name).unwrap().to_string(), name[8..]);
        for other in ["myshoes-", "other-3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1", "myshoes-x"] {
            assert_eq!(runner_uuid(other), None, "{other}");
        }
    }
}
