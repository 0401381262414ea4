//! The table of components that `cargo xtask test` ends with.

use std::fmt::Write as _;

use super::{Kind, Outcome, Usage};

/// One line a component: its name, what became of it, and its version or the reason.
pub(crate) fn table(outcomes: &[(Kind, Outcome)]) -> String {
    let mut text = String::from("component    outcome    details\n");
    for (kind, outcome) in outcomes {
        let driven;
        let (word, details) = match outcome {
            Outcome::Up { version, usage: None } => ("up", version.as_str()),
            Outcome::Up { version, usage: Some(Usage { count, noun }) } => {
                driven = format!("{version}, {count} {noun}");
                (if *count == 0 { "not driven" } else { "driven" }, driven.as_str())
            }
            Outcome::NotFound => {
                ("not found", "tests that need it were skipped; --install brings it")
            }
            Outcome::Skipped { reason } => ("skipped", reason.as_str()),
            Outcome::Failed { reason } => ("FAILED", reason.as_str()),
        };
        let _ = writeln!(text, "{:12} {word:10} {details}", kind.title());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(version: &str, usage: Option<Usage>) -> Outcome {
        Outcome::Up { version: version.into(), usage }
    }

    #[test]
    fn every_outcome_has_its_line() {
        let outcomes = vec![
            (Kind::Docker, up("20.10", Some(Usage { count: 3, noun: "container events" }))),
            (Kind::Postgres, up("15", Some(Usage { count: 0, noun: "sessions" }))),
            (Kind::Podman, Outcome::NotFound),
            (Kind::Bubblewrap, Outcome::Skipped { reason: "no namespaces".into() }),
            (Kind::MariaDb, Outcome::Failed { reason: "not ready".into() }),
        ];
        let text = table(&outcomes);
        assert!(text.contains("dockerd      driven     20.10, 3 container events\n"), "{text}");
        assert!(text.contains("PostgreSQL   not driven 15, 0 sessions\n"), "{text}");
        assert!(text.contains("Podman       not found "), "{text}");
        assert!(text.contains("bubblewrap   skipped    no namespaces\n"), "{text}");
        assert!(text.contains("MariaDB      FAILED     not ready\n"), "{text}");
    }
}
