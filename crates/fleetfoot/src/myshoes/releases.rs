//! Which release of the runner machines get.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetfoot_controller::PoolSettings;
use fleetfoot_github::RunnerOffer;
use fleetfoot_myshoes::version::RunnerVersion;
use fleetfoot_provisioner_shoes::script::{DOWNLOADS, Script, ScriptSettings};
use tokio::sync::watch;

use super::Environment;

/// The newest release is asked for this often.
const FRESH: Duration = Duration::from_secs(15 * 60);

/// After a look in vain.
const PAUSE: Duration = Duration::from_secs(20);

/// Pools that are asked in one look: a thousand whose GitHub hangs would take hours.
const ASKED_MAX: usize = 3;

/// A look at the releases is over within this.
const BOUND: Duration = Duration::from_secs(10);

/// Keeps what machines are told up to date.
#[derive(Debug)]
pub(super) struct Releases {
    wanted: RunnerVersion,
    base: ScriptSettings,
    told: watch::Sender<Option<Arc<Script>>>,
    looked: Option<Instant>,
    /// When it was looked for in vain, and how many pools were asked by then.
    in_vain: Option<Instant>,
    asked: usize,
}

impl Releases {
    /// A release that was named is known at once.
    pub(super) fn new(environment: &Environment) -> Self {
        let settings = &environment.settings;
        let base = ScriptSettings {
            version: String::new(),
            checksums: String::new(),
            user: settings.runner_user.clone(),
            base_directory: settings.runner_base_directory.clone(),
            downloads: environment
                .own
                .runner_downloads
                .clone()
                .unwrap_or_else(|| DOWNLOADS.to_owned()),
        };
        let known = match &settings.runner_version {
            RunnerVersion::Latest => None,
            RunnerVersion::Exact(version) => {
                let settings = ScriptSettings { version: version.clone(), ..base.clone() };
                Some(Arc::new(Script::new(settings)))
            }
        };
        let wanted = settings.runner_version.clone();
        Self {
            wanted,
            base,
            told: watch::Sender::new(known),
            looked: None,
            in_vain: None,
            asked: 0,
        }
    }

    /// What machines are told.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Script>>> {
        self.told.subscribe()
    }

    /// Looks for a newer one, if it is time and some pool has a way to GitHub.
    pub(super) async fn look(&mut self, pools: &[PoolSettings]) {
        let is_fresh = self.looked.is_some_and(|at| at.elapsed() < FRESH);
        let was_in_vain = self.in_vain.is_some_and(|at| at.elapsed() < PAUSE);
        if self.wanted != RunnerVersion::Latest || is_fresh || was_in_vain {
            return;
        }
        let pools: Vec<&PoolSettings> = pools.iter().filter(|pool| !pool.removed).collect();
        // Others each time: the first ones may have no right to it.
        let from = self.asked;
        let some = pools.iter().cycle().skip(from % pools.len().max(1)).take(ASKED_MAX);
        for pool in some.take(pools.len()) {
            self.asked = self.asked.wrapping_add(1);
            match tokio::time::timeout(BOUND, newest(pool)).await {
                Ok(Ok(Some((version, checksums)))) => {
                    let told = ScriptSettings { version, checksums, ..self.base.clone() };
                    self.looked = Some(Instant::now());
                    let is_news = self.told.send_if_modified(|known| {
                        let is_news = known.as_ref().is_none_or(|it| *it.settings() != told);
                        if is_news {
                            *known = Some(Arc::new(Script::new(told.clone())));
                        }
                        is_news
                    });
                    if is_news {
                        tracing::info!(version = told.version, "runner release");
                    }
                    return;
                }
                Ok(Ok(None)) => {
                    tracing::warn!(pool = %pool.name, "GitHub offers no runner for linux x64")
                }
                Ok(Err(reason)) => {
                    tracing::warn!(pool = %pool.name, reason, "releases of the runner cannot be looked at")
                }
                Err(_) => {
                    tracing::warn!(pool = %pool.name, "no answer about releases of the runner")
                }
            }
        }
        self.in_vain = (!pools.is_empty()).then(Instant::now);
    }
}

/// The newest version, and the checksums of its archives.
async fn newest(pool: &PoolSettings) -> Result<Option<(String, String)>, String> {
    let offers = pool.connection.newest_runners().await.map_err(|error| error.chain())?;
    Ok(told(&offers))
}

/// The version is that of Linux on x64, as the original has it; checksums are those that are stated of it, by platform.
fn told(offers: &[RunnerOffer]) -> Option<(String, String)> {
    let linux = |it: &&RunnerOffer| it.os == "linux" && it.architecture == "x64";
    let version = &offers.iter().find(linux)?.version;
    let mut checksums = String::new();
    for offer in offers.iter().filter(|offer| offer.version == *version) {
        if let Some(sha256) = &offer.sha256 {
            checksums.push_str(&format!("{}-{} {sha256}\n", offer.os, offer.architecture));
        }
    }
    Some((format!("v{version}"), checksums))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_linux_and_a_checksum_may_be_missing() {
        let offer =
            |os: &str, architecture: &str, version: &str, sha256: Option<&str>| RunnerOffer {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                version: version.to_owned(),
                sha256: sha256.map(str::to_owned),
            };
        let offers = [
            offer("osx", "arm64", "2.2.0", Some("cc")),
            offer("linux", "arm64", "2.3.0", Some("bb")),
            offer("linux", "x64", "2.3.0", None),
        ];
        let expected = ("v2.3.0".to_owned(), "linux-arm64 bb\n".to_owned());
        assert_eq!(told(&offers), Some(expected));
        assert_eq!(told(&offers[..2]), None);
    }
}
