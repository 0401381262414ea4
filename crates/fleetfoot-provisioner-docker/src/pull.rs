//! Pulling: one pull per (engine, image) at a time, shared by whoever waits for it, with progress in the log.
//!
//! The engine answers 200 before it pulled anything; what fails later is a message in the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::DockerEngine;
use crate::http::{Call, CallError, Messages, encoded};
use crate::tasks;
use fleetfoot_provisioner::{BackendError, ErrorKind};

/// A pull that says nothing for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(300);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What failed: asking for the pull, or what the registry said of it.
const PULL: &str = "pull image";
/// What failed: reading the engine's answer, which broke off.
const DRAIN: &str = "drain image pull";

#[derive(Debug, Clone)]
struct Failure {
    tried: &'static str,
    kind: ErrorKind,
    message: String,
}

type Outcome = Option<Result<(), Failure>>;

/// The pulls that run at one engine, by image and credentials.
#[derive(Default)]
pub(crate) struct Pulls(Mutex<BTreeMap<Key, watch::Receiver<Outcome>>>);

type Key = (String, Option<String>);

/// Pulls `image`, or waits for the pull of it that already runs. The pull goes on without its waiters.
pub(crate) async fn pull(
    engine: &Arc<DockerEngine>,
    image: &str,
    auth: Option<String>,
) -> Result<(), BackendError> {
    let mut receiver = join(engine, image, auth);
    let outcome = match receiver.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        Err(_) => None,
    };
    let gone = || Failure {
        tried: PULL,
        kind: ErrorKind::Backend,
        message: "the pull was given up".to_owned(),
    };
    outcome.unwrap_or_else(|| Err(gone())).map_err(|failure| {
        BackendError::new(failure.tried, failure.kind, format!("{image}: {}", failure.message))
    })
}

fn join(engine: &Arc<DockerEngine>, image: &str, auth: Option<String>) -> watch::Receiver<Outcome> {
    let mut pulls = engine.pulls.0.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (image.to_owned(), auth);
    if let Some(receiver) = pulls.get(&key) {
        return receiver.clone();
    }
    let (outcome_tx, outcome_rx) = watch::channel(None);
    pulls.insert(key.clone(), outcome_rx.clone());
    let engine = Arc::clone(engine);
    tasks::start(async move {
        let begun = Instant::now();
        tracing::info!(image = key.0, "image pull started");
        let outcome = run(&engine, &key.0, key.1.clone()).await;
        let duration_ms = begun.elapsed().as_millis();
        match &outcome {
            Ok(()) => tracing::info!(image = key.0, duration_ms, "image pulled"),
            Err(failure) => tracing::warn!(
                image = key.0,
                duration_ms,
                error = failure.message,
                "image pull failed"
            ),
        }
        engine.pulls.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let _ = outcome_tx.send(Some(outcome));
    });
    outcome_rx
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(rename = "errorDetail", default)]
    detail: Option<Detail>,
    #[serde(rename = "progressDetail", default)]
    progress: Option<Progress>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Progress {
    #[serde(default)]
    current: u64,
}

async fn run(engine: &DockerEngine, image: &str, auth: Option<String>) -> Result<(), Failure> {
    let (from, tag) = name_and_tag(image);
    let path = format!("/images/create?fromImage={}&tag={}", encoded(from), encoded(tag));
    let failed = |tried| {
        move |error: CallError| Failure { tried, kind: kind(&error), message: error.to_string() }
    };
    let answer = engine.call(Call::post(path).registry_auth(auth)).await.map_err(failed(PULL))?;
    let mut messages = Messages::new(answer);
    let mut layers: BTreeMap<String, u64> = BTreeMap::new();
    let mut done = BTreeSet::new();
    let mut told = Instant::now();
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, messages.next::<Message>()).await;
        let silent = || Failure {
            tried: DRAIN,
            kind: ErrorKind::Backend,
            message: format!("no progress for {} s", SILENCE_MAX.as_secs()),
        };
        let Some(message) = next.map_err(|_| silent())?.map_err(failed(DRAIN))? else {
            return Ok(());
        };
        let detail = message.detail.map(|detail| detail.message).filter(|text| !text.is_empty());
        if let Some(error) = message.error.filter(|text| !text.is_empty()).or(detail) {
            return Err(Failure { tried: PULL, kind: ErrorKind::Instance, message: error });
        }
        if let Some(progress) = message.progress.filter(|progress| progress.current > 0) {
            layers.insert(message.id.clone(), progress.current);
        }
        if matches!(message.status.as_str(), "Pull complete" | "Already exists") {
            done.insert(message.id);
        }
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            let mebibytes = layers.values().sum::<u64>() >> 20;
            tracing::info!(image, layers_done = done.len(), mebibytes, "pulling image");
        }
    }
}

/// The registry may refuse (the image's failure) or be away (then so is the pull).
fn kind(error: &CallError) -> ErrorKind {
    match error.status() {
        Some(_) => ErrorKind::Instance,
        None => ErrorKind::Backend,
    }
}

/// Splits a reference as the engine wants it; a digest goes where the tag goes.
pub(crate) fn name_and_tag(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        // `name:tag@digest`: the digest decides.
        let name = match name.rsplit_once(':') {
            Some((before, tag)) if !tag.contains('/') => before,
            Some(_) | None => name,
        };
        return (name, digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (image, "latest"),
    }
}

/// A call failed because the image is not there.
pub(crate) fn is_missing_image(error: &CallError) -> bool {
    match error {
        CallError::Refused { status: 404, message } => message.to_lowercase().contains("image"),
        CallError::Refused { status: 500, message } => message.contains("image not known"),
        CallError::Refused { .. }
        | CallError::Connect { .. }
        | CallError::Lost(_)
        | CallError::Odd(_)
        | CallError::Version(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_tag;

    #[test]
    fn references_are_split() {
        for (image, wanted) in [
            ("busybox", ("busybox", "latest")),
            ("a/b:1", ("a/b", "1")),
            ("r:5000/a", ("r:5000/a", "latest")),
            ("r:5000/a:2", ("r:5000/a", "2")),
            ("a@sha256:00", ("a", "sha256:00")),
            ("r:5000/a:2@sha256:00", ("r:5000/a", "sha256:00")),
        ] {
            assert_eq!(name_and_tag(image), wanted, "{image}");
        }
    }
}
