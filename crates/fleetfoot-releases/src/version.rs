//! Versions of the runner: read out of names, and compared.

/// Whether `text` is a version as GitHub writes them, such as `2.336.0`. It may name a directory.
pub(crate) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &&str| {
        !part.is_empty() && part.len() < 8 && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    (2..=4).contains(&parts.len()) && parts.iter().all(number)
}

/// The version that the name of an archive or an image tells, if it is GitHub's own naming:
/// `actions-runner-linux-x64-2.336.0.tar.gz`, `ghcr.io/actions/actions-runner:2.336.0`.
#[must_use]
pub fn version_named(name: &str) -> Option<String> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let rest = last.strip_prefix("actions-runner")?;
    let version = match rest.strip_prefix(':') {
        Some(tag) => tag.split('@').next().unwrap_or(tag),
        None => rest.strip_suffix(".tar.gz")?.rsplit('-').next()?,
    };
    is_version(version).then(|| version.to_owned())
}

/// Whether `one` came before `other`.
pub(crate) fn is_older(one: &str, other: &str) -> bool {
    let numbers = |version: &str| -> Vec<u64> {
        version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    numbers(one) < numbers(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_versions() {
        for (name, version) in [
            ("/srv/actions-runner-linux-x64-2.336.0.tar.gz", Some("2.336.0")),
            ("ghcr.io/actions/actions-runner:2.336.0", Some("2.336.0")),
            ("ghcr.io/actions/actions-runner:2.336.0@sha256:00", Some("2.336.0")),
            ("ghcr.io/actions/actions-runner:latest", None),
            ("ghcr.io/acme/runner:2.336.0", None),
            ("/srv/runner.tar.gz", None),
            ("actions-runner", None),
        ] {
            assert_eq!(version_named(name).as_deref(), version, "{name}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(is_older("2.99.0", "2.336.0") && !is_older("2.336.0", "2.336.0"));
        assert!(is_version("2.336.0") && !is_version("..") && !is_version("2") && !is_version(""));
    }
}
