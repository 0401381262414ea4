//! Everything at once: sixty jobs, two pools, random faults and three crashes.

use std::time::Duration;

use fleetfoot_provisioner::ErrorKind;
use fleetfoot_provisioner::simulated::{Fault as EngineFault, Latency, Operation, Rule};
use fleetfoot_sim::{Endpoint, Fault, FaultAction};

use crate::bed::{Bed, SOON, named, pool};

fn harm(bed: &Bed, random: &mut fastrand::Rng) {
    let status = |status, retry_after_s| FaultAction::Status {
        status,
        exception: None,
        message: None,
        retry_after_s,
        headers: Default::default(),
    };
    let endpoints = [
        Endpoint::GenerateJitConfig,
        Endpoint::GetMessage,
        Endpoint::DeleteMessage,
        Endpoint::GetRunner,
        Endpoint::RemoveRunner,
        Endpoint::CreateSession,
    ];
    for _ in 0..6 {
        let endpoint = endpoints[random.usize(..endpoints.len())];
        let action = match random.u8(..5) {
            0 => status(500, None),
            1 => status(429, Some(1)),
            2 => FaultAction::Cut,
            3 => FaultAction::LoseAnswer,
            _ => FaultAction::Delay { ms: 300 },
        };
        let mut fault = Fault::once(endpoint, action);
        fault.skip = random.u64(..4);
        bed.github.inject(fault);
    }
    for _ in 0..4 {
        let operation = [Operation::Create, Operation::Delete, Operation::List][random.usize(..3)];
        let fault = match random.u8(..3) {
            0 => EngineFault::Fail(ErrorKind::Backend, "busy".into()),
            1 => EngineFault::LostAnswer,
            _ => EngineFault::LandLate(Duration::from_millis(300)),
        };
        bed.engine().add_rule(Rule { skip: random.u32(..5), ..Rule::once(operation, fault) });
    }
}

#[tokio::test(start_paused = true)]
async fn sixty_jobs_with_faults_and_three_crashes_are_all_done_and_nothing_is_left() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let slow = |settings: &mut fleetfoot_sim::Settings| {
        settings.control_latency_ms = 20;
        // A session whose opening was answered to nobody is nobody's to delete: it lapses.
        settings.session_lapse_ms = 1500;
    };
    let mut bed = Bed::with(slow, 1).await;
    bed.pace.call_bound = fleetfoot_core::Span::seconds(1);
    let create = Duration::from_millis(50);
    bed.engine().set_latency(Latency { create, ..Latency::default() });
    let bound = |spec: &mut fleetfoot_core::PoolSpec| {
        spec.create_timeout = fleetfoot_core::Span::seconds(1);
    };
    let pools = [pool("one", 4).with(bound), pool("two", 2).late().with(bound)];
    bed.start_ready(&pools).await;
    bed.queue("one", 40, 150);
    bed.queue("two", 20, 150);
    for crash in 1..=3 {
        harm(&bed, &mut random);
        bed.until_within("some are done", SOON * 2, |bed| {
            bed.github.summary().jobs_completed >= crash * 12
        })
        .await;
        bed.crash();
        bed.start(&pools).await;
    }
    bed.until_within("all are done", SOON * 4, |bed| bed.github.summary().jobs_completed == 60)
        .await;
    let summary = bed.github.summary();
    assert_eq!(
        (summary.jobs_succeeded, summary.jobs_lost, summary.jobs_started_twice),
        (60, 0, 0),
        "SEED={seed}"
    );
    bed.github.clear_faults();
    bed.engine().clear_rules();
    bed.until_nothing_left().await;
    assert!(bed.engine().peak(&named("one")) <= 4, "SEED={seed}");
    assert!(bed.engine().peak(&named("two")) <= 2, "SEED={seed}");
}
