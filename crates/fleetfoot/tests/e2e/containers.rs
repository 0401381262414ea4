//! The main job with containers, and the engine's own account of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::query_parameters::InspectContainerOptions;
use fleetfoot_sim::{Endpoint, Fault, FaultAction};

use crate::harness::{BOUND, Bed, Daemon, Engine, Recorder, eventually, host_programs, unique};

/// Between a kill and the next start.
const DEAD: Duration = Duration::from_secs(1);

struct Stage {
    bed: Bed,
    engine: Engine,
    large: String,
    small: String,
}

impl Stage {
    async fn new() -> Option<Self> {
        let engine = Engine::shared().await?;
        let bed = Bed::new().await;
        let stage = Self { bed, engine, large: unique("large"), small: unique("small") };
        let text = stage.bed.config("", &stage.limits(), &stage.engine.lines());
        stage.bed.write(&text);
        Some(stage)
    }

    fn limits(&self) -> [(&str, u32); 2] {
        [(&self.large, 4), (&self.small, 2)]
    }

    fn pools(&self) -> [&str; 2] {
        [&self.large, &self.small]
    }

    async fn record(&self) -> Recorder {
        Recorder::start(&self.engine, &self.pools()).await
    }

    fn queue_sixty(&self) {
        self.bed.queue(&self.large, 40, 100);
        self.bed.queue(&self.small, 20, 100);
    }

    async fn finish(self, daemon: Daemon, recorder: Recorder, jobs: u64) {
        self.bed.all_succeeded(jobs, Duration::from_secs(120)).await;
        self.bed.nothing_left().await;
        self.engine.no_containers(&self.pools()).await;
        recorder.never_above(&self.limits());
        daemon.stop().await;
    }

    /// Pid and start of each running container.
    async fn running(&self) -> BTreeMap<String, (i64, String)> {
        let mut all = BTreeMap::new();
        for (name, state) in self.engine.containers(&self.pools()).await {
            if state == "running" {
                let options = None::<InspectContainerOptions>;
                let inspect = self.engine.docker.inspect_container(&name, options).await.unwrap();
                let state = inspect.state.unwrap();
                all.insert(name, (state.pid.unwrap(), state.started_at.unwrap()));
            }
        }
        all
    }
}

/// Sixty jobs over two pools: each starts once, all complete, never more containers than the limits
/// from the engine's start to its die events, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_jobs() {
    let Some(stage) = Stage::new().await else { return };
    let daemon = stage.bed.start_ready().await;
    let recorder = stage.record().await;
    stage.queue_sixty();
    stage.finish(daemon, recorder, 60).await;
}

/// Killed while jobs run: the containers do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_jobs_run() {
    let Some(stage) = Stage::new().await else { return };
    let daemon = stage.bed.start_ready().await;
    let recorder = stage.record().await;
    stage.bed.queue(&stage.large, 4, 8000);
    stage.bed.queue(&stage.small, 2, 8000);
    stage.bed.running(6).await;
    stage.bed.queue(&stage.large, 36, 100);
    stage.bed.queue(&stage.small, 18, 100);
    // The engine may take a while to say of a container that it runs.
    let before = eventually("six running containers", BOUND, || async {
        let running = stage.running().await;
        (running.len() == 6).then_some(running)
    })
    .await;
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let daemon = stage.bed.start_ready().await;
    assert_eq!(before, stage.running().await, "the same containers, never restarted");
    stage.finish(daemon, recorder, 60).await;
}

/// Killed while containers are created: what landed is taken up or removed, never doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_containers_are_created() {
    let Some(stage) = Stage::new().await else { return };
    let daemon = stage.bed.start_ready().await;
    let recorder = stage.record().await;
    stage.queue_sixty();
    // The first container is there; the others are on their way.
    eventually("the first container", BOUND, || async {
        (!stage.engine.containers(&stage.pools()).await.is_empty()).then_some(())
    })
    .await;
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let daemon = stage.bed.start_ready().await;
    stage.finish(daemon, recorder, 60).await;
}

/// Killed right after a message came, before it was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_right_after_a_message() {
    let Some(stage) = Stage::new().await else { return };
    let daemon = stage.bed.start_ready().await;
    let recorder = stage.record().await;
    let hang = Fault::once(Endpoint::DeleteMessage, FaultAction::Hang);
    stage.bed.github.inject(hang.scale_set(&stage.large));
    stage.queue_sixty();
    let control = stage.bed.github.control();
    eventually("the acknowledgement hangs", BOUND, || async {
        let faults = control.faults().await.unwrap();
        faults.iter().any(|fault| fault.struck > 0).then_some(())
    })
    .await;
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let daemon = stage.bed.start_ready().await;
    stage.finish(daemon, recorder, 60).await;
}

