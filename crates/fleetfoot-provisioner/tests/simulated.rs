//! The conformance suite on the simulated backend, in both modes, in process and behind a socket; and its knobs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleetfoot_core::{Exit, InstallationId, InstanceName, PoolName};
use fleetfoot_provisioner::conformance::{self, Ending, Foreign, Harness, Play};
use fleetfoot_provisioner::simulated::{
    Binding, Fault, Latency, Operation, Rule, SimulatedEngine, SimulatedProvisioner, serve,
};
use fleetfoot_provisioner::{
    EnvironmentSpec, EnvironmentState, ErrorKind, Event, JitConfig, Provisioner,
};
use futures_util::StreamExt as _;
use secrecy::SecretString;

struct Simulated {
    engine: SimulatedEngine,
    binding: Binding,
    socket: Option<std::path::PathBuf>,
}

fn installation() -> InstallationId {
    InstallationId::new("ours").unwrap()
}

fn pool() -> PoolName {
    PoolName::new("pool").unwrap()
}

fn name(text: &str) -> InstanceName {
    InstanceName::new(text).unwrap()
}

fn spec(text: &str) -> EnvironmentSpec {
    EnvironmentSpec { name: name(text), pool: pool(), installation: installation() }
}

fn jit(text: &str) -> JitConfig {
    JitConfig::new(SecretString::from(text.to_owned()))
}

/// Lets the engine play what the JIT config says.
fn play(engine: &SimulatedEngine) {
    let weak = engine.clone();
    engine.on_launch(move |name, jit| {
        let play = Play::decode(jit.expose()).expect("a part to play");
        for line in &play.lines {
            weak.log(name, line);
        }
        if let Ending::Exit { after, code } = play.ending {
            let (engine, name) = (weak.clone(), name.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                engine.end(&name, Exit { code: Some(code), out_of_memory: false, message: None });
            });
        }
    });
}

#[async_trait]
impl Harness for Simulated {
    fn backend(&self) -> String {
        format!(
            "simulated, {:?}, {}",
            self.binding,
            if self.socket.is_some() { "socket" } else { "in process" }
        )
    }

    fn installation(&self) -> InstallationId {
        installation()
    }

    fn pool(&self) -> PoolName {
        pool()
    }

    async fn provisioner(&self) -> Arc<dyn Provisioner> {
        Arc::new(match &self.socket {
            None => SimulatedProvisioner::new(&self.engine, installation(), self.binding),
            Some(path) => SimulatedProvisioner::remote(path, installation(), self.binding),
        })
    }

    fn jit(&self, play: &Play) -> JitConfig {
        jit(&play.encode())
    }

    async fn create_foreign(&self, name: &InstanceName, foreign: Foreign) -> Option<()> {
        let other = InstallationId::new(match foreign {
            Foreign::Unlabelled => "none",
            Foreign::OtherInstallation => "other",
        });
        self.engine.insert(&other.unwrap(), &pool(), name, EnvironmentState::Running);
        Some(())
    }

    async fn foreign_intact(&self, name: &InstanceName) -> bool {
        let all = self.engine.environments();
        all.iter().any(|(of, it)| {
            it.name == *name && *of != installation() && it.state == EnvironmentState::Running
        })
    }

    async fn remove_foreign(&self, name: &InstanceName) {
        self.engine.remove(name);
    }

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        let all = self.engine.environments().into_iter();
        all.filter(|(_, it)| names.contains(&it.name)).map(|(_, it)| format!("{it:?}")).collect()
    }

    async fn freeze(&self) -> bool {
        self.engine.set_frozen(true);
        true
    }

    async fn thaw(&self) {
        self.engine.set_frozen(false);
    }

    async fn cut_next_list(&self) -> bool {
        self.engine.add_rule(Rule::once(
            Operation::List,
            Fault::Fail(ErrorKind::Backend, "cut".to_owned()),
        ));
        true
    }

    async fn break_watch(&self) -> bool {
        self.engine.break_watch();
        true
    }

    fn bound(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn landing_time(&self) -> Duration {
        Duration::from_millis(200)
    }
}

async fn conforms(binding: Binding, over_socket: bool) {
    let engine = SimulatedEngine::new();
    engine.set_latency(Latency::all(Duration::from_millis(5)));
    play(&engine);
    let directory = tempfile::tempdir().unwrap();
    let socket = over_socket.then(|| directory.path().join("engine.sock"));
    if let Some(path) = &socket {
        tokio::spawn(serve(tokio::net::UnixListener::bind(path).unwrap(), engine.clone()));
    }
    let report = conformance::run(&Simulated { engine: engine.clone(), binding, socket }).await;
    println!("{report}");
    report.assert_passed();
    assert_eq!(engine.environments(), vec![]);
}

