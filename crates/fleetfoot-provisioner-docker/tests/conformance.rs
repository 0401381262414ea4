//! The conformance suite on a real dockerd and on Podman's service.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[allow(unreachable_pub)]
mod support;

use fleetfoot_provisioner::conformance;
use support::harness::Engine;

async fn conforms(kind: &'static str) {
    let Some(socket) = support::socket(kind) else { return };
    let report = conformance::run(&Engine::new(kind, socket).await).await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_conforms() {
    conforms("docker").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn podman_conforms() {
    conforms("podman").await;
}
