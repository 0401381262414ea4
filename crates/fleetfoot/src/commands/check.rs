//! `fleetfoot check`: everything that would keep pools from running, before they run.
//!
//! First the file alone; then, unless `--offline`, what GitHub says of each credential and group, and
//! what each backend misses on this host. Nothing is created anywhere.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use fleetfoot_controller::PoolSettings;
use fleetfoot_core::{InstallationId, RunnerRelease};
use fleetfoot_github::RunnerPlatform;
use fleetfoot_myshoes::environment::Switch;
use fleetfoot_provisioner::Severity;
use fleetfoot_store::{OpenError, Store};
use serde::Serialize;

use super::output::{print, print_json};
use crate::cli::{CheckArgs, Output};
use crate::config::credentials::{Flags, RealSurroundings, resolve};
use crate::config::store::{self, StoreUrl};
use crate::config::summary::{Summary, summarize};
use crate::config::{Config, Flavor, LoadError, LoadOptions, Report, load};
use crate::exit::{CommandError, Exit};
use crate::myshoes::targets::MyshoesError;
use crate::wiring::{self, Surroundings};

/// A backend may boot a machine to see whether it can.
const CHECK_MAX: Duration = Duration::from_secs(300);
/// A token that ends within this is told of.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// One thing that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Note {
    severity: &'static str,
    /// The pool, or nothing for the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Checked {
    ok: bool,
    plan: Option<Summary>,
    notes: Vec<Note>,
}

/// Checks and prints. Exit 78 for a mistake in the file, 1 for one outside.
///
/// # Errors
/// When standard output cannot be written, or the file cannot be used.
pub async fn run(args: CheckArgs) -> Result<ExitCode, CommandError> {
    let path = super::locate::config_path(args.config.as_deref());
    let options =
        LoadOptions { flavor: Flavor::Native, strict: args.strict, ..LoadOptions::default() };
    let (config, report) = match load(&path, &options) {
        Ok(loaded) => (loaded.config, loaded.report),
        Err(LoadError::Invalid(report)) => return invalid(&report, args.output.output),
        Err(error @ LoadError::Read { .. }) => return Err(unread(&error)),
    };
    let flags = Flags::default();
    let mut notes = report_notes(&report);
    let mut plan = summarize(&config, &flags);
    let shared = match store::find(&config, &RealSurroundings) {
        Ok(shared) => shared,
        Err(error) => {
            notes.push(note("error", None, crate::chain(&error), None));
            None
        }
    };
    plan.store = shared.as_ref().map(|url| format!("{} ({})", url.location(), url.source));
    if let Some(section) = &config.myshoes {
        match crate::myshoes::Environment::of_section(section) {
            Ok(environment) => {
                if environment.settings.scale_set.switch == Switch::Unsaid {
                    notes.push(note("error", None, MyshoesError::WebhookMode.to_string(), None));
                }
                plan.targets = Some(environment.plan());
            }
            Err(error) => notes.push(note("error", None, crate::chain(&error), None)),
        }
    }
    if !args.offline {
        notes.extend(outside(&config, &flags, &args).await);
        notes.extend(shared_store(shared.as_ref()).await);
    }
    let ok = notes.iter().all(|note| note.severity != "error");
    let checked = Checked { ok, plan: Some(plan), notes };
    match args.output.output {
        Output::Json => print_json(&checked)?,
        Output::Text => print(&text(&checked, &report))?,
    }
    Ok(if ok { ExitCode::SUCCESS } else { Exit::Failure.into() })
}

fn unread(error: &LoadError) -> CommandError {
    let refused = CommandError::from_error(Exit::Config, error);
    match error.remedy() {
        Some(remedy) => refused.with_hint(remedy),
        None => refused,
    }
}

/// Every mistake of the file at once.
fn invalid(report: &Report, output: Output) -> Result<ExitCode, CommandError> {
    if output == Output::Json {
        print_json(&Checked { ok: false, plan: None, notes: report_notes(report) })?;
        return Ok(Exit::Config.into());
    }
    Err(CommandError::new(Exit::Config, report.summary()).with_report(report.render()))
}