#[tokio::test]
async fn single_step_conforms() {
    conforms(Binding::SingleStep, false).await;
}

#[tokio::test]
async fn late_binding_conforms() {
    conforms(Binding::LateBinding, false).await;
}

#[tokio::test]
async fn single_step_conforms_over_a_socket() {
    conforms(Binding::SingleStep, true).await;
}

#[tokio::test]
async fn late_binding_conforms_over_a_socket() {
    conforms(Binding::LateBinding, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_create_lands_late() {
    let engine = SimulatedEngine::new();
    engine.add_rule(Rule::once(Operation::Create, Fault::LandLate(Duration::from_secs(30))));
    let provisioner = SimulatedProvisioner::new(&engine, installation(), Binding::SingleStep);
    let (spec, jit) = (spec("pool-1"), jit("wait|"));
    let bound = Duration::from_secs(10);
    assert!(tokio::time::timeout(bound, provisioner.create(&spec, Some(&jit))).await.is_err());
    assert_eq!(provisioner.list().await.unwrap().environments, vec![]);
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(provisioner.list().await.unwrap().environments.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_comes_after_the_deed() {
    let engine = SimulatedEngine::new();
    engine.add_rule(Rule::once(Operation::Create, Fault::LateAnswer(Duration::from_secs(30))));
    let provisioner = SimulatedProvisioner::new(&engine, installation(), Binding::SingleStep);
    let (spec, jit) = (spec("pool-1"), jit("wait|"));
    let began = tokio::time::Instant::now();
    let create = provisioner.create(&spec, Some(&jit));
    let seen = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        provisioner.list().await.unwrap().environments.len()
    };
    let (created, seen) = tokio::join!(create, seen);
    created.unwrap();
    assert_eq!((seen, began.elapsed()), (1, Duration::from_secs(30)));
}

#[tokio::test(start_paused = true)]
async fn faults_follow_their_rules() {
    let engine = SimulatedEngine::new();
    let provisioner = SimulatedProvisioner::new(&engine, installation(), Binding::SingleStep);
    let jit = jit("wait|");
    let refused = Fault::Fail(ErrorKind::NoRoom, "full".to_owned());
    engine.add_rule(Rule { skip: 1, times: Some(1), ..Rule::all(Operation::Create, refused) });
    engine.add_rule(Rule::once(Operation::Create, Fault::LostAnswer).about(&name("pool-4")));
    engine.add_rule(Rule::all(Operation::Delete, Fault::Hang).of_pool(&pool()));
    provisioner.create(&spec("pool-1"), Some(&jit)).await.unwrap();
    let error = provisioner.create(&spec("pool-2"), Some(&jit)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (ErrorKind::NoRoom, "failed to create environment `pool-2`: full")
    );
    provisioner.create(&spec("pool-3"), Some(&jit)).await.unwrap();
    let error = provisioner.create(&spec("pool-4"), Some(&jit)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unanswered);
    assert_eq!(provisioner.list().await.unwrap().environments.len(), 3);
    let bound = Duration::from_secs(10);
    assert!(tokio::time::timeout(bound, provisioner.delete(&name("pool-1"))).await.is_err());
    engine.clear_rules();
    provisioner.delete(&name("pool-1")).await.unwrap();
    assert_eq!(engine.peak(&pool()), 3);
}

#[tokio::test]
async fn the_engine_tells_when_it_was_asked_and_lives_through_a_client() {
    let engine = SimulatedEngine::new();
    let launched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&launched);
    engine.on_launch(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engine.sock");
    let server =
        tokio::spawn(serve(tokio::net::UnixListener::bind(&path).unwrap(), engine.clone()));
    let before = SimulatedProvisioner::remote(&path, installation(), Binding::SingleStep);
    before.create(&spec("pool-1"), Some(&jit("secret"))).await.unwrap();
    assert!(engine.create_received(&name("pool-1")).is_some());
    drop(before);
    let after = SimulatedProvisioner::remote(&path, installation(), Binding::SingleStep);
    assert_eq!(after.list().await.unwrap().environments.len(), 1);
    assert_eq!(launched.load(Ordering::SeqCst), 1);
    assert_eq!(engine.jit(&name("pool-1")).unwrap().expose(), "secret");
    let mut events = after.watch().await.unwrap();
    engine.end(&name("pool-1"), Exit { code: Some(3), out_of_memory: false, message: None });
    let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap();
    assert!(matches!(event, Event::Ended { exit: Exit { code: Some(3), .. }, .. }));
    server.abort();
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_a_backend_failure() {
    let provisioner =
        SimulatedProvisioner::remote("/nowhere/engine.sock", installation(), Binding::SingleStep);
    let error = provisioner.list().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Backend);
    assert!(error.to_string().contains("/nowhere/engine.sock"), "{error}");
    assert_eq!(provisioner.check().await.len(), 1);
}
