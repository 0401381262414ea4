use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_api::Source;
use fleetfoot_core::{
    Circuit, Exit, FailureKind, Health, Instance, InstanceName, Intent, ListenerState, Outcome,
    Phase, Pool, PoolHealth, PoolName, PoolState, Reason, Timestamp,
};

use super::{Snapshot, closed_status, outcome, outcome_word, pool_status};

fn pool(name: &str) -> PoolState {
    PoolState::new(Pool::new(PoolName::new(name).unwrap(), Timestamp(0)))
}

fn instance(phase: Phase) -> Instance {
    let name = InstanceName::new("linux-00000001").unwrap();
    Instance { phase, ..Instance::pending(name, PoolName::new("linux").unwrap(), Timestamp(0)) }
}

#[test]
fn phases_are_counted_where_they_belong() {
    for phase in Phase::ALL {
        let mut state = pool("linux");
        let one = instance(phase);
        state.instances.insert(one.name.clone(), Arc::new(one));
        let view = pool_status(&state, None, Timestamp(1));
        let counts = (view.starting + 10 * view.warm, view.idle, view.running, view.stopping);
        let wanted = match phase {
            Phase::Pending | Phase::Creating | Phase::Starting => (1, 0, 0, 0),
            Phase::Warm => (10, 0, 0, 0),
            Phase::Idle => (0, 1, 0, 0),
            Phase::Running => (0, 0, 1, 0),
            Phase::Stopping => (0, 0, 0, 1),
            Phase::Closed => (0, 0, 0, 0),
        };
        assert_eq!(counts, wanted, "{phase:?}");
    }
}

#[test]
fn listeners_are_shown_with_what_matters() {
    let table = [
        (ListenerState::Opening, "opening", false, false, false),
        (ListenerState::Standby { since: Timestamp(1) }, "standby", true, false, false),
        (ListenerState::Connected, "connected", false, false, false),
        (
            ListenerState::Backoff { until: Timestamp(1), detail: "502".to_owned() },
            "backoff",
            false,
            true,
            true,
        ),
        (ListenerState::Closed, "closed", false, false, false),
    ];
    for (listener, word, since, until, detail) in table {
        let health = PoolHealth { listener, ..PoolHealth::default() };
        let view = pool_status(&pool("linux"), Some(&health), Timestamp(1)).listener.unwrap();
        assert_eq!(view.state, word);
        let shown = (view.since.is_some(), view.until.is_some(), view.detail.is_some());
        assert_eq!(shown, (since, until, detail), "{word}");
    }
}

#[test]
fn without_a_daemon_the_store_says_what_it_knows() {
    let mut row = Pool::new(PoolName::new("linux").unwrap(), Timestamp(0));
    row.intent = Intent::Draining;
    row.demand.known = true;
    row.circuit = Circuit {
        failures: 4,
        open_until: Some(Timestamp(10)),
        allowance: 1,
        last_failure: "no such image".to_owned(),
    };
    let state = PoolState::new(row);
    let view = pool_status(&state, None, Timestamp(5));
    let codes: Vec<&str> = view.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert_eq!(codes, ["no_daemon", "draining", "circuit_open"]);
    assert!(!view.demand.known, "the session of a dead daemon says nothing");
    assert!(view.circuit.open);
    assert_eq!((view.max_runners, view.advertised, view.listener), (None, None, None));
    let later = pool_status(&state, None, Timestamp(20));
    assert!(!later.circuit.open && later.circuit.until.is_none());
}

#[test]
fn a_snapshot_tells_who_speaks() {
    let state = Arc::new(pool("linux"));
    let mut snapshot = Snapshot {
        fleet: None,
        version: "1".to_owned(),
        installation: "i".to_owned(),
        behind: None,
        pools: BTreeMap::from([(state.pool.name.clone(), state)]),
        health: None,
        written: fleetfoot_store::Counters::default(),
        now: Timestamp(5),
    };
    let alone = snapshot.status();
    assert_eq!((alone.source, alone.ready, alone.started_at), (Source::Store, false, None));
    snapshot.health = Some(Health { ready: true, ..Health::default() });
    let status = snapshot.status();
    assert_eq!((status.source, status.ready), (Source::Daemon, true));
    // A pool that the controller has not begun with is opening, not without a daemon.
    assert_eq!(status.pools[0].listener.as_ref().unwrap().state, "opening");
}

#[test]
fn every_outcome_has_a_line_and_a_bounded_word() {
    let detail = || "exit code 137, out of memory".to_owned();
    let table = [
        (Outcome::Completed { result: Some("failed".to_owned()) }, "completed", "failed"),
        (Outcome::Completed { result: None }, "completed", "ended"),
        (
            Outcome::Failed { kind: FailureKind::Create, detail: detail() },
            "failed",
            "(create): exit",
        ),
        (
            Outcome::Failed { kind: FailureKind::Create, detail: String::new() },
            "failed",
            "(create)",
        ),
        (Outcome::Lost { detail: detail() }, "lost", "137"),
        (Outcome::Removed(Reason::Surplus), "removed", "surplus"),
        (Outcome::HostRebooted, "host_rebooted", "restarted"),
        (Outcome::RegistrationUnverified, "unverified", "credential"),
    ];
    for (end, word, part) in table {
        assert_eq!(outcome_word(&end), word);
        assert!(outcome(&end).contains(part), "{}", outcome(&end));
    }
}

#[test]
fn a_closed_one_keeps_its_facts() {
    let mut one = instance(Phase::Closed);
    one.job = Some(fleetfoot_core::JobId::new("job-1"));
    one.failure = Some((FailureKind::Launch, "permission denied".to_owned()));
    one.exit = Some(Exit { code: Some(137), out_of_memory: true, message: None });
    one.outcome = Some(Outcome::HostRebooted);
    let view = closed_status(&one);
    assert_eq!(view.job.unwrap().id, "job-1");
    assert_eq!(view.last_error.as_deref(), Some("permission denied"));
    assert_eq!(view.exit.unwrap().code, Some(137));
    assert_eq!(view.phase, "closed");
    assert!(view.outcome.is_some());
}
