//! The conformance suite on a real libvirtd with real guests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod support;

use fleetfoot_provisioner::conformance;
use support::harness::Libvirt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libvirt_conforms() {
    let Some(bench) = support::bench() else { return };
    let report = conformance::run(&Libvirt::new(bench, |_| {})).await;
    println!("{report}");
    report.assert_passed();
}