fn report_notes(report: &Report) -> Vec<Note> {
    let note = |severity, finding: &crate::config::Finding| Note {
        severity,
        pool: None,
        message: finding.one_line(&report.file),
        hint: None,
    };
    let errors = report.errors().map(|finding| note("error", finding));
    errors.chain(report.warnings().map(|finding| note("warning", finding))).collect()
}

async fn outside(config: &Config, flags: &Flags, args: &CheckArgs) -> Vec<Note> {
    let mut notes = Vec::new();
    let resolution = resolve(config, flags, &RealSurroundings);
    notes.extend(
        resolution.warnings.iter().map(|warning| note("warning", None, warning.clone(), None)),
    );
    for (runner, failure) in &resolution.failures {
        notes.push(note("error", Some(runner), failure.in_own_words(), None));
    }
    if !resolution.failures.is_empty() {
        return notes;
    }
    let place = match Place::new(args, config) {
        Ok(place) => place,
        Err(error) => {
            notes.push(note("error", None, error, None));
            return notes;
        }
    };
    match wiring::pools(config, resolution, &place.surroundings).await {
        Ok(pools) => {
            notes.extend(github(&pools).await);
            notes.extend(releases(&pools).await);
            notes.extend(backends(&pools).await);
        }
        Err(error) => notes.push(note("error", None, crate::chain(&error), None)),
    }
    notes
}

/// Where backends may look, without touching the daemon's state.
struct Place {
    surroundings: Surroundings,
    _scratch: tempfile::TempDir,
}

impl Place {
    fn new(args: &CheckArgs, config: &Config) -> Result<Self, String> {
        let line = |error: &dyn std::error::Error| crate::chain(error);
        let scratch = tempfile::tempdir().map_err(|error| line(&error))?;
        let state_dir = args.state_dir.clone().or_else(|| config.state_dir.clone());
        let surroundings = Surroundings {
            installation: InstallationId::new("check").map_err(|error| line(&error))?,
            instances: state_dir
                .filter(|dir| dir.is_dir())
                .map_or_else(|| scratch.path().join("instances"), |dir| dir.join("instances")),
            program: std::env::current_exe().map_err(|error| line(&error))?,
            flavor: Flavor::Native,
        };
        Ok(Self { surroundings, _scratch: scratch })
    }
}

/// Whether the database that several controllers share can be used; one without tables gets them at a start.
async fn shared_store(url: Option<&StoreUrl>) -> Option<Note> {
    match Store::open_read_only(url?.location()).await {
        Ok(store) => {
            store.close().await;
            None
        }
        Err(OpenError::Missing { .. } | OpenError::Older { .. }) => None,
        Err(error) => Some(note("error", None, crate::chain(&error), None)),
    }
}

/// Each credential once, each group of each pool.
async fn github(pools: &[PoolSettings]) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut asked = BTreeSet::new();
    for pool in pools {
        let name = pool.name.as_str();
        let credential =
            (pool.connection.url().as_str().to_owned(), pool.credential_reference.clone());
        if asked.insert(credential) {
            match pool.connection.check().await {
                Ok(report) => notes.extend(credential_notes(pool, &report)),
                Err(error) => {
                    notes.push(note("error", Some(name), error.chain(), None));
                    continue;
                }
            }
        }
        let Some(group) = &pool.runner_group else { continue };
        match pool.connection.runner_group(group).await {
            Ok(Some(group)) if group.allows_public_repositories == Some(true) => notes.push(note(
                "warning",
                Some(name),
                format!("runner group `{}` admits public repositories: anyone who opens a pull request can run code here", group.name),
                Some("turn off public repositories for the group in the organization's settings"),
            )),
            Ok(Some(_)) => {}
            Ok(None) => notes.push(note(
                "error",
                Some(name),
                format!("no runner group is named `{group}`"),
                Some("make the group, correct the name, or let the credential see it"),
            )),
            Err(error) => notes.push(note("error", Some(name), error.chain(), None)),
        }
    }
    notes
}

