//! An engine, an image, a box, a controller behind a proxy, and what the engine says happened.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, EventMessage, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use fleetfoot_api::Status;
use fleetfoot_sim::{BoxConfig, BoxState, GithubBox, QueueJobs};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::bare::Bare;
use super::super::figure::{apart_ms, now_us};
use super::super::proxy::Proxy;
use super::super::rig::{PoolLine, SCOPE, config};
use crate::commands::demo::containers::{Containers, RUNNER, answer};
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory};

/// The scale set of bare code, and the beginning of its containers' names.
const BARE: &str = "bare";
/// More than is ever asked for.
const CAPACITY: usize = 1000;
const LABEL: &str = "fleetfoot.bench";
const READY_BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(20);
const BOUND: Duration = Duration::from_secs(120);
/// An engine gets so long to clear everything away.
const CLEAR_BOUND: Duration = Duration::from_secs(60);
/// And so long after an interruption or a failure.
const HURRY_BOUND: Duration = Duration::from_secs(10);

/// What the engine says a container did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Action {
    Start,
    Die,
}

#[derive(Debug, Clone)]
struct Happened {
    name: String,
    action: Action,
    at_us: u64,
}

/// A container that bare code will start.
pub(in super::super) struct BareContainer {
    name: String,
    jit: String,
    pub(in super::super) job: u64,
}

/// Everything for a row with a real engine.
pub(in super::super) struct Stand {
    data: DataDirectory,
    containers: Containers,
    proxy: Proxy,
    /// Bare code's connection, through the proxy as the controller's.
    docker: Docker,
    mark: String,
    happened: watch::Receiver<Vec<Happened>>,
    background: JoinSet<()>,
    github: Option<GithubBox>,
    bare: Option<(Bare, i64)>,
    files: Option<ControllerFiles>,
    controller: Option<Controller>,
}

impl Stand {
    /// Finds an engine; says why not, if there is none that can be used.
    pub(in super::super) async fn find() -> Result<Result<Self, String>> {
        let socket =
            std::env::var("FLEETFOOT_TEST_DOCKER_SOCKET").ok().map(|path| format!("unix://{path}"));
        let containers = match Containers::connect_to(socket).await {
            Ok(containers) => containers,
            Err(error) => return Ok(Err(format!("no Docker engine: {error:#}"))),
        };
        let address = containers.address();
        let Some(path) = address.strip_prefix("unix://").map(PathBuf::from) else {
            return Ok(Err(format!("the engine at {address} is not reached by a Unix socket")));
        };
        let data = DataDirectory::new("bench")?;
        let proxy = Proxy::start(data.path().join("docker.sock"), path)?;
        let docker = Docker::connect_with_host(&proxy.address())?.negotiate_version().await?;
        let (happened_tx, happened) = watch::channel(Vec::new());
        let mut background = JoinSet::new();
        background.spawn(watch_engine(containers.docker().clone(), happened_tx));
        let mark = format!("{:016x}", fastrand::u64(..));
        Ok(Ok(Self {
            data,
            containers,
            proxy,
            docker,
            mark,
            happened,
            background,
            github: None,
            bare: None,
            files: None,
            controller: None,
        }))
    }

    /// Starts a box and a controller with these pools.
    pub(in super::super) async fn set(&mut self, pools: &[PoolLine]) -> Result<()> {
        self.containers.build().await?;
        let github = self.github.insert(GithubBox::start(BoxConfig::default()).await?);
        let bare = Bare::connect(&github.url(), SCOPE).await?;
        let set = bare.scale_set(BARE).await?;
        // Jobs are assigned to a set that is polled.
        let (polling, session) = (bare.clone(), bare.open(set).await?);
        self.background.spawn(async move {
            while let Ok(message) = polling.poll(&session, CAPACITY).await {
                if let Some(message) = message {
                    let _ = polling.acknowledge(&session, message.id).await;
                }
            }
        });
        self.bare = Some((bare, set));
        let backend = self.containers.config_at(&self.proxy.address());
        let config = config(&github.url(), self.data.path(), pools, &backend)?;
        let files = self.files.insert(ControllerFiles::write(self.data.path(), &config)?);
        self.controller.insert(Controller::start(files)?).wait_ready(READY_BOUND).await?;
        Ok(())
    }