/// Containers of others stay as they are: with our name prefix, with the label of another installation,
/// with the original's labels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_containers_are_never_touched() {
    let Some(stage) = Stage::new().await else { return };
    let pool = stage.large.clone();
    let names = ["0123abcd", "0123abce", "0123abcf"].map(|end| format!("{pool}-{end}"));
    let other = [
        ("fleetfoot.installation", "another"),
        ("fleetfoot.instance", names[1].as_str()),
        ("fleetfoot.pool", pool.as_str()),
    ];
    let original = [("outrunner", "true"), ("outrunner.name", names[2].as_str())];
    for (name, labels) in names.iter().zip([&[][..], &other[..], &original[..]]) {
        stage.engine.foreign(name, labels, &stage.bed.foreign_jit().await).await;
    }
    let dead = format!("{pool}-0123abd0");
    stage.engine.foreign_dead(&dead, &other).await;
    let daemon = stage.bed.start_ready().await;
    stage.bed.queue(&pool, 4, 100);
    stage.bed.all_succeeded(4, BOUND).await;
    daemon.kill().await;
    let daemon = stage.bed.start_ready().await;
    stage.bed.queue(&pool, 4, 100);
    stage.bed.all_succeeded(8, BOUND).await;
    eventually("no instance in status", BOUND, || async {
        let status = stage.bed.status().await;
        status["instances"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    daemon.stop().await;
    for name in &names {
        let options = None::<InspectContainerOptions>;
        let inspect = stage.engine.docker.inspect_container(name, options).await.unwrap();
        assert_eq!(inspect.state.unwrap().running, Some(true), "{name}");
    }
    let inspect =
        stage.engine.docker.inspect_container(&dead, None::<InspectContainerOptions>).await;
    assert!(inspect.is_ok(), "{dead}");
    for name in names.iter().chain([&dead]) {
        stage.engine.remove(name).await;
    }
}

/// With `takeover`, what the original left under exactly its form of a name goes through the gate: the ended
/// and the idle go; a name that only begins alike stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_of_the_original_are_taken_over() {
    let Some(stage) = Stage::new().await else { return };
    let text = stage.bed.config("takeover: true\n", &stage.limits(), &stage.engine.lines());
    stage.bed.write(&text);
    let pool = stage.large.clone();
    let [ended, alive, alike] =
        ["0123abcd", "0123abce", "golden"].map(|end| format!("{pool}-{end}"));
    for name in [&ended, &alive, &alike] {
        let labels = [("outrunner", "true"), ("outrunner.name", name.as_str())];
        if *name == ended {
            stage.engine.foreign_dead(name, &labels).await;
        } else {
            stage.engine.foreign(name, &labels, &stage.bed.foreign_jit().await).await;
        }
    }
    let daemon = stage.bed.start_ready().await;
    let gone = |name: String| {
        let docker = stage.engine.docker.clone();
        async move {
            docker
                .inspect_container(&name, None::<InspectContainerOptions>)
                .await
                .is_err()
                .then_some(())
        }
    };
    for name in [&ended, &alive] {
        eventually("the leftover to be gone", BOUND, || gone(name.clone())).await;
    }
    stage.bed.queue(&pool, 2, 100);
    stage.bed.all_succeeded(2, BOUND).await;
    daemon.stop().await;
    let kept = stage.engine.docker.inspect_container(&alike, None::<InspectContainerOptions>).await;
    assert_eq!(kept.unwrap().state.unwrap().running, Some(true));
    stage.engine.remove(&alike).await;
}

/// Containers wait made, without a credential: a job takes the one that waits, also after a SIGKILL, and another one is
/// made; of a pool whose containers wait no longer none is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_wait_for_their_jobs() {
    let Some(engine) = Engine::shared().await else { return };
    let bed = Bed::new().await;
    let pool = unique("waits");
    let write = |warm: u32| {
        // This host's shell, for the image has none.
        let lines = format!("    warm: {warm}\n{}{}", engine.lines(), host_programs());
        bed.write(&bed.config("", &[(&pool, 3)], &lines));
    };
    write(1);
    let daemon = bed.start_ready().await;
    let waiting = || async {
        let found = engine.containers(&[&pool]).await;
        found.into_iter().find(|(_, state)| state == "created").map(|(name, _)| name)
    };
    let phase = |name: String| {
        let bed = &bed;
        async move {
            let status = bed.status().await;
            let all = status["instances"].as_array().unwrap().clone();
            let one = all.into_iter().find(|one| one["name"] == name.as_str())?;
            (one["phase"] == "warm").then_some(())
        }
    };
    let first = eventually("a container that waits", BOUND, waiting).await;
    eventually("its phase", BOUND, || phase(first.clone())).await;
    assert!(bed.github.state().runners.is_empty(), "unknown to GitHub");
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let daemon = bed.start_ready().await;
    bed.queue(&pool, 1, 4000);
    bed.running(1).await;
    // A program may have begun before the engine says that its container runs.
    eventually("the one that waited to run", BOUND, || async {
        let found = engine.containers(&[&pool]).await;
        (found.get(&first).map(String::as_str) == Some("running")).then_some(())
    })
    .await;
    eventually("the next one", BOUND, || async { waiting().await.filter(|next| *next != first) })
        .await;
    // Killed while one runs and one waits: the one is left alone, and the other takes the next job.
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let mut daemon = bed.start_ready().await;
    bed.queue(&pool, 4, 100);
    bed.all_succeeded(5, BOUND).await;
    let taken = bed.github.state().jobs[0].runner.clone();
    assert_eq!(taken.as_deref(), Some(first.as_str()), "the one that waited");
    // The same pool without: nothing moves, nothing waits.
    write(0);
    daemon.signal(rustix::process::Signal::HUP);
    daemon.logs("configuration applied").await;
    engine.no_containers(&[&pool]).await;
    bed.queue(&pool, 1, 100);
    bed.all_succeeded(6, BOUND).await;
    bed.nothing_left().await;
    engine.no_containers(&[&pool]).await;
    daemon.stop().await;
}
