//! Finds the daemon: its state directory as it would find it itself, and the control socket in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetfoot_api::{Client, ClientError, ErrorCode};
use fleetfoot_server::views::Snapshot;
use fleetfoot_store::{Location, Search, StateDir, Store};

use super::output::say;
use crate::cli::LocateArgs;
use crate::config::credentials::RealSurroundings;
use crate::config::{LoadOptions, load, store};
use crate::exit::{CommandError, Exit};

/// The file that is read when none is named, if it is there.
const LOCAL_CONFIG: &str = "fleetfoot.yml";
/// The file that is read when none is named and none is here.
const SYSTEM_CONFIG: &str = "/etc/fleetfoot/fleetfoot.yml";

/// The configuration that is meant: the named one, or the first usual one that exists.
#[must_use]
pub fn config_path(named: Option<&Path>) -> PathBuf {
    match named {
        Some(path) => path.to_owned(),
        None if Path::new(LOCAL_CONFIG).exists() => PathBuf::from(LOCAL_CONFIG),
        None => PathBuf::from(SYSTEM_CONFIG),
    }
}

/// The `state_dir` that was named on the command line or in the configuration.
fn named_state_dir(args: &LocateArgs) -> Result<Option<PathBuf>, CommandError> {
    if args.state_dir.is_some() {
        return Ok(args.state_dir.clone());
    }
    let path = config_path(args.config.as_deref());
    if args.config.is_none() && !path.exists() {
        return Ok(None);
    }
    match load(&path, &LoadOptions::default()) {
        Ok(loaded) => Ok(loaded.config.state_dir),
        Err(error) if args.config.is_some() => Err(CommandError::from_error(Exit::Config, &error)
            .with_hint("`--state-dir` names the state directory without a configuration")),
        // Nobody named this file: say that it was no help, and look in the usual places.
        Err(error) => {
            say(&format!("note: {error}"));
            Ok(None)
        }
    }
}

/// The state directory of a daemon that runs or ran.
///
/// # Errors
/// When there is none, or the named configuration cannot be read.
pub fn state_dir(args: &LocateArgs) -> Result<StateDir, CommandError> {
    let named = named_state_dir(args)?;
    let search = Search::from_environment(named.clone(), false);
    StateDir::find(&search, args.config.as_deref()).ok_or_else(|| {
        let place = named.or(search.state_directory);
        let message = match place {
            Some(place) => format!("no state of fleetfoot can be read in {}", place.display()),
            None => "no state directory of fleetfoot is found in the usual places".to_owned(),
        };
        CommandError::new(Exit::Failure, message).with_hint(
            "start `fleetfoot run`, name its directory with --state-dir, or be the user it runs as",
        )
    })
}

/// The state directory that a store is to be put into: a named one may still be without state.
///
/// # Errors
/// As [`state_dir`], and when the named one cannot be made.
pub fn state_dir_to_fill(args: &LocateArgs) -> Result<StateDir, CommandError> {
    let named = named_state_dir(args)?;
    let search = Search::from_environment(named.clone(), false);
    match (StateDir::find(&search, args.config.as_deref()), named) {
        (Some(found), _) => Ok(found),
        (None, Some(_)) => StateDir::resolve(&search)
            .map_err(|error| CommandError::new(Exit::Failure, error.to_string())),
        (None, None) => state_dir(args),
    }
}

/// Where the store of this state directory is: on a server, if environment or configuration name one.
///
/// # Errors
/// When the address of a server cannot be had.
pub fn store_location(dir: &StateDir, args: &LocateArgs) -> Result<Location, CommandError> {
    let path = config_path(args.config.as_deref());
    let file = match load(&path, &LoadOptions::default()) {
        Ok(loaded) => loaded.config.store_url_file,
        Err(_) => None,
    };
    let found = store::find_with(file.as_deref(), &RealSurroundings)
        .map_err(|error| CommandError::from_error(Exit::Config, &error))?;
    Ok(found.map_or_else(|| Location::Sqlite(dir.store_file()), |url| url.location()))
}

/// A client for the daemon, whether or not one runs.
///
/// # Errors
/// When no HTTP client can be made.
pub fn client(dir: &StateDir) -> Result<Client, CommandError> {
    Client::unix(&dir.control_socket())
        .map_err(|error| CommandError::from_error(Exit::Failure, &error))
}

/// What asking the daemon led to.
pub enum Asked<T> {
    /// Its answer.
    Answer(T),
    /// No daemon runs.
    Absent,
}

/// Sorts the end of a request: an answer, no daemon, or a failure in one line.
///
/// # Errors
/// Every failure but the absence of a daemon.
pub fn sort<T>(asked: Result<T, ClientError>) -> Result<Asked<T>, CommandError> {
    match asked {
        Ok(answer) => Ok(Asked::Answer(answer)),
        Err(error) => match io_kind(&error) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(Asked::Absent),
            Some(_) | None => Err(failure(&error)),
        },
    }
}

/// The answer, or an error that says that there must be a daemon.
///
/// # Errors
/// As [`sort`], and when no daemon runs.
pub fn must<T>(asked: Result<T, ClientError>, dir: &StateDir) -> Result<T, CommandError> {
    match sort(asked)? {
        Asked::Answer(answer) => Ok(answer),
        Asked::Absent => {
            let message = format!("no daemon runs on the state directory {}", dir.path().display());
            Err(CommandError::new(Exit::Failure, message)
                .with_hint("start it with `fleetfoot run`, or name another one with --state-dir"))
        }
    }
}

fn io_kind(error: &ClientError) -> Option<io::ErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = match error {
        ClientError::Unreachable { source, .. } => Some(source),
        ClientError::Setup { .. }
        | ClientError::Cut { .. }
        | ClientError::Refused(_)
        | ClientError::Unreadable { .. } => None,
    };
    while let Some(source) = next {
        if let Some(error) = source.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = source.source();
    }
    None
}

fn failure(error: &ClientError) -> CommandError {
    let exit = match error.code() {
        Some(ErrorCode::BadRequest) => Exit::Usage,
        Some(_) | None => Exit::Failure,
    };
    let failure = CommandError::from_error(exit, error);
    match (error.hint(), io_kind(error)) {
        (Some(hint), _) => failure.with_hint(hint),
        (None, Some(io::ErrorKind::PermissionDenied)) => {
            failure.with_hint("be the user that the daemon runs as, or root")
        }
        (None, _) => failure,
    }
}

/// The store of a daemon that does not run, and what it shows.
///
/// # Errors
/// When there is no store, or it cannot be read.
pub async fn read_store(
    dir: &StateDir,
    args: &LocateArgs,
) -> Result<(Store, Snapshot), CommandError> {
    let failed =
        |error: &dyn std::fmt::Display| CommandError::new(Exit::Failure, error.to_string());
    let location = store_location(dir, args)?;
    let shared = matches!(location, Location::Url(_));
    let store = Store::open_read_only(location).await.map_err(|error| failed(&error))?;
    let place = if shared { store.place().to_owned() } else { dir.path().display().to_string() };
    say(&format!("note: no daemon runs; this is what its store in {place} says"));
    let now = fleetfoot_server::wall_clock();
    let mut snapshot =
        fleetfoot_server::record::snapshot(&store, None, env!("CARGO_PKG_VERSION"), now);
    if shared {
        let fleet = store.read_fleet().await.map_err(|error| failed(&error))?;
        snapshot.fleet = Some((Arc::new(fleet), None));
    }
    Ok((store, snapshot))
}
