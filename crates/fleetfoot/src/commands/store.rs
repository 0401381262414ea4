//! `fleetfoot store`: look through the store, copy it while the daemon runs, put a copy back.

mod arguments;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fleetfoot_core::Timestamp;
use fleetfoot_server::views::time::rfc3339;
use fleetfoot_store::{CopyError, Location, StateDir};
use serde::Serialize;

pub use arguments::{StoreArgs, StoreBackupArgs, StoreCheckArgs, StoreRestoreArgs, StoreWord};

use super::locate;
use super::output::{print, print_json, say};
use crate::cli::{LocateArgs, Output};
use crate::exit::{CommandError, Exit};

/// Does one of the words.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn run(args: StoreArgs) -> Result<ExitCode, CommandError> {
    match args.word {
        StoreWord::Check(args) => check(args).await,
        StoreWord::Backup(args) => backup(args).await,
        StoreWord::Restore(args) => restore(args).await,
    }
}

async fn check(args: StoreCheckArgs) -> Result<ExitCode, CommandError> {
    let (location, beside) = match args.file {
        Some(file) => (existing(&file)?, None),
        None => {
            let dir = locate::state_dir(&args.locate)?;
            (locate::store_location(&dir, &args.locate)?, Some(dir))
        }
    };
    let mut found = fleetfoot_store::inspect(&location)
        .await
        .map_err(|error| CommandError::new(Exit::Failure, error.to_string()))?;
    if let Some(finding) = beside.and_then(|dir| identity_beside(&dir, &found)) {
        found.findings_count += 1;
        found.findings.push(finding);
    }
    let good = found.is_good();
    match args.output.output {
        Output::Text => print(&report::text(&found))?,
        Output::Json => print_json(&report::Shown::of(&found))?,
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failure.code()) })
}

/// A file that is named is one; without this SQLite's words would be about a database.
fn existing(file: &Path) -> Result<Location, CommandError> {
    if file.is_file() {
        return Ok(Location::Sqlite(file.to_owned()));
    }
    Err(CommandError::new(Exit::Failure, format!("there is no file `{}`", file.display())))
}

/// What is wrong with the identity that is kept beside the store.
fn identity_beside(dir: &StateDir, found: &fleetfoot_store::Report) -> Option<String> {
    match dir.installation() {
        Ok(None) => None,
        Ok(Some(file)) => {
            let store = found.installation.as_deref()?;
            (file.as_str() != store).then(|| {
                format!("the store belongs to installation `{store}`, the file `installation-id` beside it says `{file}`")
            })
        }
        Err(error) => Some(error.to_string()),
    }
}

/// What `backup` prints for programs.
#[derive(Serialize)]
struct Backup {
    file: PathBuf,
    bytes: u64,
    taken_at: String,
}

async fn backup(args: StoreBackupArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let store = file_of(&dir, &args.locate)?;
    let now = fleetfoot_server::wall_clock();
    let to = match args.file {
        Some(file) => file,
        None => PathBuf::from(format!("fleetfoot-store-{}.sqlite", stamp(now))),
    };
    let to = std::path::absolute(&to).unwrap_or(to);
    let force = args.force;
    let copied =
        tokio::task::spawn_blocking(move || fleetfoot_store::back_up(&store, &to, force, now))
            .await
            .map_err(|error| CommandError::from_error(Exit::Failure, &error))?;
    let taken = copied.map_err(|error| failure(&error))?;
    let shown = Backup { file: taken.path, bytes: taken.bytes, taken_at: rfc3339(now) };
    match args.output.output {
        Output::Text => print(&shown.file.display().to_string())?,
        Output::Json => print_json(&shown)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What `restore` prints for programs.
#[derive(Serialize)]
struct Restored {
    store: PathBuf,
    taken_at: Option<String>,
    kept: Option<PathBuf>,
}

async fn restore(args: StoreRestoreArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir_to_fill(&args.locate)?;
    let store = file_of(&dir, &args.locate)?;
    let aside = format!("store.before-restore-{}.sqlite", stamp(fleetfoot_server::wall_clock()));
    let put = fleetfoot_store::put_back(&dir, &args.file, &aside, args.force)
        .await
        .map_err(|error| failure(&error))?;
    let taken_at = put.report.backup_taken_at.map(rfc3339);
    let shown = Restored { store, taken_at, kept: put.aside };
    match args.output.output {
        Output::Text => print(&shown.store.display().to_string())?,
        Output::Json => print_json(&shown)?,
    }
    let taken = shown.taken_at.as_deref().unwrap_or("an unknown time");
    say(&format!("restored from a backup of {taken}"));
    if let Some(kept) = &shown.kept {
        say(&format!("the store of before is kept as {}", kept.display()));
    }
    say("the next start looks at everything outside once before it makes or removes anything");
    Ok(ExitCode::SUCCESS)
}

/// The file of the store, where it is one.
fn file_of(dir: &StateDir, args: &LocateArgs) -> Result<PathBuf, CommandError> {
    match locate::store_location(dir, args)? {
        Location::Sqlite(path) => Ok(path),
        server @ Location::Url(_) => {
            let message =
                format!("the store is on a server, {server}: copy it with the server's own tools");
            Err(CommandError::new(Exit::Failure, message)
                .with_hint("pg_dump or mariadb-dump copy it while controllers run"))
        }
    }
}

/// A time as a part of a file's name.
fn stamp(now: Timestamp) -> String {
    let time = rfc3339(now);
    let whole = time.split('.').next().unwrap_or_default();
    whole.chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect()
}

fn failure(error: &CopyError) -> CommandError {
    let failure = CommandError::new(Exit::Failure, error.to_string());
    match error {
        CopyError::Exists { .. } => failure.with_hint("name another file, or overwrite it with --force"),
        CopyError::Itself { .. } => failure.with_hint("name another file"),
        CopyError::OtherInstallation { .. } => failure.with_hint(
            "restore it into its own state directory; with --force this one becomes that installation, and forgets what carries its present id",
        ),
        CopyError::Lock(_) => {
            failure.with_hint("stop the daemon first: its jobs run on meanwhile")
        }
        CopyError::Bad { .. } => failure.with_hint("use another backup; `fleetfoot store check FILE` shows all findings"),
        CopyError::NoFile { .. }
        | CopyError::Open(_)
        | CopyError::StateDir(_)
        | CopyError::Write { .. } => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_sorts_and_needs_no_quotes() {
        assert_eq!(stamp(Timestamp(1_780_000_000_123)), "20260528T202640Z");
    }
}
