//! What differs when the program is called `outrunner`: the original's command line, texts and log
//! lines, so that its unit files, scripts and alert rules keep working.

pub mod args;
pub mod complete;
pub mod log;

use std::path::Path;

use fleetfoot_core::{Phase, PoolName};
use fleetfoot_store::{Search, StateDir, StateDirError, Store};

use crate::config::credentials::go_io_error;
use crate::config::{Class, Finding, LoadError, Original, Report};

/// Tells of the pools that have nothing left, and of those of which something was still being done: the original's lines, one
/// for each of its workers. What waits for a job or runs one is left on purpose, and told of elsewhere.
pub(crate) fn stopped(store: &Store, named: &[PoolName], clean: bool) {
    let pools = store.pools();
    let mut told = clean;
    for pool in named {
        let Some(state) = pools.get(pool).filter(|it| !it.instances.is_empty()) else {
            tracing::info!(%pool, "all instances left");
            continue;
        };
        if !clean && state.instances.values().any(|it| !is_left_on_purpose(it.phase)) {
            tracing::warn!(%pool, "shutdown timed out");
            told = true;
        }
    }
    if !told {
        // A session that would not close, or the removal of what no row names.
        tracing::warn!("some calls did not end in time; the next start goes on from their rows");
    }
}

/// It waits for a job or runs one; a runner that starts may still be about to be launched.
fn is_left_on_purpose(phase: Phase) -> bool {
    match phase {
        Phase::Warm | Phase::Idle | Phase::Running => true,
        Phase::Pending | Phase::Creating | Phase::Starting | Phase::Stopping | Phase::Closed => {
            false
        }
    }
}

/// Where the state is; of a `file` of the original that is not the usual one, in a place of its own: the original keeps
/// none, so several of it run on one host with a file each.
pub(crate) fn state_dir(search: &Search, file: Option<&Path>) -> Result<StateDir, StateDirError> {
    match file.filter(|file| *file != Path::new(args::USUAL_FILE)) {
        Some(file) => StateDir::resolve_of_file(search, file),
        None => StateDir::resolve(search),
    }
}

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
        return format!("parse config: yaml: {}", yaml(&unreadable));
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

/// In the words of the original's YAML library, where all of them are known.
fn yaml(findings: &[&Finding]) -> String {
    let alone = |it: &&Finding| match &it.original {
        Some(Original::Alone(words)) => Some(words.clone()),
        Some(Original::Listed(_)) | None => None,
    };
    if let Some(words) = findings.iter().find_map(alone) {
        return words;
    }
    let listed = |it: &&Finding| match (&it.original, it.position) {
        (Some(Original::Listed(words)), Some(at)) => Some(format!("\n  line {}: {words}", at.line)),
        (Some(Original::Listed(_) | Original::Alone(_)) | None, _) => None,
    };
    if let Some(lines) = findings.iter().map(listed).collect::<Option<String>>() {
        return format!("unmarshal errors:{lines}");
    }
    findings.iter().map(|it| yaml_line(it)).collect::<Vec<_>>().join("; ")
}

fn yaml_line(finding: &Finding) -> String {
    let line = finding.position.map_or_else(String::new, |p| format!("line {}: ", p.line));
    let key = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
    let message = finding.message.strip_prefix("not YAML: ").unwrap_or(&finding.message);
    format!("{line}{key}{message}")
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
