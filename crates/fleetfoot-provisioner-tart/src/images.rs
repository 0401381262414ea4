//! Images on this host, the machines that `tart` lists, and which of them are macOS guests.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use fleetfoot_provisioner::{BackendError, EnvironmentState, ErrorKind, InstanceName, PoolName};
use serde::Deserialize;

use crate::command::Done;
use crate::directory::{self, End, Job};
use crate::host::{TartHost, names_in};
use crate::life;

impl TartHost {
    /// How many macOS guests of ours run.
    pub(crate) fn running_macs(&self) -> usize {
        let names = names_in(&self.root).unwrap_or_default();
        let runs =
            |name: &&InstanceName| life::is_alive(&self.directory(name), Job::Vm).unwrap_or(false);
        names.iter().filter(runs).filter(|name| self.is_mac(&self.machine(name.as_str()))).count()
    }

    /// Whether the machine, or the image, in this directory is a macOS guest.
    pub(crate) fn is_mac(&self, directory: &Path) -> bool {
        #[derive(Deserialize)]
        struct Config {
            os: Option<String>,
        }
        let config = directory::read::<Config>(&directory.join("config.json"));
        config.ok().flatten().and_then(|config| config.os).as_deref() == Some("darwin")
    }

    /// Where an image lies, if it is on this host: a local machine, or pulled from a registry.
    pub(crate) fn image(&self, image: &str) -> Option<PathBuf> {
        let local = self.machine(image);
        let pulled = image.split_once('/').map(|(host, rest)| {
            let rest = rest.replace('@', ":");
            let (path, tag) = rest.split_once(':').unwrap_or((&rest, "latest"));
            self.home.join("cache/OCIs").join(host).join(path).join(tag)
        });
        [Some(local).filter(|_| !image.contains('/')), pulled]
            .into_iter()
            .flatten()
            .find(|path| path.exists())
    }

    /// The local machines as `tart` lists them.
    pub(crate) async fn listed(
        &self,
        operation: &'static str,
    ) -> Result<Vec<ListedVm>, BackendError> {
        let arguments = ["list", "--source", "local", "--format", "json"].map(str::to_owned);
        let done = self.tart(operation, &arguments).await?;
        if done.succeeded()
            && let Ok(listed) = serde_json::from_str(&done.stdout)
        {
            return Ok(listed);
        }
        let failed = |done: &Done| {
            let message = format!("tart list: {}", done.said());
            BackendError::new(operation, ErrorKind::Backend, message)
        };
        if !done.succeeded() && !done.says_usage() {
            return Err(failed(&done));
        }
        // One that writes no JSON is asked as the original did. Pulled images are in that list, too.
        let quiet = self.tart(operation, &["list", "--quiet"].map(str::to_owned)).await?;
        if !quiet.succeeded() {
            return Err(failed(&quiet));
        }
        let names = quiet.stdout.lines().map(str::trim);
        let local = names.filter(|name| !name.is_empty() && !name.contains('/'));
        Ok(local.map(ListedVm::of_name).collect())
    }

    /// Says that leftovers cannot be listed, each time that this begins.
    pub(crate) fn list_failed(&self, pool: &PoolName, error: Option<&BackendError>) {
        let mut told = self.told_of_list.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if told.insert(pool.clone()) => {
                tracing::warn!(%pool, error = error.message, "failed to list tart machines");
            }
            Some(_) => {}
            None => {
                told.remove(pool);
            }
        }
    }
}

/// An entry of `tart list`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedVm {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) state: String,
}

impl ListedVm {
    /// One of which nothing else is known.
    fn of_name(name: &str) -> Self {
        Self { name: name.to_owned(), state: String::new() }
    }

    pub(crate) fn state(&self) -> EnvironmentState {
        match self.state.as_str() {
            "stopped" => EnvironmentState::Ended(End::default().into_exit()),
            // Suspended ones come back as they were.
            _ => EnvironmentState::Running,
        }
    }
}
