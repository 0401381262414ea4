//! A `tart` in `PATH` that is a script: it keeps its machines where we cannot look, or lists them by name only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod common;

use std::sync::Arc;

use common::{Bench, ended, jit, name, spec, state_of, write_program};
use fleetfoot_provisioner::conformance::Play;
use fleetfoot_provisioner::{EnvironmentState, Handle, PoolName, Provisioner};
use fleetfoot_provisioner_tart::{JitDelivery, TartProvisioner};

/// Its machines are not below the `TART_HOME` that we see.
fn blind(bench: &Bench) -> TartProvisioner {
    let mut pool = bench.pool();
    pool.jit = JitDelivery::Argument;
    let host = bench.host().with_tart(bench.path("tart"), bench.path("nowhere"));
    TartProvisioner::new(Arc::new(host), pool)
}

/// Item 62, by nothing but the program.
#[tokio::test]
async fn a_machine_that_is_kept_elsewhere_has_the_same_invocations() {
    let bench = Bench::new();
    let spec = spec("macos-0123abcd");
    let provisioner = blind(&bench);
    provisioner.create(&spec, None).await.unwrap();
    // A repetition makes nothing twice: `tart clone` would replace the machine that runs.
    provisioner.create(&spec, None).await.unwrap();
    let credential = jit(&Play::wait().shell());
    provisioner.launch(&spec, &Handle(String::new()), &credential).await.unwrap();
    state_of(&provisioner, &spec.name, |state| *state == EnvironmentState::Running).await;
    assert!(bench.machine("macos-0123abcd").exists());
    // Another daemon takes it up, and removes it.
    let after = blind(&bench);
    state_of(&after, &spec.name, |state| *state == EnvironmentState::Running).await;
    after.delete(&spec.name).await.unwrap();
    after.delete(&spec.name).await.unwrap();
    let calls = bench.calls();
    let count = |word: &str| calls.iter().filter(|call| call[0] == word).count();
    let counts = ["clone", "set", "run", "stop", "delete"].map(count);
    assert_eq!(counts, [1; 5], "{calls:?}");
    assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
}

#[tokio::test]
async fn a_start_that_fails_elsewhere_leaves_nothing() {
    let bench = Bench::new();
    bench.tell("fail-once/set", "1 Error: below the minimum");
    let spec = spec("macos-0123abcd");
    let provisioner = blind(&bench);
    provisioner.create(&spec, None).await.unwrap_err();
    assert_eq!(bench.leftovers(std::slice::from_ref(&spec.name)), Vec::<String>::new());
    bench.tell("fail-once/clone", "1 Error: no such image");
    provisioner.create(&spec, None).await.unwrap_err();
    // Nothing was made, so nothing is removed.
    assert_eq!(bench.calls().last().unwrap()[0], "clone");
    provisioner.create(&spec, None).await.unwrap();
    let runner = jit("exit 0");
    provisioner.launch(&spec, &Handle(String::new()), &runner).await.unwrap();
    state_of(&provisioner, &spec.name, ended).await;
    provisioner.delete(&spec.name).await.unwrap();
    assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
}

/// Item 68, with a list of names: one that refuses the question for JSON, and one that knows nothing else.
#[tokio::test]
async fn leftovers_are_found_in_a_list_of_names() {
    let refuses = "case \"$*\" in *json*) exit 64;; esac";
    let ignores = "[ \"$1\" != list ] || set -- list --quiet";
    for odd in [refuses, ignores] {
        let bench = Bench::new();
        bench.image("macos-runner", "darwin");
        bench.image("macos-0123abcd", "darwin");
        let whole = std::fs::read_to_string(bench.path("tart")).unwrap();
        let script = whole.replacen("TART_HOME", &format!("{odd}\nTART_HOME"), 1);
        write_program(&bench.path("tart"), &script);
        let provisioner = bench.provisioner();
        let found = provisioner.legacy(&PoolName::new("macos").unwrap()).await.unwrap();
        let names: Vec<_> = found.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["macos-0123abcd"]);
        assert_eq!(found[0].state, EnvironmentState::Running, "nobody says that it is off");
        provisioner.delete_legacy(&name("macos-0123abcd")).await.unwrap();
        assert!(!bench.machine("macos-0123abcd").exists());
        assert!(bench.machine("macos-runner").exists());
    }
}

#[tokio::test]
async fn a_list_that_fails_holds_nothing_up() {
    let bench = Bench::new();
    bench.image("macos-0123abcd", "darwin");
    bench.tell("fail/list", "1 Error: a machine is broken");
    let (provisioner, pool) = (bench.provisioner(), PoolName::new("macos").unwrap());
    assert!(provisioner.legacy(&pool).await.unwrap().is_empty());
    bench.untell("fail/list");
    assert_eq!(provisioner.legacy(&pool).await.unwrap().len(), 1);
}
