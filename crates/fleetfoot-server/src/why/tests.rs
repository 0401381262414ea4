use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetfoot_core::{
    Cause, Environment, Exit, FailureKind, Health, Instance, InstanceName, Job, JobId, JobState,
    Phase, Pool, PoolHealth, PoolName, PoolState, Reason, Registration, RunnerId, Timestamp,
};

use super::{Found, answer, answer_closed, find, why_removed};
use crate::views::Snapshot;

const NOW: Timestamp = Timestamp(1_000_000);

fn pool() -> PoolName {
    PoolName::new("linux").unwrap()
}

fn instance(phase: Phase) -> Instance {
    let name = InstanceName::new("linux-00000001").unwrap();
    Instance { phase, ..Instance::pending(name, pool(), Timestamp(0)) }
}

fn job(state: JobState) -> Job {
    Job {
        id: JobId::new("job-1"),
        state,
        repository: "octo/app".to_owned(),
        workflow: "ci.yml".to_owned(),
        display_name: "build".to_owned(),
        run_id: 7,
        queued_at: Some(Timestamp(900_000)),
        seen_at: Timestamp(900_500),
        started_at: None,
    }
}

fn snapshot(instance: Option<Instance>, job: Option<Job>, causes: Vec<Cause>) -> Snapshot {
    let mut state = PoolState::new(Pool::new(pool(), Timestamp(0)));
    state.instances.extend(instance.map(|one| (one.name.clone(), Arc::new(one))));
    state.jobs.extend(job.map(|job| (job.id.clone(), Arc::new(job))));
    let health = PoolHealth { causes, ..PoolHealth::default() };
    let pools = BTreeMap::from([(pool(), Arc::new(health))]);
    Snapshot {
        fleet: None,
        version: "1".to_owned(),
        installation: "i".to_owned(),
        behind: None,
        pools: BTreeMap::from([(pool(), Arc::new(state))]),
        health: Some(Health { pools, ..Health::default() }),
        written: fleetfoot_store::Counters::default(),
        now: NOW,
    }
}

fn lines(snapshot: &Snapshot, subject: &str) -> Vec<String> {
    let found = find(snapshot, subject);
    answer(snapshot, &found[0], Vec::new()).answer
}

#[test]
fn every_phase_has_its_own_sentence() {
    let sentences: BTreeSet<String> = Phase::ALL
        .into_iter()
        .map(|phase| {
            let lines = lines(&snapshot(Some(instance(phase)), None, Vec::new()), "linux-00000001");
            assert!(lines[0].contains(phase.as_str()), "{lines:?}");
            lines[1].clone()
        })
        .collect();
    assert_eq!(sentences.len(), Phase::ALL.len());
}

#[test]
fn every_reason_has_its_own_clause() {
    let clauses: BTreeSet<&str> = Reason::ALL.into_iter().map(why_removed).collect();
    assert_eq!(clauses.len(), Reason::ALL.len());
}

#[test]
fn a_removal_says_what_it_waits_for() {
    let registered = Registration::Registered(RunnerId(5));
    let table = [
        (registered, Environment::Launched, false, "let go of its runner before"),
        (registered, Environment::Ended, false, "and its environment"),
        (Registration::Gone, Environment::Ended, false, "environment is to be deleted"),
        (Registration::Gone, Environment::Gone, true, "unanswered"),
        (Registration::Gone, Environment::Gone, false, "about to be closed"),
    ];
    for (registration, environment, unanswered, part) in table {
        let one = Instance {
            registration,
            environment,
            unanswered_since: unanswered.then_some(NOW),
            ..instance(Phase::Stopping)
        };
        let lines = lines(&snapshot(Some(one), None, Vec::new()), "linux-00000001");
        assert!(lines[1].contains(part), "{lines:?}");
    }
}

