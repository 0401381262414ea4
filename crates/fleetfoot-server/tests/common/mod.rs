//! A server over a real store in a temporary directory, reached over a real socket and a real port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use fleetfoot_api::Client;
use fleetfoot_core::{
    Cause, Demand, Environment, Health, Instance, InstanceName, Job, JobId, JobState,
    ListenerState, Phase, Pool, PoolHealth, PoolName, Registration, RunnerId, ScaleSetId,
    Statistics, Timestamp,
};
use fleetfoot_server::{ControlRequest, Face, Metrics, ServerState, listen, router};
use fleetfoot_store::{Durability, Location, Options, Store};
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The time of every test.
pub(crate) const NOW: Timestamp = Timestamp(1_780_000_000_000);

/// The token of the TCP face, where there is one.
pub(crate) const TOKEN: &str = "s3cret";

/// A running server. Dropped, it ends.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) requests: mpsc::Receiver<ControlRequest>,
    pub(crate) metrics: Metrics,
    pub(crate) address: SocketAddr,
    pub(crate) dir: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Server {
    /// With the rooms of [`furnish`], and no token at the TCP face.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(token: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir).await;
        furnish(&store).await;
        let (health, health_told) = watch::channel(health());
        let (control, requests) = mpsc::channel(1);
        let metrics = Metrics::new();
        let state = ServerState {
            store: store.clone(),
            health: health_told,
            logs: Arc::new(|name, lines| {
                Box::pin(async move {
                    match name.as_str() {
                        "linux-00000001" => {
                            Ok((1..=50).map(|line| format!("line {line} of {lines}\n")).collect())
                        }
                        _ => Err("no such container".to_owned()),
                    }
                })
            }),
            version: "1.2.3",
            control,
            metrics: metrics.clone(),
            clock: Arc::new(|| NOW),
        };
        let mut tasks = JoinSet::new();
        let socket = dir.path().join("control.sock");
        let listener = listen::bind_control(&socket).unwrap();
        let routes = router(state.clone(), &Face::Control);
        tasks.spawn(async move {
            listen::serve(listener, routes, std::future::pending()).await.unwrap();
        });
        let listener = listen::bind_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let token = token.map(|token| Arc::new(SecretString::from(token)));
        let routes = router(state, &Face::Network { token });
        tasks.spawn(async move {
            listen::serve(listener, routes, std::future::pending()).await.unwrap();
        });
        let client = Client::unix(&socket).unwrap();
        Self { client, store, health, requests, metrics, address, dir, tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Runs the watch that feeds the counters.
    pub(crate) fn watch(&mut self) {
        self.tasks.spawn(fleetfoot_server::record::watch(
            self.store.clone(),
            self.metrics.clone(),
            std::future::pending(),
        ));
    }
}

pub(crate) async fn open(dir: &tempfile::TempDir) -> Store {
    let options = Options { durability: Durability::Off, now: Some(NOW), ..Options::default() };
    Store::open(Location::Sqlite(dir.path().join("store.sqlite")), options).await.unwrap()
}

pub(crate) fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

pub(crate) fn name(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

pub(crate) fn before(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 - seconds * 1000)
}

/// An instance of pool `linux` with a living environment and a registered runner.
pub(crate) fn instance(text: &str, phase: Phase, runner: i64) -> Instance {
    Instance {
        phase,
        registration: Registration::Registered(RunnerId(runner)),
        environment: Environment::Launched,
        runner_id: Some(RunnerId(runner)),
        scale_set_id: Some(ScaleSetId(7)),
        handle: Some(format!("container-{text}")),
        phase_since: before(60),
        ..Instance::pending(name(text), pool("linux"), before(120))
    }
}

pub(crate) fn job(id: &str, display_name: &str, run_id: i64, state: JobState) -> Job {
    let started = matches!(state, JobState::Started { .. });
    Job {
        id: JobId::new(id),
        state,
        repository: "octo/app".to_owned(),
        workflow: "octo/app/.github/workflows/ci.yml@refs/heads/main".to_owned(),
        display_name: display_name.to_owned(),
        run_id,
        queued_at: Some(before(90)),
        seen_at: before(89),
        started_at: started.then(|| before(60)),
    }
}

/// Pool `linux` with a running, an idle and a starting instance, a job that runs and one that waits;
/// pool `mac` with nothing.
async fn furnish(store: &Store) {
    let done = store.update(|txn| {
        let statistics =
            Statistics { assigned: 2, running: 1, registered: 2, ..Statistics::default() };
        let demand = Demand { known: true, statistics, stated_at: before(1), ..Demand::default() };
        txn.put_pool(Pool {
            config_url: "https://github.com/octo".to_owned(),
            scale_set_id: Some(ScaleSetId(7)),
            demand,
            ..Pool::new(pool("linux"), before(600))
        });
        txn.put_pool(Pool::new(pool("mac"), before(600)));
        let running = Instance {
            job: Some(JobId::new("job-1")),
            ..instance("linux-00000001", Phase::Running, 11)
        };
        txn.insert_instance(running).unwrap();
        txn.insert_instance(instance("linux-00000002", Phase::Idle, 12)).unwrap();
        txn.insert_instance(instance("linux-00000003", Phase::Starting, 13)).unwrap();
        let state = JobState::Started { instance: Some(name("linux-00000001")) };
        assert!(txn.put_job(&pool("linux"), job("job-1", "build", 501, state)));
        assert!(txn.put_job(&pool("linux"), job("job-2", "test", 502, JobState::Assigned)));
    });
    done.await.unwrap();
}

pub(crate) fn health() -> Health {
    let mut linux = PoolHealth {
        listener: ListenerState::Connected,
        polled: true,
        causes: vec![Cause::PoolLimit { limit: 3 }],
        advertised: 3,
        max_runners: 3,
        ..PoolHealth::default()
    };
    linux.sizing.wanted = 2;
    let mac =
        PoolHealth { listener: ListenerState::Connected, polled: true, ..PoolHealth::default() };
    Health {
        ready: true,
        started_at: before(300),
        last_pass_at: before(1),
        pools: BTreeMap::from([(pool("linux"), Arc::new(linux)), (pool("mac"), Arc::new(mac))]),
        ..Health::default()
    }
}
