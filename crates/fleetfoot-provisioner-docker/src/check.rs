//! What is missing at an engine, each with its remedy.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::time::Duration;

use fleetfoot_provisioner::{Finding, Severity};

use crate::auth;
use crate::container::{DockerPool, PullPolicy};
use crate::engine::{DockerEngine, Info};
use crate::http::{Call, CallError, encoded, remedy};

const ANSWER_MAX: Duration = Duration::from_secs(10);

fn error(message: String, hint: impl Into<String>) -> Finding {
    Finding { severity: Severity::Error, message, hint: hint.into() }
}

fn warning(message: String, hint: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, message, hint: hint.into() }
}

pub(crate) async fn check(engine: &DockerEngine, pool: &DockerPool) -> Vec<Finding> {
    match tokio::time::timeout(ANSWER_MAX, info(engine)).await {
        Err(_) => {
            let message = format!("the engine at {} does not answer", engine.address());
            vec![error(message, "look at its log; it may need a restart")]
        }
        Ok(Err(failure)) => vec![unreachable(engine, &failure)],
        Ok(Ok(info)) => {
            let mut findings = settings(engine, pool, &info);
            match tokio::time::timeout(ANSWER_MAX, objects(engine, pool)).await {
                Ok(Ok(more)) => findings.extend(more),
                Ok(Err(failure)) => findings.push(unreachable(engine, &failure)),
                Err(_) => findings.push(error(
                    format!("the engine at {} does not answer", engine.address()),
                    "look at its log",
                )),
            }
            findings
        }
    }
}

async fn info(engine: &DockerEngine) -> Result<Info, CallError> {
    engine.call(Call::get("/info")).await?.json().await
}

fn unreachable(engine: &DockerEngine, failure: &CallError) -> Finding {
    let address = engine.address();
    match failure {
        CallError::Connect { cause, .. } => unconnected(&address, cause),
        CallError::Version(_) => {
            error(failure.to_string(), "use an engine that both sides understand")
        }
        CallError::Lost(_) | CallError::Odd(_) | CallError::Refused { .. } => {
            error(format!("the engine at {address}: {failure}"), "look at its log")
        }
    }
}

fn unconnected(address: &str, cause: &std::io::Error) -> Finding {
    let kind = cause.kind();
    let what = if kind == IoErrorKind::NotFound {
        format!("there is no engine socket at {address}")
    } else if kind == IoErrorKind::PermissionDenied {
        format!("no permission to use the engine socket at {address}")
    } else if kind == IoErrorKind::ConnectionRefused {
        format!("nobody listens at {address}")
    } else {
        format!("cannot reach the engine at {address}: {cause}")
    };
    error(what, remedy(cause))
}

fn settings(engine: &DockerEngine, pool: &DockerPool, info: &Info) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (Some(runtime), Some(known)) = (&pool.runtime, &info.runtimes)
        && !known.contains_key(runtime)
    {
        let mut known: Vec<_> = known.keys().map(String::as_str).collect();
        known.sort_unstable();
        let hint = format!(
            "install it and name it in the engine's daemon.json; known are {}",
            known.join(", ")
        );
        findings.push(error(format!("the engine has no runtime `{runtime}`"), hint));
    }
    if let Some(path) = &pool.registry_auth
        && let Err(failure) = auth::header(path, &pool.image, true)
    {
        findings
            .push(error(failure.to_string(), "give a file in the form of Docker's config.json"));
    }
    let unlimited = [
        (pool.memory.is_some() && !info.memory_limit, "memory"),
        (pool.cpus_millis.is_some() && !info.cpu_cfs_quota, "cpus"),
        (pool.pids.is_some() && !info.pids_limit, "pids"),
    ];
    for (_, name) in unlimited.iter().filter(|(missing, _)| *missing) {
        let message = format!("the engine's host cannot limit `{name}`; the limit has no effect");
        findings.push(warning(message, "enable the cgroup controller of that name"));
    }
    if engine.is_local() {
        let ca = pool.ca_file.iter().map(|path| path.display().to_string());
        let sources = pool.mounts.iter().map(|mount| mount.source.clone()).chain(ca);
        for source in sources.filter(|source| !Path::new(source).exists()) {
            findings.push(error(
                format!("the mount source {source} does not exist"),
                "create it or take the mount out",
            ));
        }
    }
    findings
}

async fn objects(engine: &DockerEngine, pool: &DockerPool) -> Result<Vec<Finding>, CallError> {
    let mut findings = Vec::new();
    if pool.pull == PullPolicy::Never && !image_is_there(engine, &pool.image).await? {
        let message =
            format!("the image {} is not there, and `pull: never` keeps it so", pool.image);
        findings.push(error(message, format!("`docker pull {}`, or `pull: missing`", pool.image)));
    }
    let named = |network: &&String| {
        !["bridge", "host", "none", "default"].contains(&network.as_str()) && !network.contains(':')
    };
    if let Some(network) = pool.network.as_ref().filter(named)
        && !is_there(engine, format!("/networks/{}", encoded(network))).await?
    {
        let message = format!("the engine has no network `{network}`");
        findings.push(error(message, format!("`docker network create {network}`")));
    }
    Ok(findings)
}

async fn is_there(engine: &DockerEngine, path: String) -> Result<bool, CallError> {
    match engine.call(Call::get(path)).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.status() == Some(404) => Ok(false),
        Err(failure) => Err(failure),
    }
}

pub(crate) async fn image_is_there(engine: &DockerEngine, image: &str) -> Result<bool, CallError> {
    is_there(engine, image_path(image)).await
}

/// What an image without `/bin/sh` means for the pool.
pub(crate) fn no_shell(pool: &DockerPool) -> Finding {
    if pool.kept_runner.is_some() {
        let message =
            format!("the image {} has no `/bin/sh`, which copies the kept runner", pool.image);
        return error(message, "use an image with a shell and `cp`, or one with a runner in it");
    }
    let message = format!(
        "the image {} has no `/bin/sh`: a container that waits is made anew for its job",
        pool.image
    );
    warning(message, "put a shell into the image, or set `warm: 0`: it saves no more than the pull")
}

/// Where the engine describes an image.
pub(crate) fn image_path(image: &str) -> String {
    // Slashes of a reference stay in the path.
    let path = image.split('/').map(encoded).collect::<Vec<_>>().join("/");
    format!("/images/{path}/json")
}
