//! `fleetfoot sim`: GitHub in a box as a process of its own, and words for it.

mod arguments;
mod controller;
mod data;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use fleetfoot_sim::{
    BoxConfig, ControlClient, Expire, ExpireRequest, Flavor, Job, JobState, QueueJobs,
    RunnerRelease, ServeOptions, Settings, Summary, Token,
};
use serde::Serialize;

use crate::cli::Output;

pub use arguments::{
    BoxAddress, ExpireArgs, FaultArgs, JobArgs, ServeArgs, SimArgs, SimCommand, StateArgs,
};
pub(crate) use controller::{Controller, ControllerFiles, program};
pub(crate) use data::DataDirectory;

/// Carries out one of the words of `fleetfoot sim`.
///
/// # Errors
/// When the box cannot be started or reached, or refuses.
pub async fn run(args: SimArgs) -> Result<ExitCode> {
    match args.command {
        SimCommand::Serve(args) => serve(args).await?,
        SimCommand::Job(args) => job(args).await?,
        SimCommand::State(args) => state(&args).await?,
        SimCommand::Fault(args) => fault(args).await?,
        SimCommand::Expire(args) => expire(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the stand-in runner calls itself.
const STAND_IN_VERSION: &str = "2.336.0";

async fn serve(args: ServeArgs) -> Result<()> {
    let settings = match &args.settings {
        Some(text) => {
            serde_json::from_str(text).context("--settings is not a JSON object of settings")?
        }
        None => Settings::default(),
    };
    let settings = Settings {
        flavor: if args.ghes { Flavor::Ghes } else { settings.flavor },
        session_lapse_ms: args.lapse.map_or(settings.session_lapse_ms, millis),
        control_latency_ms: args.latency.map_or(settings.control_latency_ms, millis),
        tokens: args.token.map_or(settings.tokens, |token| vec![Token::new(token)]),
        runner_releases: if settings.runner_releases.is_empty() {
            // So that `runner_release: latest` is served, too: by this very program.
            vec![RunnerRelease::new(STAND_IN_VERSION, std::env::current_exe()?)]
        } else {
            settings.runner_releases
        },
        ..settings
    };
    let config = BoxConfig {
        address: (args.address, args.port).into(),
        ..BoxConfig::with_settings(settings)
    };
    raise_open_files();
    let mut signals = Signals::new()?;
    let options = ServeOptions { config, scope: args.org };
    fleetfoot_sim::serve(options, std::io::stdout(), signals.asked()).await?;
    Ok(())
}

/// What ends a command that would run for ever.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub(crate) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let take = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: take(SignalKind::hangup())?,
        })
    }

    /// Waits until one of them comes.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// As many open files as the system lets us have: each poll is one.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what does not fit fails by itself.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn job(args: JobArgs) -> Result<()> {
    let client = client(&args.at)?;
    if args.pool.is_none() && args.labels.is_empty() {
        bail!("say which pool the job is for: --pool NAME, or --label LABEL");
    }
    let jobs = QueueJobs {
        scope: args.org,
        scale_set: args.pool,
        labels: args.labels,
        count: args.count,
        duration_ms: millis(args.duration),
        result: if args.fail { "failed".to_owned() } else { "succeeded".to_owned() },
        name: args.name,
        crash: args.crash,
        log_lines: args.log_lines,
        memory_mib: args.memory_mib,
        ..QueueJobs::default()
    };
    let ids = client.queue_jobs(&jobs).await?;
    if args.wait {
        let mut ended = Vec::new();
        for id in &ids {
            ended.push(wait_for(&client, *id).await?);
        }
        return say(args.output.output, &ended, || ended.iter().map(line_of).collect());
    }
    let text = || vec![format!("queued {}: {}", ids.len(), list(&ids))];
    say(args.output.output, &serde_json::json!({ "ids": ids }), text)
}

