//! Images on this host, and which machines are macOS guests.

use std::path::{Path, PathBuf};

use fleetfoot_provisioner::{EnvironmentState, InstanceName};
use serde::Deserialize;

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
    pub(crate) fn state(&self) -> EnvironmentState {
        match self.state.as_str() {
            "stopped" => EnvironmentState::Ended(End::default().into_exit()),
            // Suspended ones come back as they were.
            _ => EnvironmentState::Running,
        }
    }
}
