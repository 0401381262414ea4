//! Parts of documents that are written from the code: a change of the one without the other is a finding.

use std::path::Path;

use anyhow::{Context, Result};
use fleetfoot_core::Discrepancy;

const BEGIN: &str = "<!-- discrepancies: written by `cargo xtask tidy --update` -->\n";
const END: &str = "<!-- end of discrepancies -->\n";

/// The documents that have the table of disagreements between GitHub, a backend and the store.
const DOCUMENTS: [&str; 2] = ["ARCHITECTURE.md", "docs/troubleshooting.md"];

/// All findings.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let text = read(root, document)?;
        match filled(&text) {
            Some(wanted) if wanted == text => {}
            Some(_) => findings.push(format!(
                "{document}: its table of discrepancies is not the code's: `cargo xtask tidy --update` writes it"
            )),
            None => findings.push(format!("{document}: has no place for the table of discrepancies")),
        }
    }
    Ok(findings)
}

/// Writes what is generated.
pub(super) fn update(root: &Path) -> Result<()> {
    for document in DOCUMENTS {
        let text = read(root, document)?;
        if let Some(wanted) = filled(&text).filter(|wanted| *wanted != text) {
            std::fs::write(root.join(document), wanted)
                .with_context(|| format!("cannot write {document}"))?;
        }
    }
    Ok(())
}

fn read(root: &Path, document: &str) -> Result<String> {
    std::fs::read_to_string(root.join(document)).with_context(|| format!("cannot read {document}"))
}

/// The document with the table between its marks; `None` if it has none.
fn filled(text: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", Discrepancy::table()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_put_between_the_marks_and_nothing_else_changes() {
        let text = format!("a\n{BEGIN}yesterday\n{END}b\n");
        let once = filled(&text).unwrap();
        assert!(once.starts_with("a\n") && once.ends_with("b\n"));
        assert!(once.contains("machine_without_row") && !once.contains("yesterday"));
        assert_eq!(filled(&once), Some(once.clone()));
        assert_eq!(filled("no marks"), None);
    }
}