    /// Kills the controller and starts it again: when, and what it says once it is ready.
    pub(in super::super) async fn kill_and_start(&mut self) -> Result<(u64, Status)> {
        self.controller.take().context("no controller")?.kill().await?;
        let files = self.files.as_ref().context("the stand is not set")?;
        let started_us = now_us();
        let status = self.controller.insert(Controller::start(files)?).wait_ready(READY_BOUND);
        Ok((started_us, status.await?))
    }

    /// What bare code needs to see all containers of the controller.
    pub(in super::super) async fn bare_list_ms(&self) -> Result<(usize, f64)> {
        let began_us = now_us();
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listed = answer("list containers", self.docker.list_containers(Some(options))).await?;
        Ok((listed.len(), apart_ms(began_us, now_us())))
    }

    pub(in super::super) fn github(&self) -> Result<&GithubBox> {
        self.github.as_ref().context("the stand is not set")
    }

    pub(in super::super) async fn wait(
        &mut self,
        bound: Duration,
        wanted: impl FnMut(&BoxState) -> bool,
    ) -> Result<BoxState> {
        let waited = self.github()?.wait_until(bound, wanted).await;
        if let Some(controller) = &mut self.controller {
            controller.check()?;
        }
        Ok(waited?)
    }

    /// Waits until no runner and no container of the controller is left.
    pub(in super::super) async fn wait_quiet(&mut self, bound: Duration) -> Result<()> {
        self.wait(bound, |state| state.summary.runners == 0).await?;
        let deadline = tokio::time::Instant::now() + bound;
        loop {
            let left = self.containers.of(&self.state()).await?.len();
            if left == 0 {
                break;
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "the engine has not removed {left} containers within {bound:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn state(&self) -> PathBuf {
        self.data.path().join("state")
    }

    /// When the container did that.
    pub(in super::super) async fn when(
        &self,
        name: &str,
        action: Action,
        bound: Duration,
    ) -> Result<u64> {
        let mut happened = self.happened.clone();
        let find = |all: &[Happened]| {
            all.iter().find(|one| one.name == name && one.action == action).map(|one| one.at_us)
        };
        let seen = happened.wait_for(|all| find(all).is_some());
        let seen = tokio::time::timeout(bound, seen).await;
        let seen = seen.with_context(|| format!("no {action:?} of {name} within {bound:?}"))?;
        find(&seen?).context("the engine's events ended")
    }

    /// How many containers with names of this pool were started so far.
    pub(in super::super) fn started(&self, pool: &str) -> usize {
        starts(&self.happened.borrow(), pool).count()
    }

    /// Waits until so many were started; when the last of them was.
    pub(in super::super) async fn wait_started(
        &self,
        pool: &str,
        count: usize,
        bound: Duration,
    ) -> Result<u64> {
        let mut happened = self.happened.clone();
        let seen = happened.wait_for(|all| starts(all, pool).count() >= count);
        let seen = tokio::time::timeout(bound, seen).await;
        let seen =
            seen.with_context(|| format!("not {count} containers of {pool} within {bound:?}"))?;
        starts(&seen?, pool).max().context("no container was started")
    }

    /// Starts and ends of containers of this pool, in order: when one died, when the next was started.
    pub(in super::super) fn gaps_ms(&self, pool: &str) -> Vec<f64> {
        let happened = self.happened.borrow();
        let prefix = format!("{pool}-");
        let of_pool: Vec<&Happened> =
            happened.iter().filter(|one| one.name.starts_with(&prefix)).collect();
        let pairs = of_pool.windows(2).filter_map(|pair| match pair {
            [died, started] if died.action == Action::Die && started.action == Action::Start => {
                Some(apart_ms(died.at_us, started.at_us))
            }
            _ => None,
        });
        pairs.collect()
    }

    pub(in super::super) fn create_sent_us(&self, name: &str) -> Result<u64> {
        self.proxy
            .create_sent_us(name)
            .with_context(|| format!("no create request for {name} was seen"))
    }

    /// A JIT config and a job for it, so that bare containers do the same work as ours.
    pub(in super::super) async fn prepare_bare(&self, job_ms: u64) -> Result<BareContainer> {
        let (client, set) = self.bare.as_ref().context("the stand is not set")?;
        let name = format!("{BARE}-{:08x}", fastrand::u32(..));
        let jit = client.jit(*set, &name).await?;
        let jobs = self.github()?.queue_jobs(&QueueJobs::for_scale_set(SCOPE, BARE, 1, job_ms));
        let job = jobs.first().copied().context("no job was queued")?;
        Ok(BareContainer { name, jit, job })
    }

    /// Creates and starts it with no more than that; when the engine says it was started.
    pub(in super::super) async fn start_bare(&self, bare: &BareContainer) -> Result<u64> {
        let options = CreateContainerOptionsBuilder::new().name(&bare.name).build();
        let body = ContainerCreateBody {
            image: Some(self.containers.image().to_owned()),
            cmd: Some(vec![RUNNER.to_owned()]),
            env: Some(vec![format!("ACTIONS_RUNNER_INPUT_JITCONFIG={}", bare.jit)]),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.mark.clone())])),
            host_config: Some(HostConfig {
                network_mode: Some("host".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let created = self.docker.create_container(Some(options), body);
        let container = answer("create container", created).await?;
        answer("start container", self.docker.start_container(&container.id, None)).await?;
        self.when(&bare.name, Action::Start, BOUND).await
    }

    pub(in super::super) async fn wait_bare_end(&self, bare: &BareContainer) -> Result<u64> {
        self.when(&bare.name, Action::Die, BOUND).await
    }

    pub(in super::super) async fn remove_bare(&self, bare: &BareContainer) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        answer("remove container", self.docker.remove_container(&bare.name, Some(options))).await
    }

    /// One container by bare code, from the call to the start.
    pub(in super::super) async fn bare_one(&self, job_ms: u64) -> Result<f64> {
        let bare = self.prepare_bare(job_ms).await?;
        let began_us = now_us();
        let started_us = self.start_bare(&bare).await?;
        self.wait_bare_end(&bare).await?;
        self.remove_bare(&bare).await?;
        Ok(apart_ms(began_us, started_us))
    }

    /// Ends and removes everything, however far it came. An engine that hangs is not waited for: what
    /// stays there is said, and how it is removed.
    pub(in super::super) async fn end(mut self, hurry: bool) -> Result<()> {
        if let Some(controller) = self.controller.take() {
            // What it does not remove any more is removed here.
            let _ = if hurry {
                controller.kill().await
            } else {
                controller.stop(STOP_BOUND).await.map(drop)
            };
        }
        let bound = if hurry { HURRY_BOUND } else { CLEAR_BOUND };
        let mut left = None;
        let cleared = tokio::time::timeout(bound, self.clear(&mut left)).await;
        self.data.end_processes().await;
        let image = self.containers.image().to_owned();
        let address = self.containers.address();
        self.data.remove()?;
        let why = match cleared {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("no answer to `remove container` within {bound:?}"),
        };
        let left = left.map_or_else(String::new, |left| format!("{left} "));
        bail!(
            "the engine at {address} was not cleared ({why}): {left}containers may stay there; once it answers (restart it if it does not): docker -H {address} rm -f $(docker -H {address} ps -aq --filter ancestor={image}); docker -H {address} rmi {image}"
        )
    }

    async fn clear(&self, left: &mut Option<usize>) -> Result<()> {
        let mut containers = self.containers.labeled(&format!("{LABEL}={}", self.mark)).await?;
        containers.extend(self.containers.of(&self.state()).await?);
        *left = Some(containers.len());
        let gone = || *left = left.map(|left| left.saturating_sub(1));
        self.containers.remove(&containers, gone).await?;
        self.containers.remove_image().await
    }
}

fn starts<'a>(all: &'a [Happened], pool: &str) -> impl Iterator<Item = u64> + 'a {
    let prefix = format!("{pool}-");
    let starts =
        all.iter().filter(move |one| one.action == Action::Start && one.name.starts_with(&prefix));
    starts.map(|one| one.at_us)
}

async fn watch_engine(docker: Docker, happened: watch::Sender<Vec<Happened>>) {
    let filters = HashMap::from([("type", vec!["container"]), ("event", vec!["start", "die"])]);
    let mut events =
        std::pin::pin!(docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build())));
    while let Some(Ok(event)) = events.next().await {
        if let Ok(one) = read(event) {
            happened.send_modify(|all| all.push(one));
        }
    }
}

fn read(event: EventMessage) -> Result<Happened> {
    let attributes = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
    let name = attributes.get("name").context("an event without a name")?.clone();
    let action = match event.action.as_deref() {
        Some("start") => Action::Start,
        Some("die") => Action::Die,
        _ => bail!("another event"),
    };
    let at_us = u64::try_from(event.time_nano.context("an event without a time")? / 1000)?;
    Ok(Happened { name, action, at_us })
}
