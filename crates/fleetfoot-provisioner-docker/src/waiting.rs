//! Containers that wait for their jobs: created and never started, without a credential.
//!
//! ```text
//! create ─▶ waits; nothing runs in it ─▶ launch: the JIT config as a file ─▶ start ─▶ its shell reads the file,
//!                                                                     empties it and becomes the runner
//! ```
//!
//! An image without a shell cannot take a file: a container of it is made anew for its job, with the JIT config in it as
//! in a pool whose containers do not wait. Then the wait saves the pull alone.
//!
//! That it was not started is what tells a container that waits from one that was launched, also to a program that
//! finds both after a crash. What a container runs is settled when it is created, so the way in is a file.

use fleetfoot_provisioner::{BackendError, ErrorKind, InstanceName, JitConfig};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::container::{DockerPool, JIT_VARIABLE, JitDelivery};
use crate::engine::DockerEngine;
use crate::http::{Call, CallError};
use crate::image::{ImageContent, ImageFile, pack};
use crate::shell::SHELL;

const OPERATION: &str = "hand JIT config over";
/// Where it is handed over, for whichever user the container has.
const FILE: &str = "/.fleetfoot/jit";
/// Its lines, into `j`. Nothing but the shell is needed.
const TAKE: &str = "j=; n=; while IFS= read -r l || [ -n \"$l\" ]; do j=\"$j$n$l\"; n='\n'; done </.fleetfoot/jit; \
    ( : >/.fleetfoot/jit ) 2>/dev/null || :; ";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    config: Option<ImageConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageConfig {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
}

/// What the image starts before any command. `None`: it is not there.
pub(crate) async fn entry_point(
    engine: &DockerEngine,
    path: String,
) -> Result<Option<Vec<String>>, CallError> {
    match engine.call(Call::get(path)).await {
        Ok(answer) => {
            let image: Image = answer.json().await?;
            Ok(Some(image.config.and_then(|it| it.entrypoint).unwrap_or_default()))
        }
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the description of a container one that takes its JIT config at its start, and then becomes what it would have
/// been: the image's entry point, with `body`'s command.
pub(crate) fn taking(pool: &DockerPool, mut body: Value, image: &[String]) -> Value {
    let own = body["Entrypoint"].as_array().cloned();
    let before = own.unwrap_or_else(|| image.iter().map(|word| json!(word)).collect());
    let command = body["Cmd"].as_array().cloned().unwrap_or_default();
    let become_it = match pool.jit {
        JitDelivery::Environment => {
            format!("{TAKE}export {JIT_VARIABLE}=\"$j\"; unset j l n; exec \"$@\"")
        }
        JitDelivery::Argument => format!("{TAKE}exec \"$@\" --jitconfig \"$j\""),
    };
    body["Entrypoint"] = json!([SHELL, "-ec", become_it, "fleetfoot"]);
    body["Cmd"] = Value::Array([before, command].concat());
    body
}

/// Puts the JIT config into a container that was not started.
pub(crate) async fn hand_over(
    engine: &DockerEngine,
    name: &InstanceName,
    id: &str,
    jit: &JitConfig,
) -> Result<(), BackendError> {
    let files = [
        // Its user empties it, whoever that is; nobody else is in there.
        ImageFile { path: "/.fleetfoot".into(), mode: 0o777, content: ImageContent::Directory },
        ImageFile {
            path: FILE.into(),
            mode: 0o666,
            content: ImageContent::Bytes(format!("{}\n", jit.expose()).into_bytes()),
        },
    ];
    let packed = pack(&files).map_err(|error| {
        BackendError::new(OPERATION, ErrorKind::Backend, error.to_string()).about(name)
    })?;
    let call = Call::put(format!("/containers/{id}/archive?path=/")).tar(packed);
    let put = engine.call(call).await;
    put.map(drop).map_err(|error| error.of(OPERATION, Some(name), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_becomes_what_it_would_have_been() {
        let mut pool = DockerPool::new("image");
        let body = json!({ "Cmd": ["./run.sh"] });
        let image = ["/sbin/tini".to_owned(), "--".to_owned()];
        let made = taking(&pool, body.clone(), &image);
        assert_eq!(made["Cmd"], json!(["/sbin/tini", "--", "./run.sh"]));
        assert!(made["Entrypoint"][2].as_str().unwrap().ends_with("unset j l n; exec \"$@\""));
        pool.jit = JitDelivery::Argument;
        let made = taking(&pool, body, &[]);
        assert_eq!(made["Cmd"], json!(["./run.sh"]));
        assert!(
            made["Entrypoint"][2].as_str().unwrap().ends_with("exec \"$@\" --jitconfig \"$j\"")
        );
        // A kept runner is copied before.
        let copies = json!({ "Entrypoint": ["/bin/sh", "-ec", "copy", "x"], "Cmd": ["./run.sh"] });
        let made = taking(&pool, copies, &image);
        assert_eq!(made["Cmd"], json!(["/bin/sh", "-ec", "copy", "x", "./run.sh"]));
    }
}
