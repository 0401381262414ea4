//! Reading containers: which are ours, what state they are in, how they ended, what they printed.

use std::collections::HashMap;

use fleetfoot_provisioner::{
    EnvironmentInfo, EnvironmentState, Exit, Handle, InstallationId, InstanceName, PoolName,
};
use serde::Deserialize;

use crate::container::{LABEL_INSTALLATION, LABEL_INSTANCE, LABEL_POOL};
use crate::engine::{DockerEngine, Talk};
use crate::http::{Call, CallError, encoded, one_line};

const LAST_LINES: usize = 5;
const MESSAGE_CHARS_MAX: usize = 500;

/// A container as a list shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) names: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) labels: Option<HashMap<String, String>>,
    #[serde(default)]
    pub(crate) state: String,
}

impl Listed {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// The instance, if the container carries both parts of our evidence.
    pub(crate) fn instance_of(&self, installation: &InstallationId) -> Option<InstanceName> {
        if self.label(LABEL_INSTALLATION) != Some(installation.as_str()) {
            return None;
        }
        InstanceName::new(self.label(LABEL_INSTANCE)?).ok()
    }

    /// The instance of another installation, if the container carries our kind of evidence.
    pub(crate) fn instance_of_another(
        &self,
        installation: &InstallationId,
    ) -> Option<InstanceName> {
        if self.label(LABEL_INSTALLATION)? == installation.as_str() {
            return None;
        }
        InstanceName::new(self.label(LABEL_INSTANCE)?).ok()
    }

    pub(crate) fn life(&self) -> Life {
        Life::of(&self.state)
    }
}

/// Docker's and Podman's words for a container's state, in three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Created,
    Running,
    Ended,
}

impl Life {
    fn of(state: &str) -> Self {
        match state {
            "created" | "configured" | "initialized" => Self::Created,
            "running" | "paused" | "restarting" | "stopping" => Self::Running,
            // exited, dead, removing, stopped
            _ => Self::Ended,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    pub(crate) id: String,
    pub(crate) state: State,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) exit_code: i64,
    #[serde(rename = "OOMKilled", default)]
    pub(crate) oom_killed: bool,
    #[serde(default)]
    pub(crate) error: String,
}

impl Inspected {
    pub(crate) fn is_ours(&self, installation: &InstallationId, name: &InstanceName) -> bool {
        let label = |key: &str| {
            self.config.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str)
        };
        label(LABEL_INSTALLATION) == Some(installation.as_str())
            && label(LABEL_INSTANCE) == Some(name.as_str())
    }

    pub(crate) fn life(&self) -> Life {
        Life::of(&self.state.status)
    }
}

/// One container by name or id; `None` if it is not there.
pub(crate) async fn inspect(
    talk: &mut Talk<'_>,
    name_or_id: &str,
) -> Result<Option<Inspected>, CallError> {
    match talk.call(Call::get(format!("/containers/{}/json", encoded(name_or_id)))).await {
        Ok(answer) => Ok(Some(answer.json().await?)),
        Err(error) if error.is_no_container() => Ok(None),
        Err(error) => Err(error),
    }
}

/// All containers, dead ones too, that carry all of these labels.
pub(crate) async fn list(talk: &mut Talk<'_>, labels: &[String]) -> Result<Vec<Listed>, CallError> {
    let filters = serde_json::json!({ "label": labels }).to_string();
    let path = format!("/containers/json?all=1&filters={}", encoded(&filters));
    talk.call(Call::get(path)).await?.json().await
}

/// The environments of all containers with `label` that `named` gives a name.
pub(crate) async fn environments(
    engine: &DockerEngine,
    talk: &mut Talk<'_>,
    label: String,
    named: impl Fn(&Listed) -> Option<InstanceName>,
) -> Result<Vec<EnvironmentInfo>, CallError> {
    let mut environments = Vec::new();
    for listed in list(talk, &[label]).await? {
        let Some(name) = named(&listed) else { continue };
        let pool = listed.label(LABEL_POOL).and_then(|pool| PoolName::new(pool).ok());
        // `None`: removed since it was listed.
        if let Some(state) = state_of(engine, talk, &listed).await? {
            environments.push(EnvironmentInfo { name, pool, handle: Handle(listed.id), state });
        }
    }
    Ok(environments)
}

/// What carries our kind of evidence with the id of another installation.
pub(crate) async fn others(
    engine: &DockerEngine,
    talk: &mut Talk<'_>,
    installation: &InstallationId,
) -> Result<Vec<EnvironmentInfo>, CallError> {
    let named = |listed: &Listed| listed.instance_of_another(installation);
    environments(engine, talk, LABEL_INSTALLATION.to_owned(), named).await
}

