//! `fleetfoot status`: pools, runners and jobs at a glance.

use std::process::ExitCode;

use fleetfoot_api::{
    ControllerInfo, InstanceStatus, JobInfo, OwnerInfo, PoolStatus, RunnerInfo, SetAside, Source,
    Status,
};
use fleetfoot_core::{Span, Timestamp};
use fleetfoot_server::views::time::span;

use super::locate::{self, Asked};
use super::output::{print, print_json, table, visible};
use crate::cli::{Output, StatusArgs};
use crate::exit::CommandError;

/// Prints it.
///
/// # Errors
/// When neither daemon nor store can be asked.
pub async fn run(args: StatusArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let client = locate::client(&dir)?;
    let status = match locate::sort(client.status().await)? {
        Asked::Answer(status) => status,
        Asked::Absent => locate::read_store(&dir, &args.locate).await?.1.status(),
    };
    match args.output.output {
        Output::Text => print(&text(&status))?,
        Output::Json => print_json(&status)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The whole of it for people.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut text = headline(status);
    text.push('\n');
    if let Some(behind) = &status.behind {
        let of = behind.taken_at.as_ref().map_or_else(String::new, |at| format!(" of {at}"));
        let message = format!("{}{of}: everything outside is looked at once", behind.message);
        text.push_str(&format!("{message} before anything new is made\n"));
    }
    if status.pools.is_empty() {
        text.push_str("no pools\n");
        text.push_str(&set_aside(status));
        return text;
    }
    text.push('\n');
    let several = !status.controllers.is_empty();
    if several {
        let head = ["CONTROLLER", "HOST", "VERSION", "STATE", "POOLS"];
        let rows = status.controllers.iter().map(controller_row);
        text.push_str(&table(&head, &rows.collect::<Vec<_>>()));
        text.push('\n');
    }
    let mut head = vec![
        "POOL", "PHASE", "LISTENER", "WANTED", "RUNNING", "IDLE", "STARTING", "STOPPING", "LIMIT",
        "WAITING",
    ];
    head.extend(several.then_some("OWNER"));
    let mut rows = status.pools.iter().map(pool_row).collect::<Vec<_>>();
    if status.pools.iter().any(|pool| pool.warm > 0) {
        head.insert(WARM_AT, "WARM");
        for (row, pool) in rows.iter_mut().zip(&status.pools) {
            row.insert(WARM_AT, pool.warm.to_string());
        }
    }
    text.push_str(&table(&head, &rows));
    text.push_str(&causes(&status.pools));
    text.push_str(&old_runners(&status.pools));
    text.push_str(&disagreements(status));
    text.push_str(&set_aside(status));
    text.push('\n');
    if status.instances.is_empty() {
        text.push_str("no instances\n");
        return text;
    }
    let row = |instance: &InstanceStatus| instance_row(instance, &status.at);
    let head = ["INSTANCE", "POOL", "PHASE", "FOR", "JOB"];
    text.push_str(&table(&head, &status.instances.iter().map(row).collect::<Vec<_>>()));
    text
}

/// Where the pools that hold environments ready have a column more: after `IDLE`.
const WARM_AT: usize = 6;

fn headline(status: &Status) -> String {
    let version = &status.version;
    let state = match (status.source, status.stopping, status.ready) {
        (Source::Store, _, _) => return format!("fleetfoot {version}, no daemon runs"),
        (Source::Daemon, true, _) => "stopping",
        (Source::Daemon, false, true) => "ready",
        (Source::Daemon, false, false) => "starting: not every pool's poll is open yet",
    };
    let since = status.started_at.as_deref().and_then(|started| age(started, &status.at));
    match since {
        Some(since) => format!("fleetfoot {version}, {state}, started {since} ago"),
        None => format!("fleetfoot {version}, {state}"),
    }
}

fn pool_row(pool: &PoolStatus) -> Vec<String> {
    let listener = pool.listener.as_ref().map_or("-", |listener| listener.state.as_str());
    let limit = pool.max_runners.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let numbers = [pool.desired, pool.running, pool.idle, pool.starting, pool.stopping];
    let mut row = vec![pool.name.clone(), pool.phase.clone(), listener.to_owned()];
    row.extend(numbers.map(|number| number.to_string()));
    row.extend([limit, pool.waiting.len().to_string()]);
    row.extend(pool.owner.as_ref().map(owner_word));
    row
}

fn owner_word(owner: &OwnerInfo) -> String {
    let host = owner.host.as_deref().unwrap_or("unknown");
    match (owner.here, owner.alive) {
        (true, _) => "this one".to_owned(),
        (false, true) => host.to_owned(),
        (false, false) if owner.host_bound => format!("{host} (unreachable)"),
        (false, false) => "nobody".to_owned(),
    }
}

fn controller_row(controller: &ControllerInfo) -> Vec<String> {
    let state = match (controller.here, controller.alive) {
        (true, _) => "this one",
        (false, true) => "alive",
        (false, false) => "dead",
    };
    let name: String = controller.controller.chars().take(8).collect();
    let pools = controller.pools.len().to_string();
    vec![name, controller.host.clone(), controller.version.clone(), state.to_owned(), pools]
}

/// What holds pools up: one line a cause, `fleetfoot why` says more.
fn causes(pools: &[PoolStatus]) -> String {
    let mut text = String::new();
    for pool in pools {
        for cause in &pool.causes {
            text.push_str(
                &visible(&format!("  {}: {}", pool.name, cause.message)).replace('\n', " "),
            );
            text.push('\n');
        }
    }
    text
}

/// Pools whose runner GitHub will not take for ever.
fn old_runners(pools: &[PoolStatus]) -> String {
    let mut text = String::new();
    for pool in pools {
        let old = pool.runner.as_ref().filter(|runner| runner.accepted_until.is_some());
        if let Some(line) = old.and_then(RunnerInfo::sentence) {
            text.push_str(&visible(&format!("  {}: {line}", pool.name)).replace('\n', " "));
            text.push('\n');
        }
    }
    text
}

/// What GitHub, a backend and the store disagree about for longer than they should, and what needs a person.
fn disagreements(status: &Status) -> String {
    let of_pools = status.pools.iter().flat_map(|pool| {
        pool.discrepancies.iter().map(|told| (pool.name.as_str(), told)).collect::<Vec<_>>()
    });
    let of_none = status.discrepancies.iter().map(|told| ("no pool", told));
    let mut text = String::new();
    for (pool, told) in
        of_pools.chain(of_none).filter(|(pool, told)| told.overdue || *pool == "no pool")
    {
        let whose = told.instance.as_deref().unwrap_or("the pool");
        let line = format!("  {pool}: {whose}: {} ({})", told.message, told.kind);
        text.push_str(&visible(&line).replace('\n', " "));
        text.push('\n');
    }
    text
}

/// What is wanted and not served at all.
fn set_aside(status: &Status) -> String {
    let line = |it: &SetAside| {
        visible(&format!("  {}: not served: {}", it.name, it.reason)).replace('\n', " ") + "\n"
    };
    status.set_aside.iter().map(line).collect()
}

fn instance_row(instance: &InstanceStatus, at: &str) -> Vec<String> {
    let what = match (&instance.job, &instance.reason) {
        (Some(job), _) => title(job),
        (None, Some(reason)) => format!("({reason})"),
        (None, None) => String::new(),
    };
    vec![
        instance.name.clone(),
        instance.pool.clone(),
        if instance.unreachable { "unreachable".to_owned() } else { instance.phase.clone() },
        age(&instance.phase_since, at).unwrap_or_default(),
        what,
    ]
}

fn title(job: &JobInfo) -> String {
    let name = job.display_name.as_deref().unwrap_or(&job.id);
    let parts = [job.repository.as_deref(), Some(name), job.run_url.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

fn age(then: &str, now: &str) -> Option<String> {
    let read = |text: &str| {
        text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_millisecond()))
    };
    let age: Span = read(then)?.age(read(now)?);
    Some(span(age))
}
