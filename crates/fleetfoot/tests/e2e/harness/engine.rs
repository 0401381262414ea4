//! A container engine: the shared one, or one of the test's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use fleetfoot_provisioner_docker::{
    DockerEngine, EngineSettings, LABEL_INSTALLATION, LABEL_POOL, image,
};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::bed::PROGRAM;
use super::{BOUND, component, eventually};

/// Where the stand-in runner is in the image.
pub(crate) const RUNNER: &str = "/home/runner/run.sh";
pub(crate) const IMAGE: &str = "fleetfoot-e2e:runner";

/// The lines of a Docker runner that mount this host's shell and programs, read-only, and this binary's directory.
pub(crate) fn host_programs() -> String {
    let program = Path::new(PROGRAM).parent().unwrap().display().to_string();
    let mut lines = "      mounts:\n".to_owned();
    for (source, target) in [
        ("/usr", "/usr"),
        ("/usr/bin", "/bin"),
        ("/usr/lib", "/lib"),
        ("/usr/lib64", "/lib64"),
        (program.as_str(), program.as_str()),
    ] {
        if Path::new(source).is_dir() {
            lines.push_str(&format!(
                "        - {{ source: {source}, target: {target}, read_only: true }}\n"
            ));
        }
    }
    lines
}

/// An engine with the runner's image in it.
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    pub(crate) address: String,
}

impl Engine {
    /// The engine that all tests share, if there is one.
    pub(crate) async fn shared() -> Option<Self> {
        let socket = component("docker", "FLEETFOOT_TEST_DOCKER_SOCKET")?;
        Some(Self::at(Path::new(&socket)).await)
    }

    async fn at(socket: &Path) -> Self {
        let address = format!("unix://{}", socket.display());
        let docker = Docker::connect_with_host(&address).unwrap();
        let docker = docker.negotiate_version().await.unwrap();
        let engine = Self { docker, address };
        engine.make_image().await;
        engine
    }

    /// Makes the image from scratch, once.
    pub(crate) async fn make_image(&self) {
        static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = ONE_AT_A_TIME.lock().await;
        let settings = EngineSettings::from_environment(Some(self.address.clone()));
        let engine = DockerEngine::connect(settings).await.unwrap();
        image::from_program(&engine, IMAGE, Path::new(PROGRAM), Path::new(RUNNER)).await.unwrap();
    }

    /// The lines of a runner that make it a container of this engine.
    pub(crate) fn lines(&self) -> String {
        // The host's network, because the box is on its loopback interface.
        format!(
            "    docker:\n      image: {IMAGE}\n      host: {}\n      pull: never\n      network: host\n      runner_cmd: {RUNNER}\n",
            self.address
        )
    }

