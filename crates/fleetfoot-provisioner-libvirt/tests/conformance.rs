//! The conformance suite on a real libvirtd with real guests.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod support;

use fleetfoot_provisioner::conformance::{self, Share};
use support::harness::Libvirt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libvirt_conforms() {
    let Some(bench) = support::bench() else { return };
    // Every machine boots, emulated: the whole takes about ten minutes, so the gate asks for a part.
    let share = std::env::var("FLEETFOOT_TEST_SHARE").ok().map_or_else(Share::default, |text| {
        let (part, of) = text.split_once('/').expect("FLEETFOOT_TEST_SHARE is PART/OF");
        Share { part: part.parse().unwrap(), of: of.parse().unwrap() }
    });
    let report = conformance::run_share(&Libvirt::new(bench, |_| {}), share).await;
    println!("{report}");
    report.assert_passed();
}
