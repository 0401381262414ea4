//! The controller in a program of its own, with a backend of its own, against a GitHub in a box: ten jobs, five
//! at a time. An environment of this backend is a task; yours may be a machine.
//!
//! `cargo run -p fleetfoot-controller --example embed`
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetfoot_controller::{Clock, Controller, ControllerSettings, PoolSettings};
use fleetfoot_core::{Exit, InstanceName, PoolName};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource};
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentInfo, EnvironmentSpec, EnvironmentState,
    ErrorKind, Handle, JitConfig, Listing, Provisioner, Reach,
};
use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs, runner};
use fleetfoot_store::{Location, Options, Store};
use tokio::task::JoinHandle;

type Environments = BTreeMap<InstanceName, (PoolName, JoinHandle<()>)>;

#[derive(Debug, Default)]
struct InTasks(Mutex<Environments>);

impl InTasks {
    fn all(&self) -> MutexGuard<'_, Environments> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Provisioner for InTasks {
    fn capabilities(&self) -> Capabilities {
        Capabilities { ends_with_host: true, ..Capabilities::single_step(Reach::Host) }
    }

    fn connection(&self) -> &str {
        "tasks"
    }

    async fn create(
        &self,
        spec: &EnvironmentSpec,
        jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError> {
        let blob = jit.and_then(|jit| runner::Blob::parse(jit.expose()).ok()).ok_or_else(|| {
            BackendError::new("start task", ErrorKind::Instance, "no JIT config").about(&spec.name)
        })?;
        let life = async move { drop(runner::Runner::new(blob).run(&mut std::io::sink()).await) };
        let start = || (spec.pool.clone(), tokio::runtime::Handle::current().spawn(life));
        self.all().entry(spec.name.clone()).or_insert_with(start);
        Ok(Handle(spec.name.to_string()))
    }

    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        let Some((_, task)) = self.all().remove(name) else { return Ok(Deletion::WasAbsent) };
        task.abort();
        Ok(Deletion::Removed)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let environment = |(name, (pool, task)): (&InstanceName, &(PoolName, JoinHandle<()>))| {
            let ended = EnvironmentState::Ended(Exit::default());
            let state = if task.is_finished() { ended } else { EnvironmentState::Running };
            let (pool, handle) = (Some(pool.clone()), Handle(name.to_string()));
            EnvironmentInfo { name: name.clone(), pool, handle, state }
        };
        let environments = self.all().iter().map(environment).collect();
        Ok(Listing { identity: std::process::id().to_string(), environments })
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let github = GithubBox::start(BoxConfig::default()).await?;
    let url = ConfigUrl::parse(&github.config_url("acme"))?;
    let token = Credentials::Token(TokenSource::fixed("the example", DEFAULT_TOKEN.into()));
    let connection = Connection::new(&Http::new(HttpSettings::default())?, &url, &token)?;
    let pool = PoolSettings::new(PoolName::new("tasks")?, 5, connection, Arc::<InTasks>::default());
    let directory = tempfile::tempdir()?;
    let file = Location::Sqlite(directory.path().join("store.sqlite"));
    let store = Store::open(file, Options::default()).await?;
    let settings =
        ControllerSettings { session_owner: "embed".to_owned(), ..ControllerSettings::default() };
    let controller = Controller::start(store, vec![pool], settings, Clock::system()).await?;
    controller.health().wait_for(|health| health.ready).await?;
    github.queue_jobs(&QueueJobs::for_scale_set("acme", "tasks", 10, 20));
    let all_done = |state: &fleetfoot_sim::BoxState| state.summary.jobs_completed == 10;
    let summary = github.wait_until(Duration::from_secs(60), all_done).await?.summary;
    println!("{} jobs done, {} started twice", summary.jobs_completed, summary.jobs_started_twice);
    controller.stop().await;
    Ok(())
}