async fn wait_for(client: &ControlClient, id: u64) -> Result<Job> {
    loop {
        let job = client.job(id).await?;
        if job.state == JobState::Completed {
            return Ok(job);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn list(ids: &[u64]) -> String {
    match ids {
        [] => "none".to_owned(),
        [one] => format!("job {one}"),
        [first, .., last] => format!("jobs {first} to {last}"),
    }
}

fn line_of(job: &Job) -> String {
    let state = match job.state {
        JobState::Queued => "queued",
        JobState::Available => "available",
        JobState::Assigned => "assigned",
        JobState::Offered => "offered",
        JobState::Running => "running",
        JobState::Completed => job.result.as_deref().unwrap_or("completed"),
    };
    let pool = job.scale_set.clone().unwrap_or_else(|| job.labels.join(","));
    let runner = job.runner.as_deref().unwrap_or("-");
    format!("job {:<5} {state:<10} {}/{pool:<16} {runner}", job.id, job.scope)
}

async fn state(args: &StateArgs) -> Result<()> {
    let client = client(&args.at)?;
    if args.summary {
        let summary = client.summary().await?;
        return say(args.output.output, &summary, || vec![summary_line(&summary)]);
    }
    let state = client.state().await?;
    say(args.output.output, &state, || {
        let mut lines = vec![summary_line(&state.summary)];
        lines.extend(state.scale_sets.iter().map(|set| {
            let session = set.session_id.as_deref().unwrap_or("no session");
            let assigned = set.statistics.total_assigned_jobs;
            format!("set {:<5} {}/{}: {assigned} assigned, {session}", set.id, set.scope, set.name)
        }));
        lines.extend(state.runners.iter().map(|runner| {
            let word = match (runner.online, runner.busy) {
                (_, true) => "busy",
                (true, false) => "idle",
                (false, false) => "offline",
            };
            format!("runner {:<5} {word:<8} {}", runner.id, runner.name)
        }));
        lines.extend(state.jobs.iter().map(line_of));
        lines
    })
}

fn summary_line(summary: &Summary) -> String {
    format!(
        "jobs: {} queued, {} waiting, {} running, {} done ({} lost); runners: {}; sessions: {}",
        summary.jobs_queued_total,
        summary.jobs_waiting + summary.jobs_assigned,
        summary.jobs_running,
        summary.jobs_completed,
        summary.jobs_lost,
        summary.runners,
        summary.sessions
    )
}

async fn fault(args: FaultArgs) -> Result<()> {
    let client = client(&args.at)?;
    if args.clear {
        client.clear_faults().await?;
    }
    if let Some(text) = &args.fault {
        let fault = serde_json::from_str(text).context(
            "the fault is not one, such as {\"endpoint\":\"generate_jit_config\",\"times\":1,\"response\":{\"kind\":\"status\",\"status\":500}}",
        )?;
        client.inject(&fault).await?;
    }
    let faults = client.faults().await?;
    say(args.output.output, &faults, || {
        if faults.is_empty() {
            return vec!["no faults".to_owned()];
        }
        faults.iter().filter_map(|fault| serde_json::to_string(fault).ok()).collect()
    })
}

async fn expire(args: ExpireArgs) -> Result<()> {
    let what: Expire = serde_json::from_value(args.what.clone().into()).with_context(|| {
        format!(
            "`{}` is none of admin_tokens, registration_tokens, installation_tokens, queue_tokens, sessions",
            args.what
        )
    })?;
    let request = ExpireRequest { what, scope: args.org, scale_set: args.pool };
    client(&args.at)?.expire_of(&request).await?;
    Ok(())
}

fn client(at: &BoxAddress) -> Result<ControlClient> {
    let from_environment = || std::env::var("FLEETFOOT_SIM_URL").ok();
    let url = at.url.clone().or_else(from_environment);
    match url {
        Some(url) => Ok(ControlClient::new(&url)),
        None => bail!(
            "which box? give --box, the `url` that `fleetfoot sim serve` printed, or set FLEETFOOT_SIM_URL"
        ),
    }
}

/// Writes data to standard output: JSON for scripts, lines for people.
pub(crate) fn say(
    output: Output,
    value: &impl Serialize,
    lines: impl FnOnce() -> Vec<String>,
) -> Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string(value).context("cannot write JSON")?,
        Output::Text => lines().join("\n"),
    };
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}