    /// Containers of these pools, dead ones too: name and state.
    pub(crate) async fn containers(&self, pools: &[&str]) -> BTreeMap<String, String> {
        let filters = HashMap::from([("label", vec![LABEL_INSTALLATION])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let all = self.docker.list_containers(Some(options)).await.unwrap();
        let ours = all.into_iter().filter(|container| {
            let pool = container.labels.as_ref().and_then(|labels| labels.get(LABEL_POOL));
            pool.is_some_and(|pool| pools.contains(&pool.as_str()))
        });
        ours.map(|container| {
            let name = container.names.unwrap_or_default().join(",");
            let state = container.state.map(|state| state.to_string()).unwrap_or_default();
            (name.trim_start_matches('/').to_owned(), state)
        })
        .collect()
    }

    /// Containers that carry this label, dead ones too.
    pub(crate) async fn labelled(&self, label: &str) -> Vec<String> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let all = self.docker.list_containers(Some(options)).await.unwrap();
        all.into_iter().map(|container| container.names.unwrap_or_default().join(",")).collect()
    }

    pub(crate) async fn no_containers(&self, pools: &[&str]) {
        eventually("no container of ours at the engine", BOUND, || async {
            self.containers(pools).await.is_empty().then_some(())
        })
        .await;
    }

    /// Removes what a test made.
    pub(crate) async fn remove(&self, name: &str) {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        // It may be gone.
        let _ = self.docker.remove_container(name, Some(options)).await;
    }

    /// A running container that is not ours: a runner that waits for a job of somebody else.
    pub(crate) async fn foreign(&self, name: &str, labels: &[(&str, &str)], jit: &str) {
        self.make(name, labels, &["--jitconfig", jit]).await;
        let options = None::<bollard::query_parameters::StartContainerOptions>;
        self.docker.start_container(name, options).await.unwrap();
    }

    /// One that was made and never started.
    pub(crate) async fn foreign_dead(&self, name: &str, labels: &[(&str, &str)]) {
        self.make(name, labels, &[]).await;
    }

    async fn make(&self, name: &str, labels: &[(&str, &str)], words: &[&str]) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let body = bollard::models::ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            entrypoint: Some(vec![RUNNER.to_owned()]),
            cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
            labels: Some(labels),
            host_config: Some(bollard::models::HostConfig {
                network_mode: Some("host".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options =
            bollard::query_parameters::CreateContainerOptionsBuilder::new().name(name).build();
        self.docker.create_container(Some(options), body).await.unwrap();
    }
}

/// An engine of one test alone, which may freeze or restart it.
pub(crate) struct OwnEngine {
    pub(crate) engine: Engine,
    script: String,
    dir: PathBuf,
    child: Child,
}

impl OwnEngine {
    /// Starts one that keeps everything in `dir`.
    pub(crate) async fn start(dir: &Path) -> Option<Self> {
        component("docker", "FLEETFOOT_TEST_DOCKER_SOCKET")?;
        let script = component("docker", "FLEETFOOT_TEST_DOCKERD")?;
        let child = Self::spawn(&script, dir);
        Self::answers(dir).await;
        let engine = Engine::at(&dir.join("d.sock")).await;
        Some(Self { engine, script, dir: dir.to_owned(), child })
    }

    fn spawn(script: &str, dir: &Path) -> Child {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.with_extension("log"))
            .unwrap();
        let mut command = Command::new(script);
        command.arg(dir).arg("--live-restore").stdout(log.try_clone().unwrap()).stderr(log);
        command.kill_on_drop(true).spawn().unwrap()
    }

    async fn answers(dir: &Path) {
        let address = format!("unix://{}", dir.join("d.sock").display());
        eventually("the engine answers", BOUND, || async {
            Docker::connect_with_host(&address).ok()?.ping().await.ok()
        })
        .await;
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// Stops it and starts it again; its containers live on.
    pub(crate) async fn restart(&mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let ended = tokio::time::timeout(BOUND, self.child.wait()).await;
        ended.expect("dockerd ends").unwrap();
        self.child = Self::spawn(&self.script, &self.dir);
        Self::answers(&self.dir).await;
    }

    /// Ends it, and waits.
    pub(crate) async fn end(mut self) {
        self.thaw();
        kill_process(self.pid(), Signal::TERM).unwrap();
        let ended = tokio::time::timeout(BOUND, self.child.wait()).await;
        ended.expect("dockerd ends").unwrap();
    }
}

impl Drop for OwnEngine {
    /// It leaves mounts behind, which would keep the directory.
    fn drop(&mut self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for place in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(place).starts_with(&self.dir) {
                // Who may not mount did not mount either.
                let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}

/// What the engine says about starts and deaths.
pub(crate) struct Recorder {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    alive: BTreeMap<String, BTreeSet<String>>,
    most: BTreeMap<String, usize>,
    starts: BTreeMap<String, u32>,
}

impl Recorder {
    /// Records the containers of these pools from now on.
    pub(crate) async fn start(engine: &Engine, pools: &[&str]) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let filters = HashMap::from([
            ("type", vec!["container"]),
            ("event", vec!["start", "die"]),
            ("label", vec![LABEL_INSTALLATION]),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = Box::pin(engine.docker.events(Some(options)));
        let pools: Vec<String> = pools.iter().map(|pool| (*pool).to_owned()).collect();
        let record = seen.clone();
        let (open, opened) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            // The stream is open once it was polled; the engine keeps what happens from then on.
            let first = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
            open.send(()).unwrap();
            let mut next = first.ok().flatten();
            loop {
                if let Some(Ok(event)) = next {
                    let actor = event.actor.unwrap_or_default();
                    let labels = actor.attributes.unwrap_or_default();
                    let pool = labels.get(LABEL_POOL).cloned().unwrap_or_default();
                    let id = actor.id.unwrap_or_default();
                    if pools.contains(&pool) {
                        take(&mut record.lock().unwrap(), &pool, id, event.action.as_deref());
                    }
                }
                next = events.next().await;
                if next.is_none() {
                    return;
                }
            }
        });
        opened.await.unwrap();
        Self { seen, task }
    }

    /// Checks the limits, and that every container started once.
    pub(crate) fn never_above(self, limits: &[(&str, u32)]) {
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        for (pool, limit) in limits {
            let most = seen.most.get(*pool).copied().unwrap_or_default();
            assert!(most > 0, "pool {pool} was never seen at work");
            assert!(most <= usize::try_from(*limit).unwrap(), "pool {pool}: {most} > {limit}");
        }
        let twice: Vec<_> = seen.starts.iter().filter(|(_, starts)| **starts > 1).collect();
        assert!(twice.is_empty(), "started twice: {twice:?}");
    }
}

fn take(seen: &mut Seen, pool: &str, id: String, action: Option<&str>) {
    let alive = seen.alive.entry(pool.to_owned()).or_default();
    match action {
        Some("start") => {
            alive.insert(id.clone());
            let count = alive.len();
            let most = seen.most.entry(pool.to_owned()).or_default();
            *most = count.max(*most);
            *seen.starts.entry(id).or_default() += 1;
        }
        Some("die") => {
            alive.remove(&id);
        }
        Some(_) | None => {}
    }
}
