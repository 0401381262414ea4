//! The contract's own suite, against a plugin made with the real go-plugin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[allow(dead_code)]
mod common;

use common::harness::Plugins;
use common::{Bench, program};
use fleetfoot_provisioner::conformance;

#[tokio::test]
async fn plugins_keep_the_contract() {
    let Some(program) = program() else { return };
    for bench in [Bench::new(program.clone(), ""), Bench::new(program, "idempotent").per_call()] {
        let report = conformance::run(&Plugins::new(bench, "TEST_IMAGE")).await;
        println!("{report}");
        report.assert_passed();
    }
}