fn credential_notes(pool: &PoolSettings, report: &fleetfoot_github::CheckReport) -> Vec<Note> {
    let mut notes = Vec::new();
    let (name, reference) = (pool.name.as_str(), &pool.credential_reference);
    if let Some(permission) = &report.missing_permission {
        let message = format!("the credential ({reference}) lacks a permission: {permission}");
        notes.push(note(
            "warning",
            Some(name),
            message,
            Some("without it idle runners are seen later"),
        ));
    }
    if let Some(expires) = report.token_expires_at {
        let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
        if left < EXPIRES_SOON {
            let message =
                format!("the token ({reference}) expires in {} days", left.as_secs() / 86_400);
            notes.push(note(
                "warning",
                Some(name),
                message,
                Some("make a new one in time; a token file is read again by itself"),
            ));
        }
    }
    if let Some(ahead) = report.clock_ahead_seconds.filter(|_| report.is_clock_off) {
        let message = format!("this machine's clock is {ahead} s ahead of GitHub's");
        notes.push(note(
            "error",
            Some(name),
            message,
            Some("set the clock: App tokens are refused"),
        ));
    }
    notes
}

async fn backends(pools: &[PoolSettings]) -> Vec<Note> {
    let mut notes = Vec::new();
    for pool in pools {
        let found = tokio::time::timeout(CHECK_MAX, pool.provisioner.check()).await;
        let Ok(findings) = found else {
            notes.push(note(
                "error",
                Some(pool.name.as_str()),
                "the backend did not answer in time".to_owned(),
                None,
            ));
            continue;
        };
        for finding in findings {
            let severity = match finding.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let hint = Some(finding.hint.as_str()).filter(|hint| !hint.is_empty());
            let found = note(severity, Some(pool.name.as_str()), finding.message, hint);
            notes.push(found);
        }
    }
    notes
}

/// Whether a release of the runner that is kept can be had, and whether a newer one is out.
async fn releases(pools: &[PoolSettings]) -> Vec<Note> {
    let Some(platform) = RunnerPlatform::of_this_host() else { return Vec::new() };
    let mut notes = Vec::new();
    for pool in pools {
        let Some(told) = pool.runner.as_ref().map(|told| told.borrow().clone()) else { continue };
        let name = Some(pool.name.as_str());
        let offered = match pool.connection.newest_runner(platform).await {
            Ok(Some(archive)) => archive.version,
            Ok(None) => {
                let message = "GitHub offers no runner for this host".to_owned();
                notes.push(note(worse(&told), name, message, Some(BY_HAND)));
                continue;
            }
            Err(error) => {
                notes.push(note(worse(&told), name, error.chain(), Some(BY_HAND)));
                continue;
            }
        };
        if let Some(version) = told.version.filter(|version| *version != offered) {
            let message = format!("its runner is {version}, and {offered} is out");
            let hint = "GitHub takes a runner for about 30 days after a newer one is out";
            notes.push(note("warning", name, message, Some(hint)));
        }
    }
    notes
}

const BY_HAND: &str =
    "a release that is unpacked by hand in the directory of `runner_releases` is used as it is";

/// Without a release nothing starts; with one, not knowing of a newer one does no harm.
fn worse(told: &RunnerRelease) -> &'static str {
    if told.missing.is_some() { "error" } else { "warning" }
}

fn note(severity: &'static str, pool: Option<&str>, message: String, hint: Option<&str>) -> Note {
    Note { severity, pool: pool.map(str::to_owned), message, hint: hint.map(str::to_owned) }
}

fn text(checked: &Checked, report: &Report) -> String {
    let mut out = String::new();
    if report.warnings().next().is_some() {
        out.push_str(&report.render());
        out.push('\n');
    }
    if let Some(plan) = &checked.plan {
        out.push_str(&plan.to_string());
    }
    let file_notes = report_notes(report);
    for note in checked.notes.iter().filter(|note| !file_notes.contains(note)) {
        let pool = note.pool.as_ref().map(|pool| format!("pool {pool}: ")).unwrap_or_default();
        out.push_str(&format!("{}: {pool}{}\n", note.severity, note.message));
        if let Some(hint) = &note.hint {
            out.push_str(&format!("  hint: {hint}\n"));
        }
    }
    out.push_str(if checked.ok { "ok\n" } else { "not ok\n" });
    out
}
