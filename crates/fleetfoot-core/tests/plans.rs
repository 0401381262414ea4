//! Single plans: what is asked of whom while something is away, another one, or on its way out.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetfoot_core::{
    Action, Cause, Dependency, Environment, Instance, InstanceName, Intent, Observation, Phase,
    Plan, Pool, PoolName, PoolSpec, PoolState, Reason, Registration, RunnerId, ScaleSetId,
    Snapshot, Span, Statistics, Timestamp, plan, pool::observe,
};

const NOW: Timestamp = Timestamp(10_000_000);

struct Scene {
    state: PoolState,
    spec: PoolSpec,
    in_flight: BTreeSet<InstanceName>,
    backend: Dependency,
    github: Dependency,
    identity: Option<&'static str>,
    host_cause: Option<Cause>,
    host_room: u32,
    host_wants: u32,
    watched: bool,
    listed: bool,
}

impl Scene {
    fn new(assigned: u32) -> Self {
        let mut pool = Pool::new(PoolName::new("p").unwrap(), Timestamp(0));
        pool.scale_set_id = Some(ScaleSetId(1));
        pool.demand.session_opened(Statistics { assigned, ..Statistics::default() }, NOW);
        Self {
            state: PoolState::new(pool),
            spec: PoolSpec { max_runners: 10, ..PoolSpec::default() },
            in_flight: BTreeSet::new(),
            backend: Dependency::Up,
            github: Dependency::Up,
            identity: Some("engine"),
            host_cause: None,
            host_room: u32::MAX,
            host_wants: 0,
            watched: true,
            listed: true,
        }
    }

    fn instance(&mut self, phase: Phase, environment: Environment) -> &mut Instance {
        let number = u32::try_from(self.state.instances.len()).unwrap() + 1;
        let name = InstanceName::of_pool(&self.state.pool.name, number);
        let mut row = Instance::pending(name.clone(), self.state.pool.name.clone(), NOW);
        row.phase = phase;
        row.environment = environment;
        row.registration = Registration::Registered(RunnerId(1));
        row.scale_set_id = Some(ScaleSetId(1));
        row.backend_identity = Some("engine".into());
        self.state.instances.insert(name.clone(), Arc::new(row));
        Arc::make_mut(self.state.instances.get_mut(&name).unwrap())
    }

    fn plan(&self) -> Plan {
        let snapshot = Snapshot {
            backend: self.backend.clone(),
            backend_identity: self.identity,
            github: self.github.clone(),
            host_room: self.host_room,
            host_cause: self.host_cause.clone(),
            host_wants: self.host_wants,
            watched: self.watched,
            listed: self.listed,
            ..Snapshot::unhindered(&self.state, &self.spec, &self.in_flight)
        };
        plan(&snapshot, NOW)
    }

    fn created(&self) -> u32 {
        let count =
            |action: &Action| if let Action::Create { count } = action { *count } else { 0 };
        self.plan().actions.iter().map(count).sum()
    }
}

fn down(until: i64) -> Dependency {
    Dependency::Down { until: Timestamp(NOW.0 + until), detail: "gone".into() }
}

#[test]
fn nothing_is_made_or_deleted_while_another_backend_answers() {
    for answers in [Some("another"), None] {
        let mut scene = Scene::new(5);
        scene.identity = answers;
        scene.instance(Phase::Stopping, Environment::Ended);
        let plan = scene.plan();
        let removes = plan.actions.iter().filter_map(|action| {
            if let Action::Remove { deregister, delete, .. } = action {
                Some((*deregister, *delete))
            } else {
                None
            }
        });
        assert_eq!(
            removes.collect::<Vec<_>>(),
            [(true, false)],
            "github may be asked all the same"
        );
        if answers.is_some() {
            assert_eq!(scene.created(), 0);
            assert!(plan.causes.iter().any(|cause| cause.code() == "backend_unavailable"));
        }
    }
}

#[test]
fn where_nobody_tells_of_ends_github_is_asked_soon_once_no_message_comes() {
    for (watched, intent, is_asked) in [
        (true, Intent::Removed, false),
        (false, Intent::Active, false),
        (false, Intent::Draining, true),
        (false, Intent::Removed, true),
    ] {
        let mut scene = Scene::new(1);
        scene.watched = watched;
        Arc::make_mut(&mut scene.state.pool).intent = intent;
        let row = scene.instance(Phase::Running, Environment::Launched);
        row.phase_since = Timestamp(NOW.0 - 20_000);
        let asked = scene.plan().actions.iter().any(|it| matches!(it, Action::Verify { .. }));
        assert_eq!(asked, is_asked, "watched: {watched}, {intent:?}");
    }
}