#[test]
fn facts_are_told_each_in_a_line() {
    let one = Instance {
        reason: Some(Reason::BootTimeout),
        failure: Some((FailureKind::Launch, "permission denied".to_owned())),
        exit: Some(Exit { code: Some(1), out_of_memory: true, message: Some("killed".to_owned()) }),
        last_error: Some("502".to_owned()),
        attempts: 3,
        retry_at: Some(NOW),
        runner_id: Some(RunnerId(5)),
        handle: Some("abc".to_owned()),
        job_completed_at: Some(NOW),
        ..instance(Phase::Stopping)
    };
    let text = lines(&snapshot(Some(one.clone()), None, Vec::new()), "linux-00000001").join("\n");
    for part in [
        "boot_timeout",
        "permission denied",
        "exit code 1",
        "out of memory",
        "killed",
        "502",
        "attempts: 3",
        "runner 5",
        "`abc`",
        "no result given",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let closed = Instance { job: Some(JobId::new("job-1")), ..one };
    let text = answer_closed(&closed, NOW, Vec::new()).answer.join("\n");
    assert!(text.contains("not recorded") && text.contains("job-1"), "{text}");
}

#[test]
fn only_what_holds_a_begun_one_up_is_its_cause() {
    let causes = || {
        vec![
            Cause::PoolLimit { limit: 1 },
            Cause::BackendUnavailable { detail: "refused".to_owned() },
        ]
    };
    for (phase, wanted) in [(Phase::Pending, 1), (Phase::Stopping, 1), (Phase::Running, 0)] {
        let snapshot = snapshot(Some(instance(phase)), None, causes());
        let found = find(&snapshot, "linux-00000001");
        let why = answer(&snapshot, &found[0], Vec::new());
        assert_eq!(why.causes.len(), wanted, "{phase:?}");
    }
}

#[test]
fn a_job_says_where_it_is() {
    let started = |instance: Option<&str>| JobState::Started {
        instance: instance.map(|name| InstanceName::new(name).unwrap()),
    };
    let table = [
        (JobState::Assigned, "waits in pool `linux` since 1970-01-01T00:15:00.000Z (100 s)"),
        (started(Some("linux-00000001")), "runs on `linux-00000001` since"),
        (started(Some("other-1")), "no living instance of ours"),
        (started(None), "a runner that is not ours"),
    ];
    for (state, part) in table {
        let snapshot = snapshot(Some(instance(Phase::Running)), Some(job(state)), Vec::new());
        let lines = lines(&snapshot, "job-1");
        assert!(lines[0].contains(part), "{lines:?}");
    }
}

#[test]
fn a_pool_says_what_waits() {
    let causes = vec![Cause::HostBudget];
    let waits = snapshot(None, Some(job(JobState::Assigned)), causes);
    let found = find(&waits, "linux");
    let why = answer(&waits, &found[0], Vec::new());
    assert_eq!(why.answer[0], "jobs wait for pool `linux`");
    assert!(why.answer.iter().any(|line| line.starts_with("waiting: job `build` of octo/app")));
    assert_eq!(why.causes[0].code, "host_budget");
    let unknown = snapshot(None, None, vec![Cause::DemandUnknown]);
    assert!(lines(&unknown, "linux")[0].contains("does not know"));
}

#[test]
fn names_go_before_numbers_and_kinds_narrow() {
    let one = Instance { runner_id: Some(RunnerId(7)), ..instance(Phase::Idle) };
    let snapshot = snapshot(Some(one), Some(job(JobState::Assigned)), Vec::new());
    // 7 is both the runner's number and the run's.
    assert_eq!(find(&snapshot, "7").len(), 2);
    assert!(matches!(find(&snapshot, "runner:7").as_slice(), [Found::Runner(..)]));
    assert!(matches!(find(&snapshot, "job:7").as_slice(), [Found::Job(..)]));
    assert!(find(&snapshot, "pool:7").is_empty());
    for nothing in ["octo/ap", "octo/app2", "octo/app#8", "", "x"] {
        assert!(find(&snapshot, nothing).is_empty(), "{nothing}");
    }
}
