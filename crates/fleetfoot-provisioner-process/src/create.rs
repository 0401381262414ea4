//! Making an instance's directory.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use fleetfoot_provisioner::InstanceName;
use fleetfoot_provisioner::{BackendError, EnvironmentSpec, ErrorKind};

use crate::copy::{self, Copy};
use crate::directory::{self, Directory, Meta};
use crate::failure::{At, AtPath, failed};
use crate::host::{Owner, ProcessHost};
use crate::pool::{ProcessPool, RunnerSource};
use crate::{remove, sandbox};

const OPERATION: &str = "create process directory";

/// Makes the directory of `spec`, or finishes the one that is there. Blocking.
pub(crate) fn create(
    host: &ProcessHost,
    pool: &ProcessPool,
    spec: &EnvironmentSpec,
    cancelled: &AtomicBool,
) -> Result<Directory, BackendError> {
    let name = &spec.name;
    let directory = host.directory(name);
    let backend = |error: At| failed(OPERATION, name, ErrorKind::Backend, error);
    let meta = match host.owner(name).map_err(backend)? {
        Owner::Ours(_) if directory.runner().is_dir() => return Ok(directory),
        Owner::Ours(meta) => meta,
        Owner::OursUnwritten | Owner::Nobody => claim(host, pool, spec, &directory)?,
        Owner::Foreign => {
            let message =
                format!("{} exists and is not of this installation", directory.path().display());
            return Err(BackendError::new(OPERATION, ErrorKind::NameTaken, message).about(name));
        }
    };
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.fill.before");
    fill(host, pool, &directory, meta.uid, cancelled)
        .map_err(|error| failed(OPERATION, name, ErrorKind::Instance, error))?;
    complain_without_command(pool, &directory, name)?;
    // Only now it counts as made.
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.finish.before");
    fs::rename(directory.unfinished(), directory.runner())
        .at("rename", &directory.unfinished())
        .map_err(backend)?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.finish.after");
    Ok(directory)
}

/// Makes the directory with its evidence of ownership.
fn claim(
    host: &ProcessHost,
    pool: &ProcessPool,
    spec: &EnvironmentSpec,
    directory: &Directory,
) -> Result<Meta, BackendError> {
    let write = |uid: Option<u32>| {
        // A job with a user id of its own must pass through to its directories, but not read here.
        let mode = if uid.is_some() { 0o711 } else { 0o700 };
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.directory.before");
        match directory::make(directory.path(), mode) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).at("create", directory.path());
            }
            Ok(()) | Err(_) => {}
        }
        let meta = Meta {
            version: 1,
            installation: spec.installation.as_str().to_owned(),
            instance: spec.name.as_str().to_owned(),
            pool: spec.pool.as_str().to_owned(),
            boot_id: host.boot_id.clone(),
            uid,
        };
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.meta.before");
        directory::write(&directory.meta(), &meta).at("write", &directory.meta())?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.meta.after");
        Ok(meta)
    };
    let made = match pool.uid_range {
        None => Some(write(None)),
        Some(range) => host
            .with_free_uid(range, |uid| write(Some(uid)))
            .map_err(|error| failed(OPERATION, &spec.name, ErrorKind::Backend, error))?,
    };
    let Some(made) = made else {
        let message = "all user ids of the pool's uid_range are taken";
        return Err(BackendError::new(OPERATION, ErrorKind::NoRoom, message).about(&spec.name));
    };
    made.map_err(|error| failed(OPERATION, &spec.name, ErrorKind::Backend, error))
}

fn fill(
    host: &ProcessHost,
    pool: &ProcessPool,
    directory: &Directory,
    uid: Option<u32>,
    cancelled: &AtomicBool,
) -> Result<(), At> {
    let unfinished = directory.unfinished();
    // What a create that was cut short left.
    remove::tree(directory.path(), "runner.unfinished", &[]).at("remove", &unfinished)?;
    for path in [directory.home(), directory.tmp()] {
        match directory::make(&path, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).at("create", &path);
            }
            Ok(()) | Err(_) => copy::give(&path, uid)?,
        }
    }
    let mut copy = Copy::new(cancelled, uid);
    match &pool.source {
        RunnerSource::RunnerDirectory(from) => copy.runner(from, &unfinished),
        RunnerSource::KeptRunner(place) => {
            // Followed once: all of an instance is of one release.
            let from = fs::canonicalize(place).at("read", place)?;
            copy.runner(&from, &unfinished)
        }
        RunnerSource::RunnerArchive(archive) => {
            host.with_unpacked(archive, |from| copy.runner(from, &unfinished))
        }
    }
}

fn complain_without_command(
    pool: &ProcessPool,
    directory: &Directory,
    name: &InstanceName,
) -> Result<(), BackendError> {
    let missing = missing_command(pool, &directory.unfinished());
    missing.map_or(Ok(()), |message| {
        Err(BackendError::new(OPERATION, ErrorKind::Instance, message).about(name))
    })
}

/// What is wrong with the pool's command, if the runner's files are in `runner`.
pub(crate) fn missing_command(pool: &ProcessPool, runner: &Path) -> Option<String> {
    let Some(command) = pool.command.first() else {
        return Some("the runner's command is empty".to_owned());
    };
    if !command.contains('/') {
        return None;
    }
    let path = runner.join(command);
    if !path.exists() {
        Some(format!("the runner has no `{command}`"))
    } else if !sandbox::executable(&path) {
        Some(format!("`{command}` of the runner is not executable"))
    } else {
        None
    }
}
