//! What is taken off GitHub's level, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;

use fleetfoot_core::{
    Environment, Exit, Instance, InstanceName, Job, JobId, JobState, Observation, Phase, Pool,
    PoolName, PoolState, Registration, RunnerId, Span, Statistics, Timestamp, pool::observe,
};

const NOW: Timestamp = Timestamp(1_000_000);

fn pool(assigned: u32) -> PoolState {
    let mut pool = Pool::new(PoolName::new("p").unwrap(), Timestamp(0));
    pool.demand.session_opened(Statistics { assigned, ..Statistics::default() }, NOW);
    PoolState::new(pool)
}

fn job(state: &mut PoolState, id: &str, on: Option<&str>) {
    let id = JobId::new(id);
    let state_of = match on {
        None => JobState::Assigned,
        Some(name) => JobState::Started { instance: Some(InstanceName::new(name).unwrap()) },
    };
    let row = Job {
        id: id.clone(),
        state: state_of,
        repository: String::new(),
        workflow: String::new(),
        display_name: String::new(),
        run_id: 0,
        queued_at: None,
        seen_at: NOW,
        started_at: None,
    };
    state.jobs.insert(id, Arc::new(row));
}

fn spend(state: &mut PoolState, name: &str) {
    let name = InstanceName::new(name).unwrap();
    Arc::make_mut(&mut state.pool).demand.spent.insert(name, NOW);
}

/// An ended instance GitHub was not asked about yet.
fn unasked(state: &mut PoolState, name: &str, ended_at: Timestamp) {
    let name = InstanceName::new(name).unwrap();
    let mut instance = Instance::pending(name.clone(), state.pool.name.clone(), NOW);
    instance.phase = Phase::Stopping;
    instance.phase_since = ended_at;
    instance.environment = Environment::Ended;
    instance.registration = Registration::Registered(RunnerId(1));
    state.instances.insert(name, Arc::new(instance));
}

#[test]
fn items_raise_the_level_and_do_not_add_to_it() {
    let mut state = pool(0);
    job(&mut state, "a", None);
    job(&mut state, "b", None);
    assert_eq!(state.open_jobs(NOW), 2);
    assert_eq!(
        state.open_jobs(NOW + fleetfoot_core::Span::minutes(3)),
        0,
        "items hold for two minutes only"
    );
    let mut state = pool(5);
    job(&mut state, "a", None);
    assert_eq!(state.open_jobs(NOW), 5);
}

#[test]
fn a_job_on_an_ended_instance_is_counted_once() {
    let mut state = pool(2);
    job(&mut state, "a", Some("p-1"));
    job(&mut state, "b", None);
    spend(&mut state, "p-1");
    assert_eq!(state.open_jobs(NOW), 1);
}

#[test]
fn a_level_that_is_ahead_of_the_completions_makes_no_surplus() {
    // GitHub already says 0; the completions of 3 short jobs come with the next batch.
    let mut state = pool(0);
    for (id, name) in [("a", "p-1"), ("b", "p-2"), ("c", "p-3")] {
        job(&mut state, id, None);
        unasked(&mut state, name, NOW + fleetfoot_core::Span(-1));
    }
    assert_eq!(state.open_jobs(NOW), 0);
}

#[test]
fn an_ended_instance_nobody_asked_about_is_taken_off_an_older_level_only() {
    let mut state = pool(2);
    unasked(&mut state, "p-1", NOW + fleetfoot_core::Span(10));
    assert_eq!(state.open_jobs(NOW + fleetfoot_core::Span(20)), 1);
    let mut state = pool(2);
    unasked(&mut state, "p-1", NOW + fleetfoot_core::Span(-10));
    assert_eq!(state.open_jobs(NOW), 2, "the level is newer than the end");
}

/// The runner goes, GitHub states a level, and then the environment ends. A message may have been on its way, and still
/// counts the job that is over; what a new session states does not.
#[test]
fn only_a_session_opened_since_counts_no_job_of_a_runner_that_is_gone() {
    for (opens, wanted) in [(false, 0), (true, 1)] {
        let mut state = pool(1);
        let name = InstanceName::new("p-1").unwrap();
        let mut row = Instance::pending(name, state.pool.name.clone(), NOW);
        row.phase = Phase::Running;
        row.environment = Environment::Launched;
        row.registration = Registration::Registered(RunnerId(1));
        row.job_proven = true;
        let pool = Arc::make_mut(&mut state.pool);
        observe(pool, &mut row, &Observation::RunnerGone, NOW).unwrap();
        let stated = NOW + Span::seconds(1);
        let statistics = Statistics { assigned: 1, ..Statistics::default() };
        if opens {
            pool.demand.session_opened(statistics, stated);
        }
        pool.demand.state(statistics, stated);
        let ended = Observation::Ended { exit: Exit { code: Some(0), ..Exit::default() } };
        observe(pool, &mut row, &ended, stated).unwrap();
        state.instances.insert(row.name.clone(), Arc::new(row));
        assert_eq!(state.open_jobs(stated), wanted, "opens: {opens}");
    }
}

