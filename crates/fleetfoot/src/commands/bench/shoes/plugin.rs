//! The plugin of the rows `shoes` and `targets`: it says at once what it was asked for, and makes nothing. It is this
//! very program under another name, made with the crate that anybody writes a plugin with.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use fleetfoot_shoes_plugin::{AddInstance, DeleteInstance, Instance, Refusal, Shoes, exit, serve};
use fleetfoot_sim::GithubBox;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::super::figure::now_us;

/// The name by which this program is that plugin.
pub(crate) const NAME: &str = "fleetfoot-bench-shoes";

/// The socket at which the measuring process listens.
pub(crate) const SOCKET: &str = "BENCH_SHOES_SOCKET";

/// Is the plugin.
pub(crate) fn main() -> ExitCode {
    let Some(Ok(tells)) = std::env::var_os(SOCKET).map(UnixStream::connect) else {
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => exit(runtime.block_on(serve(Plugin { tells: Mutex::new(tells) }))),
        Err(_) => ExitCode::FAILURE,
    }
}

struct Plugin {
    tells: Mutex<UnixStream>,
}

#[async_trait]
impl Shoes for Plugin {
    async fn add_instance(&self, wanted: AddInstance) -> Result<Instance, Refusal> {
        let received_us = now_us();
        let AddInstance { runner_name, resource_type, labels, .. } = wanted;
        let scope = labels.get(1).map(String::as_str).unwrap_or_default();
        let line = format!("{runner_name} {} {scope} {received_us}\n", resource_type.word());
        let mut tells = self.tells.lock().unwrap_or_else(PoisonError::into_inner);
        tells.write_all(line.as_bytes()).map_err(|error| Refusal::Failed(error.to_string()))?;
        drop(tells);
        Ok(Instance::new(runner_name, "bench"))
    }

    async fn delete_instance(&self, _: DeleteInstance) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A creation that reached the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Added {
    pub(in super::super) size: String,
    pub(in super::super) received_us: u64,
}

/// Hears of every creation, and lets the box play its runner.
pub(in super::super) struct Machines {
    added: Arc<Mutex<Vec<Added>>>,
    _hearing: JoinSet<()>,
}

impl Machines {
    pub(in super::super) fn hear(socket: &Path, github: Arc<GithubBox>) -> Result<Self> {
        let listener = UnixListener::bind(socket).context("cannot bind the plugin's socket")?;
        let added = Arc::new(Mutex::new(Vec::new()));
        let mut hearing = JoinSet::new();
        let heard = added.clone();
        hearing.spawn(async move {
            let mut plugins = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, github) = (heard.clone(), github.clone());
                plugins.spawn(async move {
                    let mut lines = BufReader::new(stream).lines();
                    while let Ok(Some(line)) = lines.next_line().await {
                        take(&line, &heard, &github);
                    }
                });
                while plugins.try_join_next().is_some() {}
            }
        });
        Ok(Self { added, _hearing: hearing })
    }

    /// All so far.
    pub(in super::super) fn added(&self) -> Vec<Added> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn take(line: &str, heard: &Mutex<Vec<Added>>, github: &GithubBox) {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, size, scope, at] = words[..] else { return };
    let Ok(received_us) = at.parse() else { return };
    let added = Added { size: size.to_owned(), received_us };
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(added);
    // A runner that is not registered is a job that does not end; the measurement notices.
    let _ = github.play_runner(scope, name);
}
