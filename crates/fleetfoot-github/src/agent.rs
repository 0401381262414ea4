//! What our requests say of themselves.

use reqwest::header::HeaderValue;
use serde::Serialize;

/// The same JSON shape that GitHub's own library sends, its fields in the same order.
#[derive(Serialize)]
struct Agent<'a> {
    system: &'a str,
    version: &'a str,
    commit_sha: &'a str,
    scale_set_id: i64,
    subsystem: &'a str,
    build_version: &'a str,
    build_commit_sha: &'a str,
    kind: &'a str,
}

/// The value of `User-Agent` for a part of ours.
pub(crate) fn of(subsystem: &str) -> HeaderValue {
    let version = env!("CARGO_PKG_VERSION");
    let agent = Agent {
        system: "fleetfoot",
        version,
        commit_sha: "",
        scale_set_id: 0,
        subsystem,
        build_version: version,
        build_commit_sha: "unknown",
        kind: "scaleset",
    };
    let text = serde_json::to_string(&agent).unwrap_or_default();
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("fleetfoot"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn its_fields_are_in_the_librarys_order() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            super::of("listener").to_str().unwrap(),
            format!(
                "{{\"system\":\"fleetfoot\",\"version\":\"{version}\",\"commit_sha\":\"\",\"scale_set_id\":0,\
                 \"subsystem\":\"listener\",\"build_version\":\"{version}\",\"build_commit_sha\":\"unknown\",\
                 \"kind\":\"scaleset\"}}"
            )
        );
    }
}
