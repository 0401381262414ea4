//! One provisioner per pool; pools at one engine share its connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fleetfoot_provisioner::simulated::{Binding, Latency, SimulatedEngine, SimulatedProvisioner};
use fleetfoot_provisioner_docker::{DockerEngine, DockerProvisioner, EngineSettings};
use fleetfoot_provisioner_process::{
    BubblewrapSettings, ProcessHost, ProcessPool, ProcessProvisioner, RunnerSource, Sandbox,
};
use fleetfoot_provisioner_tart::{TartHost, TartProvisioner};

use crate::config::{
    self, Backend, Flavor, InstanceProxy, ProcessConfig, RunnerConfig, SimulatedConfig,
};

use super::libvirt::Daemons;
use super::{AnyProvisioner, Surroundings, WiringError};

/// Calls at once to an engine: more only make it slower.
const DOCKER_CALLS: usize = 16;

/// Processes begun at once.
const PROCESS_CALLS: usize = 8;

/// Machines begun at once.
const TART_CALLS: usize = 4;

/// The simulated engine does no work.
const SIMULATED_CALLS: usize = 4096;

/// A provisioner and how many calls its connection takes at once.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) provisioner: AnyProvisioner,
    pub(super) concurrency: usize,
}

/// Makes backends, each engine once.
#[derive(Debug)]
pub(super) struct Backends {
    surroundings: Surroundings,
    engines: BTreeMap<Option<String>, Arc<DockerEngine>>,
    libvirt: Daemons,
    processes: Option<Arc<ProcessHost>>,
    machines: Option<Arc<TartHost>>,
    simulated: Option<SimulatedEngine>,
    /// What was made of which settings: the same ones make nothing new.
    made: BTreeMap<String, (Recipe, Made)>,
}

/// Everything of a runner that its provisioner is made from.
type Recipe = (Backend, Option<InstanceProxy>, Option<PathBuf>, Option<PathBuf>, bool);

impl Backends {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        Self {
            surroundings,
            engines: BTreeMap::new(),
            libvirt: Daemons::default(),
            processes: None,
            machines: None,
            simulated: None,
            made: BTreeMap::new(),
        }
    }

    /// The backend of one runner; the very same one if its settings are. `kept` is where the release of the
    /// runner is that is kept for it.
    pub(super) async fn backend(
        &mut self,
        runner: &RunnerConfig,
        kept: Option<PathBuf>,
    ) -> Result<Made, WiringError> {
        let recipe = (
            runner.backend.clone(),
            runner.proxy.clone(),
            runner.ca_file.clone(),
            kept.clone(),
            runner.warm > 0,
        );
        if let Some((of, made)) = self.made.get(&runner.name)
            && *of == recipe
        {
            return Ok(made.clone());
        }
        let made = self.make(runner, kept).await?;
        self.made.insert(runner.name.clone(), (recipe, made.clone()));
        Ok(made)
    }

    /// Forgets what these runners do not use.
    pub(super) fn keep(&mut self, runners: &[RunnerConfig]) {
        self.made.retain(|name, _| runners.iter().any(|runner| runner.name == *name));
        let hosts = runners.iter().filter_map(|runner| match &runner.backend {
            Backend::Docker(docker) => Some(&docker.host),
            Backend::Process(_)
            | Backend::Simulated(_)
            | Backend::Libvirt(_)
            | Backend::Tart(_) => None,
        });
        let hosts: std::collections::BTreeSet<_> = hosts.collect();
        self.engines.retain(|host, _| hosts.contains(host));
        self.libvirt.keep(runners.iter().filter_map(|runner| match &runner.backend {
            Backend::Libvirt(libvirt) => Some(&libvirt.address),
            Backend::Docker(_) | Backend::Process(_) | Backend::Simulated(_) | Backend::Tart(_) => {
                None
            }
        }));
    }

    async fn make(
        &mut self,
        runner: &RunnerConfig,
        kept: Option<PathBuf>,
    ) -> Result<Made, WiringError> {
        let failed =
            |message: String| WiringError::Backend { runner: runner.name.clone(), message };
        match &runner.backend {
            Backend::Docker(docker) => {
                let is_known = self.engines.contains_key(&docker.host);
                let engine = self.engine(docker.host.clone()).await.map_err(failed)?;
                // The original looks for it, and tells what it found, once for each runner.
                if let Some(host) = engine.detected()
                    && (!is_known || self.surroundings.flavor == Flavor::Outrunner)
                {
                    tracing::info!(pool = runner.name, host, "docker host detected");
                }
                let pool = super::docker::pool(docker, runner, kept);
                let installation = self.surroundings.installation.clone();
                let provisioner = Arc::new(DockerProvisioner::new(engine, pool, installation));
                Ok(Made { provisioner, concurrency: DOCKER_CALLS })
            }
            Backend::Process(process) => {
                let host = self.process_host().map_err(failed)?;
                let pool = process_pool(process, runner, kept);
                let shim = self.surroundings.program.clone();
                let provisioner = Arc::new(ProcessProvisioner::new(host, pool, shim));
                Ok(Made { provisioner, concurrency: PROCESS_CALLS })
            }
            Backend::Simulated(simulated) => {
                Ok(Made { provisioner: self.simulated(simulated), concurrency: SIMULATED_CALLS })
            }
            Backend::Tart(tart) => {
                let host = self.tart_host().map_err(failed)?;
                let provisioner = Arc::new(TartProvisioner::new(host, super::tart::pool(tart)));
                Ok(Made { provisioner, concurrency: TART_CALLS })
            }
            Backend::Libvirt(libvirt) => {
                let Surroundings { instances, installation, .. } = &self.surroundings;
                let state = instances.with_file_name("libvirt");
                let provisioner =
                    self.libvirt.provisioner(libvirt, &state, installation).map_err(failed)?;
                Ok(Made { provisioner, concurrency: super::libvirt::CALLS })
            }
        }
    }

    async fn engine(&mut self, host: Option<String>) -> Result<Arc<DockerEngine>, String> {
        if let Some(engine) = self.engines.get(&host) {
            return Ok(engine.clone());
        }
        let settings = EngineSettings::from_environment(host.clone());
        let engine = DockerEngine::connect(settings).await.map_err(|error| {
            let text = crate::chain(&error);
            match self.surroundings.flavor {
                Flavor::Native => text,
                Flavor::Outrunner => format!("docker client: {text}"),
            }
        })?;
        self.engines.insert(host, engine.clone());
        Ok(engine)
    }

    fn process_host(&mut self) -> Result<Arc<ProcessHost>, String> {
        if let Some(host) = &self.processes {
            return Ok(host.clone());
        }
        let Surroundings { instances, installation, .. } = &self.surroundings;
        let host = ProcessHost::open(instances, installation.clone())
            .map_err(|error| crate::chain(&error))?;
        self.processes = Some(host.clone());
        Ok(host)
    }

    fn tart_host(&mut self) -> Result<Arc<TartHost>, String> {
        if let Some(host) = &self.machines {
            return Ok(host.clone());
        }
        let host = super::tart::host(&self.surroundings).map_err(|error| crate::chain(&error))?;
        let host = Arc::new(host);
        self.machines = Some(host.clone());
        Ok(host)
    }

    fn simulated(&mut self, config: &SimulatedConfig) -> AnyProvisioner {
        let installation = self.surroundings.installation.clone();
        let binding = if config.late_binding { Binding::LateBinding } else { Binding::SingleStep };
        match &config.socket {
            Some(socket) => Arc::new(SimulatedProvisioner::remote(socket, installation, binding)),
            None => {
                let engine = self.simulated.get_or_insert_with(SimulatedEngine::new);
                engine.set_latency(Latency {
                    create: config.create_time,
                    delete: config.delete_time,
                    ..Latency::default()
                });
                Arc::new(SimulatedProvisioner::new(engine, installation, binding))
            }
        }
    }
}