/// Polls hang, or the process stood still: the level that was stated last still counts what is over (seed 56755).
#[test]
fn a_job_that_is_over_is_taken_off_until_github_is_heard_again() {
    let mut state = pool(2);
    spend(&mut state, "p-1");
    let later = NOW + Span::minutes(20);
    assert_eq!(state.open_jobs(later), 1, "nobody said anything since");
    let demand = &mut Arc::make_mut(&mut state.pool).demand;
    assert!(!demand.has_overdue(NOW + Span::minutes(1)));
    demand.heard(NOW + Span::minutes(1));
    assert_eq!(state.open_jobs(later), 1, "GitHub may take as long to notice");
    let demand = &mut Arc::make_mut(&mut state.pool).demand;
    assert!(demand.has_overdue(later));
    demand.heard(later);
    assert!(!demand.has_overdue(later));
    assert_eq!(state.open_jobs(later), 2, "then its level is what it says");
}

/// Its machine ended and GitHub called its runner busy: its job is in the level, also in one that is stated long after
/// that was asked (seed 40210).
#[test]
fn a_busy_runner_without_a_machine_is_taken_off_any_level() {
    let mut state = pool(2);
    unasked(&mut state, "p-1", NOW);
    let name = InstanceName::new("p-1").unwrap();
    let row = Arc::make_mut(state.instances.get_mut(&name).unwrap());
    row.observe(&fleetfoot_core::Observation::Busy, NOW).unwrap();
    spend(&mut state, "p-1");
    assert_eq!(state.open_jobs(NOW), 1, "once, not twice");
    let later = NOW + Span::minutes(20);
    let level = Statistics { assigned: 2, ..Statistics::default() };
    Arc::make_mut(&mut state.pool).demand.state(level, later);
    assert_eq!(state.open_jobs(later), 1);
    let row = Arc::make_mut(state.instances.get_mut(&name).unwrap());
    row.observe(&fleetfoot_core::Observation::RunnerGone, later).unwrap();
    assert_eq!(state.open_jobs(later), 2, "GitHub has neither the runner nor its job");
}

#[test]
fn what_is_remembered_of_ended_jobs_is_bounded() {
    use fleetfoot_core::demand::{Demand, FINISHED_MAX, SPENT_MAX};
    let mut demand = Demand::default();
    for number in 0..i64::try_from(SPENT_MAX + 10).unwrap() {
        let name = InstanceName::new(&format!("p-{number:08x}")).unwrap();
        let at = fleetfoot_core::Timestamp(number);
        demand.spend(&name, at);
        demand.spend(&name, at);
        demand.finish(&JobId::new(&number.to_string()), at);
    }
    assert_eq!(demand.spent.len(), SPENT_MAX);
    assert!(!demand.spent.contains_key(&InstanceName::new("p-00000009").unwrap()));
    assert!(demand.spent.contains_key(&InstanceName::new("p-0000000a").unwrap()));
    assert!(demand.finished.len() <= FINISHED_MAX);
}

/// The wall clock stepped back while nobody was there: the items of long ago are not young again.
#[test]
fn items_of_a_later_time_than_now_raise_nothing() {
    let mut state = pool(0);
    job(&mut state, "a", None);
    job(&mut state, "b", None);
    let (near, far) = (NOW - Span::seconds(30), NOW - Span::minutes(60));
    let resumed = |now| {
        let mut state = state.clone();
        for job in state.jobs.values_mut() {
            Arc::make_mut(job).resume(now);
        }
        state.open_jobs(now)
    };
    assert_eq!((resumed(near), resumed(far)), (2, 0));
}

/// Rows of an older store are found gone after the session opened: what GitHub stated then bounds how many of their jobs
/// it may still count (seeds 72518, 75090).
#[test]
fn no_more_jobs_of_before_are_taken_off_than_the_session_began_with() {
    for (level, taken_off) in [(0, 0), (1, 1), (5, 3)] {
        let mut state = pool(level);
        let pool = Arc::make_mut(&mut state.pool);
        let before = Timestamp(NOW.0 - 60_000);
        for (number, started) in [(1, Some(before)), (2, Some(before)), (3, None)] {
            let name = InstanceName::new(&format!("p-{number}")).unwrap();
            let mut row = Instance::pending(name, pool.name.clone(), before);
            row.phase = Phase::Running;
            row.environment = Environment::Launched;
            row.registration = Registration::Registered(RunnerId(number));
            row.job_started_at = started;
            row.job_proven = true;
            observe(pool, &mut row, &Observation::EnvironmentGone, NOW).unwrap();
        }
        assert_eq!(pool.demand.spent.len(), taken_off, "level {level}");
    }
}

/// A job that began in this session is in a level of it, and so is one that GitHub itself calls running.
#[test]
fn what_began_since_or_is_called_busy_is_always_taken_off() {
    for (started, busy) in [(NOW + Span::seconds(1), false), (Timestamp(0), true)] {
        let mut state = pool(0);
        let pool = Arc::make_mut(&mut state.pool);
        let name = InstanceName::new("p-1").unwrap();
        let mut row = Instance::pending(name, pool.name.clone(), Timestamp(0));
        row.phase = Phase::Running;
        row.environment = Environment::Launched;
        row.registration = Registration::Registered(RunnerId(1));
        row.job_started_at = Some(started);
        row.job = Some(JobId::new("j"));
        let later = NOW + Span::seconds(2);
        observe(pool, &mut row, &Observation::EnvironmentGone, later).unwrap();
        if busy {
            assert!(pool.demand.spent.is_empty());
            observe(pool, &mut row, &Observation::Busy, later).unwrap();
        }
        assert_eq!(pool.demand.spent.len(), 1, "busy: {busy}");
    }
}