#[test]
fn a_slot_is_held_for_an_end_that_somebody_will_tell() {
    for (watched, is_over) in [(true, false), (false, true)] {
        let mut scene = Scene::new(1);
        scene.watched = watched;
        let row = scene.instance(Phase::Running, Environment::Launched);
        row.job_completed_at = Some(Timestamp(NOW.0 - 6_000));
        let plan = scene.plan();
        let retired = |it: &Action| matches!(it, Action::Retire { reason: Reason::JobDone, .. });
        assert_eq!(plan.actions.iter().any(retired), is_over, "watched: {watched}");
    }
}

#[test]
fn what_was_down_is_tried_by_one() {
    for (backend, github) in [(down(0), Dependency::Up), (Dependency::Up, down(-5))] {
        let mut scene = Scene::new(5);
        (scene.backend, scene.github) = (backend, github);
        assert_eq!(scene.created(), 1);
        let trying = scene.instance(Phase::Starting, Environment::Requested).name.clone();
        scene.in_flight.insert(trying);
        assert_eq!(scene.created(), 0, "one is being tried");
    }
    let mut scene = Scene::new(5);
    scene.backend = down(7000);
    assert_eq!((scene.created(), scene.plan().wake_at), (0, Some(NOW + Span(7000))));
}

#[test]
fn a_wait_for_a_dependency_ends_by_itself_even_without_demand() {
    let mut scene = Scene::new(0);
    scene.github = down(500);
    assert_eq!(scene.plan().wake_at, Some(NOW + Span(500)));
}

#[test]
fn a_full_disk_is_looked_at_again_soon() {
    let mut scene = Scene::new(1);
    (scene.host_room, scene.host_cause) = (0, Some(Cause::DiskFull));
    assert!(scene.plan().wake_at.is_some_and(|at| at <= NOW + Span::seconds(10)));
}

#[test]
fn a_pool_waits_for_its_first_release_of_the_runner() {
    let mut scene = Scene::new(1);
    let cause = Cause::RunnerMissing { detail: "it is being fetched".to_owned() };
    (scene.host_room, scene.host_cause) = (0, Some(cause.clone()));
    let plan = scene.plan();
    assert_eq!(plan.actions, []);
    assert!(plan.causes.contains(&cause), "{:?}", plan.causes);
    assert!(plan.wake_at.is_some_and(|at| at <= NOW + Span::seconds(2)));
}

/// What runs and has no number is asked for by its name; without it nobody would ever hear that it is over.
#[test]
fn a_runner_without_a_number_is_looked_up_while_it_runs() {
    for registration in [Registration::None, Registration::Requested, Registration::Gone] {
        for (phase, looked_up) in [(Phase::Running, 1), (Phase::Idle, 0)] {
            let mut scene = Scene::new(1);
            let row = scene.instance(phase, Environment::Launched);
            (row.registration, row.phase_since) = (registration, Timestamp(0));
            let plan = scene.plan();
            let verify = |action: &&Action| matches!(action, Action::Verify { .. });
            let count = plan.actions.iter().filter(verify).count();
            assert_eq!(count, looked_up, "{registration:?} {phase:?}");
        }
    }
}

#[test]
fn a_drained_pool_still_looks_after_what_it_cannot_send_away() {
    let mut scene = Scene::new(0);
    Arc::make_mut(&mut scene.state.pool).intent = Intent::Draining;
    let starting = scene.instance(Phase::Starting, Environment::Launched);
    starting.phase_since = NOW - Span::seconds(20);
    let starting = starting.name.clone();
    let running = scene.instance(Phase::Running, Environment::Launched);
    running.phase_since = Timestamp(0);
    let running = running.name.clone();
    let idle = scene.instance(Phase::Idle, Environment::Launched);
    idle.phase_since = Timestamp(0);
    let idle = idle.name.clone();
    assert_eq!(
        scene.plan().actions,
        [
            Action::Verify { name: starting },
            Action::Verify { name: running },
            Action::Retire { name: idle, reason: Reason::Drained },
        ]
    );
}