fn process_pool(
    process: &ProcessConfig,
    runner: &RunnerConfig,
    kept: Option<PathBuf>,
) -> ProcessPool {
    let source = match &process.source {
        config::RunnerSource::Release(_) => RunnerSource::KeptRunner(kept.unwrap_or_default()),
        config::RunnerSource::Directory(path) => RunnerSource::RunnerDirectory(path.clone()),
        config::RunnerSource::Archive(path) => RunnerSource::RunnerArchive(path.clone()),
    };
    let mut env: Vec<(String, String)> = reach_variables(runner);
    env.extend(process.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    ProcessPool {
        command: vec![process.runner_cmd.clone()],
        env,
        sandbox: match process.sandbox {
            config::Sandbox::None => Sandbox::None,
            config::Sandbox::Bubblewrap => Sandbox::Bubblewrap(BubblewrapSettings::default()),
        },
        uid_range: process.uid_range,
        cpus: process.cpus.map(|cpus| f64::from(cpus.millis) / 1000.0),
        memory: process.memory,
        pids: process.pids,
        ..ProcessPool::new(source)
    }
}

/// Values of `http_proxy`, `https_proxy` and `no_proxy` for the inside of instances.
pub(super) fn proxy_values(
    proxy: &InstanceProxy,
) -> (Option<String>, Option<String>, Option<String>) {
    let own = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_uppercase())).ok();
    match proxy {
        InstanceProxy::Ours => (own("http_proxy"), own("https_proxy"), own("no_proxy")),
        InstanceProxy::Explicit { http, https, no_proxy } => {
            (http.clone(), https.clone(), no_proxy.clone())
        }
    }
}

/// Proxy variables in both spellings, and where runners and their tools look for certificate authorities.
fn reach_variables(runner: &RunnerConfig) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    if let Some(proxy) = &runner.proxy {
        let (http, https, no_proxy) = proxy_values(proxy);
        for (name, value) in [("http_proxy", http), ("https_proxy", https), ("no_proxy", no_proxy)]
        {
            if let Some(value) = value {
                variables.push((name.to_owned(), value.clone()));
                variables.push((name.to_uppercase(), value));
            }
        }
    }
    if let Some(ca_file) = &runner.ca_file {
        // Actions run on Node, which adds these to its own. The runner itself uses this host's store.
        variables.push(("NODE_EXTRA_CA_CERTS".to_owned(), ca_file.display().to_string()));
    }
    variables
}
