//! What differs when the program is called `outrunner`: the original's command line, texts and log
//! lines, so that its unit files, scripts and alert rules keep working.

pub mod args;
pub mod log;

use crate::config::credentials::go_io_error;
use crate::config::{Class, Finding, LoadError, Report};

/// The original's text for a file that cannot be used: print it behind `Error: `.
#[must_use]
pub fn load_error(error: &LoadError) -> String {
    match error {
        LoadError::Read { path, source } => {
            format!("load config: read config: {}", go_io_error("open", path, source))
        }
        LoadError::Invalid(report) => format!("load config: {}", invalid(report)),
    }
}

/// The original stops at the first mistake, in a fixed order of kinds; runners are in name order.
fn invalid(report: &Report) -> String {
    let of = |wanted: &[Class]| -> Vec<&Finding> {
        report.errors().filter(|finding| wanted.contains(&finding.class)).collect()
    };
    let unreadable = of(&[Class::Syntax, Class::Type]);
    if !unreadable.is_empty() {
        let lines: Vec<String> = unreadable.into_iter().map(yaml_line).collect();
        return format!("parse config: yaml: {}", lines.join("; "));
    }
    if let Some(finding) = of(&[Class::NoRunners]).first() {
        return finding.message.clone();
    }
    let mut runners = of(&[Class::Labels, Class::Backend]);
    runners.sort_by_key(|finding| (runner_of(finding).to_owned(), finding.class));
    if let Some(finding) = runners.first() {
        return finding.message.clone();
    }
    report.errors().next().map_or_else(String::new, |finding| {
        let key = &finding.path;
        let runner = runner_of(finding);
        let mut text = match key.strip_prefix("runners.") {
            None => format!("{key}: {}", finding.message),
            Some(path) => match path.get(runner.len() + 1..) {
                Some(inner) if !inner.is_empty() => {
                    format!("runner \"{runner}\": {inner}: {}", finding.message)
                }
                _ => format!("runner \"{runner}\": {}", finding.message),
            },
        };
        if let Some(position) = finding.position {
            text.push_str(&format!(" (line {})", position.line));
        }
        text
    })
}

fn yaml_line(finding: &Finding) -> String {
    let line = finding.position.map_or_else(String::new, |p| format!("line {}: ", p.line));
    let key = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
    format!("{line}{key}{}", finding.message)
}

/// The runner a finding is about; names cannot be told from keys by their dots, so the message of
/// the original's own kinds names it in quotes.
fn runner_of(finding: &Finding) -> &str {
    let quoted = finding
        .message
        .strip_prefix("runner \"")
        .and_then(|rest| rest.split_once("\": "))
        .map(|(name, _)| name);
    let path = finding.path.strip_prefix("runners.").unwrap_or("");
    quoted.unwrap_or_else(|| path.split('.').next().unwrap_or(""))
}
