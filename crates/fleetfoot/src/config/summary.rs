//! What a file would start: for `fleetfoot check`.

use std::fmt;

use serde::Serialize;

use super::credentials::{Flags, resolve_url};
use super::types::{Backend, Config, DiskShare, RunnerConfig};
use super::units::{show_duration, show_size};

/// What a whole file would start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The file.
    pub file: String,
    /// One entry a pool, in name order.
    pub pools: Vec<PoolSummary>,
    /// Limits of the host, in words; empty when there are none but the disk's.
    pub host: Vec<String>,
    /// Where health and metrics are served, if anywhere.
    pub listen: Option<String>,
    /// How targets of myshoes are served beside the pools, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
    /// The database that several controllers share, without its password, and where its address was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// What one runner would start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolSummary {
    /// The pool's name.
    pub name: String,
    /// Where it registers, if that is known.
    pub url: Option<String>,
    /// Runner group.
    pub runner_group: String,
    /// Labels.
    pub labels: Vec<String>,
    /// Backend and what it runs: `docker ghcr.io/actions/actions-runner:latest`.
    pub backend: String,
    /// Most instances at once.
    pub max_runners: u32,
    /// Runners kept ready.
    pub min_idle: u32,
    /// Environments kept made.
    pub warm: u32,
    /// Limits of each instance, in words.
    pub limits: Vec<String>,
}

/// Says what a checked file would start.
#[must_use]
pub fn summarize(config: &Config, flags: &Flags) -> Summary {
    let mut host = Vec::new();
    if let Some(count) = config.host.max_instances {
        host.push(format!("at most {count} instances"));
    }
    if let Some(cpus) = config.host.cpus {
        host.push(format!("{} cpus", show_cpus(cpus.millis)));
    }
    if let Some(memory) = config.host.memory {
        host.push(format!("{} memory", show_size(memory)));
    }
    match config.host.min_free_disk {
        DiskShare::Percent(0) | DiskShare::Bytes(0) => {}
        DiskShare::Percent(percent) => host.push(format!("{percent}% of the disk stays free")),
        DiskShare::Bytes(bytes) => host.push(format!("{} of disk stay free", show_size(bytes))),
    }
    Summary {
        file: config.path.display().to_string(),
        pools: config.runners.iter().map(|runner| pool(config, runner, flags)).collect(),
        host,
        listen: config.listen.as_ref().map(|listen| listen.address.to_string()),
        store: None,
        targets: None,
    }
}

fn pool(config: &Config, runner: &RunnerConfig, flags: &Flags) -> PoolSummary {
    let (backend, mut limits) = backend(&runner.backend);
    if let Some(limit) = runner.max_job_duration {
        limits.push(format!("jobs at most {}", show_duration(limit)));
    }
    PoolSummary {
        name: runner.name.clone(),
        url: resolve_url(config, runner, flags).ok(),
        runner_group: runner.runner_group.clone().unwrap_or_else(|| "Default".to_owned()),
        labels: runner.labels.clone(),
        backend,
        max_runners: runner.max_runners,
        min_idle: runner.min_idle,
        warm: runner.warm,
        limits,
    }
}

fn backend(backend: &Backend) -> (String, Vec<String>) {
    match backend {
        Backend::Docker(docker) => (
            match &docker.runner_release {
                Some(release) => format!("docker {}, runner {}", docker.image, release.as_str()),
                None => format!("docker {}", docker.image),
            },
            limits(docker.cpus.map(|cpus| cpus.millis), docker.memory, docker.pids),
        ),
        Backend::Process(process) => {
            let source = match &process.source {
                super::RunnerSource::Directory(path) | super::RunnerSource::Archive(path) => {
                    path.display().to_string()
                }
                super::RunnerSource::Release(release) => format!("runner {}", release.as_str()),
            };
            let cpus = process.cpus.map(|cpus| cpus.millis);
            let limits = limits(cpus, process.memory, process.pids);
            (format!("process {source}"), limits)
        }
        Backend::Libvirt(machine) => (
            format!("libvirt {}", machine.path.display()),
            limits(Some(machine.cpus.saturating_mul(1000)), Some(machine.memory_mib << 20), None),
        ),
        Backend::Tart(machine) => (
            format!("tart {}", machine.image),
            limits(Some(machine.cpus.saturating_mul(1000)), Some(machine.memory_mib << 20), None),
        ),
        Backend::Simulated(_) => ("simulated".to_owned(), Vec::new()),
    }
}

fn limits(cpu_millis: Option<u32>, memory: Option<u64>, pids: Option<u32>) -> Vec<String> {
    let mut out = Vec::new();
    out.extend(cpu_millis.map(|millis| format!("{} cpus", show_cpus(millis))));
    out.extend(memory.map(|memory| format!("{} memory", show_size(memory))));
    out.extend(pids.map(|pids| format!("{pids} pids")));
    out
}

fn show_cpus(millis: u32) -> String {
    if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        let text = format!("{}.{:03}", millis / 1000, millis % 1000);
        text.trim_end_matches('0').to_owned()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} would start:", self.file)?;
        for pool in &self.pools {
            writeln!(f, "  {pool}")?;
        }
        if !self.host.is_empty() {
            writeln!(f, "on this host: {}", self.host.join(", "))?;
        }
        if let Some(targets) = &self.targets {
            writeln!(f, "targets of myshoes: {targets}")?;
        }
        if let Some(store) = &self.store {
            writeln!(f, "store shared with other controllers: {store}")?;
        }
        match &self.listen {
            Some(address) => writeln!(f, "health and metrics at http://{address}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PoolSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoolSummary { name, runner_group, labels, backend, max_runners, min_idle, .. } = self;
        let url = self.url.as_deref().unwrap_or("(no url)");
        let labels = labels.join(",");
        write!(f, "{name}: {url}, group {runner_group}, labels {labels}, {backend}, ")?;
        write!(f, "up to {max_runners}, {min_idle} kept idle")?;
        if self.warm > 0 {
            write!(f, ", {} kept warm", self.warm)?;
        }
        if !self.limits.is_empty() {
            write!(f, ", each {}", self.limits.join(", "))?;
        }
        Ok(())
    }
}
