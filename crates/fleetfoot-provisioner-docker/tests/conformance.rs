//! The conformance suite on a real dockerd and on Podman's service.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[allow(unreachable_pub)]
mod support;

use fleetfoot_provisioner::conformance;
use support::harness::Engine;

async fn conforms(kind: &'static str, waits: bool) {
    let Some(socket) = support::socket(kind) else { return };
    let engine = match waits {
        false => Engine::new(kind, socket).await,
        true => Engine::waiting(kind, socket).await,
    };
    let report = conformance::run(&engine).await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_conforms() {
    conforms("docker", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_conforms() {
    conforms("podman", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_conforms_with_containers_that_wait() {
    conforms("docker", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_conforms_with_containers_that_wait() {
    conforms("podman", true).await;
}
