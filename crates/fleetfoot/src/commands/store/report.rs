//! What `store check` shows.

use std::collections::BTreeMap;

use fleetfoot_core::Timestamp;
use fleetfoot_server::views::time::rfc3339;
use fleetfoot_store::Report;
use serde::Serialize;

use crate::commands::output::visible;

/// The report for programs.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    ok: bool,
    place: String,
    database: &'static str,
    installation: Option<String>,
    created_at: Option<String>,
    schema: i64,
    known_schema: i64,
    written_by: Option<String>,
    backup_taken_at: Option<String>,
    behind: Option<&'static str>,
    rows: BTreeMap<&'static str, u64>,
    closed_instances: u64,
    oldest_event: Option<String>,
    file_bytes: Option<u64>,
    log_bytes: Option<u64>,
    free_bytes: Option<u64>,
    findings_count: u64,
    findings: Vec<String>,
}

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(rfc3339)
}

impl Shown {
    pub(super) fn of(report: &Report) -> Self {
        Self {
            ok: report.is_good(),
            place: report.place.clone(),
            database: report.database,
            installation: report.installation.clone(),
            created_at: time(report.created_at),
            schema: report.schema,
            known_schema: report.known_schema,
            written_by: report.written_by.clone(),
            backup_taken_at: time(report.backup_taken_at),
            behind: report.behind.map(fleetfoot_store::Behind::as_str),
            rows: report.rows.clone(),
            closed_instances: report.closed_instances,
            oldest_event: time(report.oldest_event),
            file_bytes: report.file_bytes,
            log_bytes: report.log_bytes,
            free_bytes: report.free_bytes,
            findings_count: report.findings_count,
            findings: report.findings.clone(),
        }
    }
}

/// The report for people.
pub(super) fn text(report: &Report) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let written_by = or_dash(report.written_by.clone());
    let mut lines = vec![
        format!("store         {} ({})", report.place, report.database),
        format!("installation  {}", or_dash(report.installation.clone())),
        format!("made          {}", or_dash(time(report.created_at))),
        format!("schema        {} of {}, by {written_by}", report.schema, report.known_schema),
    ];
    if let Some(taken_at) = report.backup_taken_at {
        lines.push(format!("backup of     {}", rfc3339(taken_at)));
    }
    if let Some(behind) = report.behind {
        lines.push(format!("note          {behind}; not everything outside was looked at since"));
    }
    if let (Some(file), Some(log), Some(free)) =
        (report.file_bytes, report.log_bytes, report.free_bytes)
    {
        lines.push(format!(
            "bytes         {file} in the file, {free} of them free, {log} in the log"
        ));
    }
    let rows: Vec<String> = report
        .rows
        .iter()
        .map(|(table, rows)| format!("{} {rows}", table.replace('_', " ")))
        .collect();
    lines.push(format!(
        "rows          {}",
        if rows.is_empty() { "none".into() } else { rows.join(", ") }
    ));
    let closed = report.closed_instances;
    lines.push(format!(
        "history       {closed} closed instances, events since {}",
        or_dash(time(report.oldest_event))
    ));
    for finding in &report.findings {
        lines.push(format!("finding       {}", visible(finding).replace('\n', " ")));
    }
    let told = u64::try_from(report.findings.len()).unwrap_or(u64::MAX);
    if report.findings_count > told {
        lines.push(format!("finding       and {} more", report.findings_count - told));
    }
    lines.push(if report.is_good() { "ok".to_owned() } else { "not ok".to_owned() });
    lines.join("\n")
}