/// The container of one instance of ours: by its name, which is quick, else by its labels alone.
pub(crate) async fn find(
    talk: &mut Talk<'_>,
    installation: &InstallationId,
    name: &InstanceName,
) -> Result<Option<(String, Life)>, CallError> {
    if let Some(found) = inspect(talk, name.as_str()).await?
        && found.is_ours(installation, name)
    {
        let life = found.life();
        return Ok(Some((found.id, life)));
    }
    let labels =
        [format!("{LABEL_INSTALLATION}={installation}"), format!("{LABEL_INSTANCE}={name}")];
    let found = list(talk, &labels).await?;
    let found = found.into_iter().find(|it| it.instance_of(installation).as_ref() == Some(name));
    Ok(found.map(|it| {
        let life = it.life();
        (it.id, life)
    }))
}

/// Where a listed container is; `None` if it is not there. One that ended is asked how, once. So is one that was only
/// created: a start that meets its removal leaves it in dockerd's list for a moment, and nowhere else (20.10).
pub(crate) async fn state_of(
    engine: &DockerEngine,
    talk: &mut Talk<'_>,
    listed: &Listed,
) -> Result<Option<EnvironmentState>, CallError> {
    match listed.life() {
        Life::Running => return Ok(Some(EnvironmentState::Running)),
        Life::Created => {}
        Life::Ended => {
            if let Some(exit) = engine.known_exit(&listed.id) {
                return Ok(Some(EnvironmentState::Ended(exit)));
            }
        }
    }
    let Some(inspected) = inspect(talk, &listed.id).await? else { return Ok(None) };
    Ok(Some(match inspected.life() {
        Life::Created => EnvironmentState::Created,
        Life::Running => EnvironmentState::Running,
        Life::Ended => {
            let exit = exit_of(talk, &inspected).await;
            engine.remember_exit(&listed.id, &exit);
            EnvironmentState::Ended(exit)
        }
    }))
}

/// How a container ended; the last lines it printed are kept when it ended badly.
pub(crate) async fn exit_of(talk: &mut Talk<'_>, inspected: &Inspected) -> Exit {
    let state = &inspected.state;
    let code = i32::try_from(state.exit_code).ok();
    let mut words = Vec::new();
    if !state.error.is_empty() {
        words.push(one_line(&state.error));
    }
    if state.oom_killed || state.exit_code != 0 {
        let tail = logs(talk, &inspected.id, LAST_LINES).await.unwrap_or_default();
        let lines: Vec<_> = tail.lines().map(one_line).filter(|line| !line.is_empty()).collect();
        if !lines.is_empty() {
            words.push(format!("last output: {}", lines.join(" | ")));
        }
    }
    let message: String = words.join("; ").chars().take(MESSAGE_CHARS_MAX).collect();
    Exit {
        code,
        out_of_memory: state.oom_killed,
        message: Some(message).filter(|text| !text.is_empty()),
    }
}

/// The last lines of a container's output, both streams as they came.
pub(crate) async fn logs(talk: &mut Talk<'_>, id: &str, lines: usize) -> Result<String, CallError> {
    let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={lines}");
    let bytes = talk.call(Call::get(path)).await?.bytes().await?;
    Ok(String::from_utf8_lossy(&without_frames(&bytes)).into_owned())
}

/// Takes the engine's 8-byte headers (stream, three zeros, length) out.
fn without_frames(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [stream @ 0..=2, 0, 0, 0, a, b, c, d, after @ ..] = rest {
        let _ = stream;
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (piece, next) = after.split_at(length.min(after.len()));
        text.extend_from_slice(piece);
        rest = next;
    }
    // Without frames (a terminal was attached) it is the text itself.
    text.extend_from_slice(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_out() {
        let framed = b"\x01\0\0\0\0\0\0\x03ab\n\x02\0\0\0\0\0\0\x02c\n";
        assert_eq!(without_frames(framed), b"ab\nc\n");
        assert_eq!(without_frames(b"plain\n"), b"plain\n");
        assert_eq!(without_frames(b"\x01\0\0\0\0\0\0\x09cut"), b"cut");
    }

    #[test]
    fn states_are_three() {
        for (word, life) in [
            ("created", Life::Created),
            ("configured", Life::Created),
            ("running", Life::Running),
            ("paused", Life::Running),
            ("exited", Life::Ended),
            ("dead", Life::Ended),
            ("removing", Life::Ended),
        ] {
            assert_eq!(Life::of(word), life, "{word}");
        }
    }
}