/// A runner that came up while nobody could ask GitHub is not held to its deadline before somebody did.
#[test]
fn a_boot_deadline_waits_for_a_look_that_github_answers() {
    let boot = PoolSpec::default().boot_timeout;
    let retire = |name: &InstanceName| {
        vec![Action::Retire { name: name.clone(), reason: Reason::BootTimeout }]
    };
    let verify = |name: &InstanceName| vec![Action::Verify { name: name.clone() }];
    let nothing = |_: &InstanceName| Vec::new();
    let registered = Registration::Registered(RunnerId(1));
    type Wanted<'a> = &'a dyn Fn(&InstanceName) -> Vec<Action>;
    let cases: [(i64, Option<i64>, Registration, Dependency, Wanted<'_>); 7] = [
        (1, None, registered, Dependency::Up, &verify),
        (1, None, registered, down(30_000), &nothing),
        // Looked at before half of its time was over: that says nothing yet.
        (1, Some(200), registered, Dependency::Up, &verify),
        (1, Some(10), registered, Dependency::Up, &retire),
        (1, Some(10), registered, down(30_000), &retire),
        (61, None, registered, down(30_000), &retire),
        // There is nothing to ask for.
        (1, None, Registration::Gone, Dependency::Up, &retire),
    ];
    for (late, looked, registration, github, wanted) in cases {
        let mut scene = Scene::new(0);
        let row = scene.instance(Phase::Starting, Environment::Launched);
        row.phase_since = NOW - boot - Span::seconds(late);
        row.verified_at = looked.map(|ago| NOW - Span::seconds(ago));
        row.registration = registration;
        let name = row.name.clone();
        scene.github = github;
        let plan = scene.plan();
        assert_eq!(plan.actions, wanted(&name), "{late} s late, looked at {looked:?} s ago");
        if plan.actions.is_empty() {
            assert!(plan.wake_at.is_some_and(|at| at <= NOW + Span::minutes(1)));
        }
    }
}

/// Whose failure a boot timeout was, nobody knows where nobody could ask (11.6).
#[test]
fn a_boot_timeout_counts_only_if_github_was_asked() {
    for (looked, failures) in [(None, 0), (Some(Timestamp(0)), 0), (Some(NOW), 1)] {
        let mut scene = Scene::new(0);
        let row = scene.instance(Phase::Starting, Environment::Launched);
        row.verified_at = looked;
        let mut row = row.clone();
        let pool = Arc::make_mut(&mut scene.state.pool);
        let reason = Reason::BootTimeout;
        observe(pool, &mut row, &Observation::Removal { reason }, NOW).unwrap();
        assert_eq!((row.phase, pool.circuit.failures), (Phase::Stopping, failures), "{looked:?}");
    }
}

#[test]
fn a_job_whose_start_no_message_told_counts_its_time_from_when_it_was_seen() {
    let mut scene = Scene::new(1);
    scene.spec.max_job_duration = Some(Span::minutes(1));
    let row = scene.instance(Phase::Running, Environment::Launched);
    row.phase_since = NOW - Span::minutes(2);
    let name = row.name.clone();
    assert_eq!(scene.plan().actions, [Action::Retire { name, reason: Reason::MaxJobDuration }]);
}

/// What GitHub said of its own side holds when the backend's side is done, and not the other way round.
#[test]
fn a_machine_that_is_gone_does_not_make_github_ready_sooner() {
    let wait = Some(NOW + Span::minutes(1));
    let table = [
        (Registration::Requested, wait),
        (Registration::Registered(RunnerId(7)), wait),
        (Registration::Gone, None),
        (Registration::None, None),
    ];
    for (registration, left) in table {
        let mut scene = Scene::new(0);
        let row = scene.instance(Phase::Stopping, Environment::Ended);
        (row.registration, row.retry_at) = (registration, wait);
        row.observe(&Observation::EnvironmentGone, NOW).unwrap();
        assert_eq!(row.retry_at, left, "{registration:?}");
    }
}

#[test]
fn stored_times_that_lie_ahead_delay_nothing() {
    let mut scene = Scene::new(0);
    let hour = Span::minutes(60);
    let row = scene.instance(Phase::Stopping, Environment::Ended);
    row.retry_at = Some(NOW + hour);
    row.phase_since = NOW + hour;
    row.last_call_at = Some(NOW + hour);
    row.resume(NOW);
    assert_eq!((row.phase_since, row.last_call_at), (NOW, Some(NOW)));
    assert!(row.retry_at.is_some_and(|at| at <= NOW + Span::minutes(5)));
    let pool = Arc::make_mut(&mut scene.state.pool);
    pool.circuit.open_until = Some(NOW + hour);
    pool.demand.stated_at = NOW + hour;
    pool.resume(NOW);
    assert!(pool.circuit.open_until.is_some_and(|at| at <= NOW + Span::minutes(5)));
    assert_eq!(pool.demand.stated_at, NOW);
}

/// 11.15: a completion that was not true takes nothing off GitHub's level when the job does end, later.
#[test]
fn a_completion_that_github_contradicts_is_forgotten() {
    use fleetfoot_core::{Exit, JobId, Observation, pool::observe};
    let mut scene = Scene::new(1);
    let mut row = scene.instance(Phase::Running, Environment::Launched).clone();
    let job = JobId::new("j");
    let pool = Arc::make_mut(&mut scene.state.pool);
    let result = Some("succeeded".to_owned());
    for observation in [
        Observation::JobStarted { job: job.clone() },
        Observation::JobCompleted { job: Some(job), result },
        Observation::Removal { reason: Reason::JobDone },
        Observation::Busy,
    ] {
        observe(pool, &mut row, &observation, NOW).unwrap();
    }
    assert_eq!((row.phase, row.reason, row.serves()), (Phase::Running, None, true));
    observe(pool, &mut row, &Observation::Ended { exit: Exit::default() }, NOW).unwrap();
    scene.state.instances.insert(row.name.clone(), Arc::new(row));
    assert_eq!(scene.created(), 0, "its end is known before github's level says so");
}

/// 11.3: "busy" of what was never launched is GitHub's mistake; as `Running` it would have no way out.
#[test]
fn what_was_never_launched_does_not_run() {
    use fleetfoot_core::Observation;
    let mut scene = Scene::new(1);
    let mut row = scene.instance(Phase::Stopping, Environment::Present).clone();
    row.observe(&Observation::Busy, NOW).unwrap();
    assert_eq!((row.phase, row.had_job()), (Phase::Stopping, false));
    row.environment = Environment::Launched;
    row.observe(&Observation::Busy, NOW).unwrap();
    assert_eq!(row.phase, Phase::Running);
}

/// Called busy once, and no message ever told of a job (seed 669): it is idle again, and goes as idle ones do.
#[test]
fn what_was_called_busy_and_has_no_job_is_idle_again() {
    use fleetfoot_core::{JobId, Observation, Span, instance::UNTOLD_JOB_HOLD};
    let hour = NOW + UNTOLD_JOB_HOLD;
    for (observation, at, phase) in [
        (Observation::Jobless, NOW, Phase::Idle),
        (Observation::Online, NOW, Phase::Idle),
        // Who may not list does not hear whether it is busy.
        (Observation::StillRegistered, NOW + Span::minutes(59), Phase::Running),
        (Observation::StillRegistered, hour, Phase::Idle),
        (Observation::Busy, hour, Phase::Running),
    ] {
        let mut scene = Scene::new(1);
        let mut row = scene.instance(Phase::Stopping, Environment::Launched).clone();
        row.observe(&Observation::Busy, NOW).unwrap();
        let mut told = row.clone();
        row.observe(&observation, at).unwrap();
        assert_eq!(row.phase, phase, "{observation:?}");
        told.observe(&Observation::JobStarted { job: JobId::new("j") }, NOW).unwrap();
        told.observe(&observation, at).unwrap();
        assert_eq!(told.phase, Phase::Running, "its job was told of: {observation:?}");
    }
}

/// The same of a single step that was refused for certain; of one without an answer nobody knows.
#[test]
fn what_could_not_be_made_does_not_run() {
    use fleetfoot_core::{FailureKind, Observation};
    let (kind, detail) = (FailureKind::Backend, "no room".to_owned());
    for (observation, phase) in [
        (Observation::Failed { kind, detail: detail.clone() }, Phase::Stopping),
        (Observation::Unanswered { kind, detail }, Phase::Running),
    ] {
        let mut scene = Scene::new(1);
        let row = scene.instance(Phase::Starting, Environment::Requested);
        row.observe(&observation, NOW).unwrap();
        row.observe(&Observation::Busy, NOW).unwrap();
        assert_eq!(row.phase, phase, "{observation:?}");
    }
}

/// A create that a crash cut off says nothing of the instance: only the task that waits for one blames it.
#[test]
fn a_create_that_nobody_waits_for_does_not_count_in_the_circuit() {
    use fleetfoot_core::{Observation, pool::observe};
    let mut scene = Scene::new(1);
    let mut row = scene.instance(Phase::Creating, Environment::Requested).clone();
    let pool = Arc::make_mut(&mut scene.state.pool);
    let reason = Reason::CreateTimeout;
    observe(pool, &mut row, &Observation::Removal { reason }, NOW).unwrap();
    assert_eq!((row.phase, pool.circuit.failures), (Phase::Stopping, 0));
}

/// 11.4: GitHub's level counts the jobs of what was taken up, too, and nobody knows yet which have one.
#[test]
fn nothing_is_made_in_place_of_what_github_is_asked_about() {
    let mut scene = Scene::new(3);
    for _ in 0..2 {
        let row = scene.instance(Phase::Stopping, Environment::Launched);
        row.reason = Some(Reason::Stray);
        row.registration = Registration::Requested;
    }
    assert_eq!(scene.created(), 1);
    for row in scene.state.instances.values_mut() {
        Arc::make_mut(row).registration = Registration::Gone;
    }
    assert_eq!(scene.created(), 3, "they have no job");
    for row in scene.state.instances.values_mut() {
        Arc::make_mut(row).registration = Registration::Requested;
        Arc::make_mut(row).phase_since = NOW - Span::minutes(20);
    }
    assert_eq!(scene.created(), 3, "a job that waits is worth a runner too many");
}

/// 7.1: a single step that a crash cut off, where no list tells what became of it. With a list the sweep does.
#[test]
fn where_no_list_tells_a_cut_off_call_goes_through_the_gate_at_once() {
    use Environment::{Launched, Requested};
    for (listed, in_flight, phase, environment, goes) in [
        (true, false, Phase::Starting, Requested, false),
        (false, true, Phase::Starting, Requested, false),
        (false, false, Phase::Starting, Requested, true),
        (false, false, Phase::Starting, Launched, false),
        // Its runner was heard of: the call was done.
        (false, false, Phase::Idle, Requested, false),
        (false, false, Phase::Running, Requested, false),
    ] {
        let mut scene = Scene::new(1);
        (scene.listed, scene.watched) = (listed, false);
        let name = scene.instance(phase, environment).name.clone();
        scene.in_flight.extend(in_flight.then(|| name.clone()));
        let retire = Action::Retire { name, reason: Reason::Interrupted };
        let what = format!("{listed} {in_flight} {phase:?} {environment:?}");
        assert_eq!(scene.plan().actions.contains(&retire), goes, "{what}");
    }
}

/// What may have been made is asked about first: what has a job keeps it, and nothing is made in its place before.
#[test]
fn a_cut_off_call_is_replaced_once_github_says_that_it_has_no_job() {
    let mut scene = Scene::new(1);
    (scene.listed, scene.watched, scene.identity) = (false, false, None);
    let row = scene.instance(Phase::Starting, Environment::Requested);
    row.backend_identity = None;
    row.observe(&Observation::Removal { reason: Reason::Interrupted }, NOW).unwrap();
    assert!(row.is_cut_off() && row.occupies());
    let name = row.name.clone();
    let asks = Action::Remove { name: name.clone(), deregister: true, delete: false };
    assert_eq!(scene.plan().actions, [asks], "nothing is made in its place yet");
    let row = |scene: &mut Scene, observation: &Observation| {
        let row = scene.state.instances.get_mut(&name).unwrap();
        Arc::make_mut(row).observe(observation, NOW).unwrap();
        (row.phase, row.occupies())
    };
    let mut busy = Scene { state: scene.state.clone(), spec: scene.spec.clone(), ..Scene::new(1) };
    (busy.listed, busy.watched, busy.identity) = (false, false, None);
    assert_eq!(row(&mut busy, &Observation::Busy), (Phase::Running, true));
    assert_eq!(busy.created(), 0);
    assert!(!busy.state.instances.values().any(|row| row.is_cut_off()));
    row(&mut scene, &Observation::Deregistered);
    let deletes = Action::Remove { name: name.clone(), deregister: false, delete: true };
    assert_eq!(scene.plan().actions, [deletes, Action::Create { count: 1 }]);
    scene.spec.max_runners = 1;
    assert_eq!(scene.created(), 0, "it may still be there: it has its slot");
    assert_eq!(row(&mut scene, &Observation::EnvironmentGone), (Phase::Stopping, false));
    assert_eq!(scene.created(), 1);
}

/// 11.2: what another backend holds is left, unless an operator says that it will not answer again.
#[test]
fn force_reaches_what_another_backend_held() {
    let mut scene = Scene::new(0);
    let row = scene.instance(Phase::Stopping, Environment::Launched);
    row.registration = Registration::Gone;
    let name = row.name.clone();
    scene.identity = Some("another engine");
    assert_eq!(scene.plan().actions, []);
    for row in scene.state.instances.values_mut() {
        Arc::make_mut(row).forced = true;
    }
    let removal = Action::Remove { name, deregister: false, delete: true };
    assert_eq!(scene.plan().actions, [removal]);
}

#[test]
fn room_that_another_pool_waits_for_is_made_of_surplus_idle_runners_and_of_no_more() {
    let mut scene = Scene::new(0);
    scene.spec.min_idle = 1;
    for age in [3, 2, 1] {
        let row = scene.instance(Phase::Idle, Environment::Launched);
        row.phase_since = NOW - Span::seconds(age);
    }
    scene.instance(Phase::Running, Environment::Launched);
    let retired = |scene: &Scene| {
        let plan = scene.plan();
        let names = plan.actions.iter().filter_map(|action| {
            if let Action::Retire { name, reason: Reason::Surplus } = action {
                Some(name.as_str().to_owned())
            } else {
                None
            }
        });
        (names.collect::<Vec<_>>(), plan.sizing.surplus_idle)
    };
    assert_eq!(retired(&scene), (vec![], 3), "they have not waited long");
    scene.host_wants = 1;
    assert_eq!(retired(&scene).0, ["p-00000001"], "longest idle first");
    scene.host_wants = 9;
    assert_eq!(retired(&scene).0.len(), 3, "no more than is surplus");
    Arc::make_mut(&mut scene.state.pool).demand.session_lost();
    assert_eq!(retired(&scene), (vec![], 0), "of unknown demand nothing is surplus");
}

/// Taken for gone while another engine answered, and then its end is told of: its remains are there (seed 65291).
#[test]
fn what_ends_after_it_was_taken_for_gone_is_deleted() {
    use fleetfoot_core::{Exit, Observation, removal::removal_steps};
    let mut scene = Scene::new(1);
    let mut row = scene.instance(Phase::Running, Environment::Launched).clone();
    row.observe(&Observation::EnvironmentGone, NOW).unwrap();
    assert!(!removal_steps(&row).delete);
    row.observe(&Observation::Ended { exit: Exit::default() }, NOW).unwrap();
    assert!(removal_steps(&row).delete);
    row.observe(&Observation::EnvironmentGone, NOW).unwrap();
    row.observe(&Observation::Ended { exit: Exit::default() }, NOW).unwrap();
    assert!(!removal_steps(&row).delete, "an end that is told twice brings nothing back");
}

/// Where nobody may list, GitHub says that a runner is registered and not whether it is online (seed 81436).
#[test]
fn a_boot_that_nobody_could_see_counts_against_no_pool() {
    use fleetfoot_core::{Observation, pool::observe};
    for (told, failures) in [(Observation::StillRegistered, 0), (Observation::Jobless, 1)] {
        let mut scene = Scene::new(1);
        let mut row = scene.instance(Phase::Starting, Environment::Launched).clone();
        let pool = Arc::make_mut(&mut scene.state.pool);
        observe(pool, &mut row, &told, NOW).unwrap();
        observe(pool, &mut row, &Observation::Removal { reason: Reason::BootTimeout }, NOW)
            .unwrap();
        assert_eq!(pool.circuit.failures, failures, "{told:?}");
    }
}

/// A limit says nothing of a backend that does not answer; a person who insists afterwards does (seed 83207).
#[test]
fn an_operators_force_outweighs_a_limit() {
    use fleetfoot_core::Observation;
    for (first, told) in
        [(Reason::MaxJobDuration, Reason::OperatorForce), (Reason::JobDone, Reason::JobDone)]
    {
        let mut scene = Scene::new(1);
        let mut row = scene.instance(Phase::Running, Environment::Launched).clone();
        for reason in [first, Reason::OperatorForce] {
            row.observe(&Observation::Removal { reason }, NOW).unwrap();
        }
        assert_eq!((row.reason, row.forced), (Some(told), true));
    }
}
