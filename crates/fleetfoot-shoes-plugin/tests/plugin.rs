//! The example, as a host of ours starts it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

// The bench of our host's own tests, over another plugin.
#[allow(dead_code)]
#[path = "../../fleetfoot-provisioner-shoes/tests/common/mod.rs"]
mod common;

use std::process::Command;

use common::harness::{Plugins, play};
use common::{Bench, END, provisioner, script, spec};
use fleetfoot_provisioner::{ErrorKind, Provisioner, conformance};
use fleetfoot_provisioner_shoes::Machine;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fleetfoot-shoes-processes");

fn plugins(per_call: bool) -> Plugins {
    let bench = Bench::new(PROGRAM.into(), "");
    let bench = if per_call { bench.per_call() } else { bench };
    let machines = bench.directory.path().join("machines").display().to_string();
    Plugins::new(bench.with("MACHINES_DIR", &machines), "MACHINES_IMAGE")
}

#[tokio::test]
async fn the_example_keeps_the_contract() {
    for per_call in [false, true] {
        let report = conformance::run(&plugins(per_call)).await;
        println!("{report}");
        report.assert_passed();
    }
}

#[tokio::test]
async fn a_machine_is_made_once_and_deleted_and_the_process_ends() {
    let plugins = plugins(false);
    let host = plugins.0.host();
    let provisioner = provisioner(host.clone(), script(".".as_ref()));
    let spec = spec(1);
    let jit = play("true");
    for _ in 0..2 {
        let handle = provisioner.create(&spec, Some(&jit)).await.unwrap();
        let machine = Machine::of(&handle).unwrap();
        assert_eq!(machine.cloud_id, spec.name.as_str());
        assert_eq!(
            (machine.shoes_type.as_str(), machine.resource_type.as_str()),
            ("processes", "micro")
        );
    }
    provisioner.delete(&spec.name).await.unwrap();
    assert!(!plugins.0.machine(spec.name.as_str()).exists());
    provisioner.delete(&spec.name).await.unwrap();
    host.end(END).await;
    let refused = provisioner.create(&spec, Some(&jit)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Backend, "nothing is started after the end");
}

/// The host of go-plugin itself, which myshoes is made with.
#[test]
fn the_real_go_plugin_calls_it() {
    let Some(host) = std::env::var_os("FLEETFOOT_TEST_SHOES_PLUGIN") else {
        println!("SKIPPED: needs shoes-plugin");
        return;
    };
    let directory = TempDir::new().unwrap();
    let output = Command::new(host)
        .args(["host", PROGRAM])
        .env("MACHINES_DIR", directory.path().join("machines"))
        .env("PLUGIN_UNIX_SOCKET_DIR", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let once = "added myshoes-host, a processes of size 3\ndeleted: OK\ndeleted: NotFound\n";
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, format!("{once}{once}exited: true\n"), "{log}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "its socket is gone: {left:?}");
}

#[test]
fn by_hand_it_says_who_starts_it() {
    let output = Command::new(PROGRAM).env("MACHINES_DIR", "/tmp").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("error: this is a shoes plugin: "), "{said}");
    assert!(output.stdout.is_empty());
}
