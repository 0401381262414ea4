//! Environments that wait for their job: how many, which one a job takes, and when one goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetfoot_core::plan::next_launched;
use fleetfoot_core::pool::observe;
use fleetfoot_core::{
    Action, Environment, Exit, Instance, InstanceName, Intent, Observation, Phase, Plan, Pool,
    PoolName, PoolSpec, PoolState, Reason, Registration, RunnerId, ScaleSetId, Snapshot, Span,
    Statistics, Timestamp, plan,
};

const NOW: Timestamp = Timestamp(10_000_000);

struct Scene {
    state: PoolState,
    spec: PoolSpec,
    in_flight: BTreeSet<InstanceName>,
    late_binding: bool,
    jit_permits: u32,
    host_wants: u32,
}

impl Scene {
    fn new(assigned: u32, warm: u32) -> Self {
        let mut pool = Pool::new(PoolName::new("p").unwrap(), Timestamp(0));
        pool.scale_set_id = Some(ScaleSetId(1));
        pool.demand.session_opened(Statistics { assigned, ..Statistics::default() }, NOW);
        Self {
            state: PoolState::new(pool),
            spec: PoolSpec { max_runners: 4, warm, recipe: "r".into(), ..PoolSpec::default() },
            in_flight: BTreeSet::new(),
            late_binding: true,
            jit_permits: u32::MAX,
            host_wants: 0,
        }
    }

    /// One that came into `phase` so many seconds ago; made just now, so that no statistics are newer.
    fn instance(&mut self, phase: Phase, age: i64) -> &mut Instance {
        let number = u32::try_from(self.state.instances.len()).unwrap() + 1;
        let name = InstanceName::of_pool(&self.state.pool.name, number);
        let mut row = Instance::pending(name.clone(), self.state.pool.name.clone(), NOW);
        row.phase = phase;
        row.phase_since = NOW - Span::seconds(age);
        row.recipe = Some("r".into());
        row.scale_set_id = Some(ScaleSetId(1));
        row.environment = match phase {
            Phase::Pending => Environment::None,
            Phase::Creating => Environment::Requested,
            Phase::Warm => Environment::Present,
            _ => Environment::Launched,
        };
        self.state.instances.insert(name.clone(), Arc::new(row));
        Arc::make_mut(self.state.instances.get_mut(&name).unwrap())
    }

    fn plan(&self) -> Plan {
        let snapshot = Snapshot {
            late_binding: self.late_binding,
            backend_identity: Some("engine"),
            jit_permits: self.jit_permits,
            jit_until: (self.jit_permits == 0).then_some(NOW + Span::seconds(9)),
            host_wants: self.host_wants,
            ..Snapshot::unhindered(&self.state, &self.spec, &self.in_flight)
        };
        plan(&snapshot, NOW)
    }

    /// `create N`, `launch NUMBER`, `retire NUMBER REASON`.
    fn acts(&self) -> Vec<String> {
        let short = |name: &InstanceName| name.as_str().trim_start_matches("p-0000000").to_owned();
        let word = |action: &Action| match action {
            Action::Create { count } => format!("create {count}"),
            Action::Launch { name } => format!("launch {}", short(name)),
            Action::Retire { name, reason } => {
                format!("retire {} {}", short(name), reason.as_str())
            }
            other => format!("{other:?}"),
        };
        self.plan().actions.iter().map(word).collect()
    }
}

#[test]
fn a_floor_is_held_on_top_of_demand_within_the_limit() {
    let table = [
        // assigned, warm, min_idle, running, waiting; what is done
        (0, 2, 0, 0, 0, vec!["create 2"]),
        (0, 9, 0, 0, 0, vec!["create 4"]),
        (0, 2, 0, 0, 2, vec![]),
        // What takes its place is made when it is launched.
        (0, 2, 1, 0, 2, vec!["launch 1"]),
        (1, 2, 0, 0, 2, vec!["launch 1"]),
        (1, 2, 0, 1, 2, vec![]),
        (2, 2, 0, 1, 2, vec!["launch 2"]),
        (3, 2, 0, 3, 0, vec!["create 1"]),
        (4, 2, 0, 3, 1, vec!["launch 4"]),
        (9, 2, 0, 4, 0, vec![]),
        (3, 0, 0, 0, 1, vec!["launch 1", "create 2"]),
    ];
    for (assigned, warm, min_idle, running, waiting, wanted) in table {
        let mut scene = Scene::new(assigned, warm);
        scene.spec.min_idle = min_idle;
        for _ in 0..running {
            scene.instance(Phase::Running, 5);
        }
        for _ in 0..waiting {
            scene.instance(Phase::Warm, 5);
        }
        assert_eq!(scene.acts(), wanted, "{assigned} {warm} {min_idle} {running} {waiting}");
    }
}

#[test]
fn a_job_takes_the_one_that_waits_longest() {
    let mut scene = Scene::new(1, 3);
    for age in [10, 30, 20] {
        scene.instance(Phase::Warm, age);
    }
    assert_eq!(scene.acts(), ["launch 2"]);
    // Something is busy with it: the next.
    let second = scene.state.instances.keys().nth(1).unwrap().clone();
    scene.in_flight.insert(second);
    assert_eq!(scene.acts(), ["launch 3"]);
}

#[test]
fn who_is_launched_next_is_known_before_the_demand_is() {
    for jobs in 0..5 {
        let mut scene = Scene::new(u32::try_from(jobs).unwrap(), 4);
        scene.spec.max_runners = 8;
        for age in [10, 30, 20, 40] {
            scene.instance(Phase::Warm, age);
        }
        let third = scene.state.instances.keys().nth(2).unwrap().clone();
        scene.in_flight.insert(third);
        let launched: Vec<InstanceName> = scene
            .plan()
            .actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Launch { name } => Some(name),
                _ => None,
            })
            .collect();
        assert_eq!(launched.len(), jobs.min(3));
        assert_eq!(next_launched(&scene.state, &scene.in_flight, jobs), launched);
    }
}

#[test]
fn what_only_waits_is_made_when_no_launch_takes_place() {
    // How long ago it came into `Starting`, whether it is being launched; what is done, and when the next look is.
    let table = [
        (0, true, vec![], Some(1)),
        (0, false, vec!["create 1"], None),
        (1, true, vec!["create 1"], None),
    ];
    for (age, launching, wanted, wake) in table {
        let mut scene = Scene::new(1, 1);
        let row = scene.instance(Phase::Starting, age);
        row.registration = Registration::Registered(RunnerId(7));
        let name = row.name.clone();
        scene.in_flight.extend(launching.then_some(name));
        assert_eq!(scene.acts(), wanted, "{age} {launching}");
        let wake = wake.map(|seconds| NOW + Span::seconds(seconds));
        assert!(wake.is_none() || scene.plan().wake_at == wake, "{age} {launching}");
    }
    // What a job wants waits for none.
    let mut scene = Scene::new(2, 1);
    let name = scene.instance(Phase::Starting, 0).name.clone();
    scene.in_flight.insert(name);
    assert_eq!(scene.acts(), ["create 1"]);
}

#[test]
fn without_a_permit_none_is_launched_and_no_backend_in_one_step_has_any() {
    let mut scene = Scene::new(1, 1);
    scene.instance(Phase::Warm, 1);
    scene.jit_permits = 0;
    assert_eq!(scene.acts(), Vec::<String>::new());
    let mut scene = Scene::new(0, 2);
    scene.late_binding = false;
    assert_eq!(scene.acts(), Vec::<String>::new());
}

#[test]
fn one_goes_when_its_time_is_over_when_settings_change_and_with_its_pool() {
    let mut scene = Scene::new(0, 2);
    scene.instance(Phase::Warm, 3600);
    scene.instance(Phase::Warm, 1).recipe = Some("old".into());
    assert_eq!(scene.acts(), ["retire 1 warm expired", "retire 2 outdated"]);
    // A row of before says nothing of what it was made from.
    let mut scene = Scene::new(0, 1);
    scene.instance(Phase::Warm, 1).recipe = None;
    assert_eq!(scene.acts(), Vec::<String>::new());
    // An outdated one serves no job.
    let mut scene = Scene::new(1, 0);
    scene.instance(Phase::Warm, 1).recipe = Some("old".into());
    assert_eq!(scene.acts(), ["retire 1 outdated"]);
    let mut scene = Scene::new(0, 1);
    scene.instance(Phase::Warm, 1);
    Arc::make_mut(&mut scene.state.pool).intent = Intent::Draining;
    assert_eq!(scene.acts(), ["retire 1 drained"]);
}

#[test]
fn too_many_go_at_once_beyond_the_limit_and_else_in_their_time() {
    let mut scene = Scene::new(0, 1);
    for age in [9, 8, 7] {
        scene.instance(Phase::Warm, age);
    }
    let plan = scene.plan();
    assert_eq!(plan.actions, [], "statistics are older than they");
    let soonest = NOW - Span::seconds(9) + scene.spec.idle_timeout;
    assert!(plan.wake_at.is_some_and(|at| at <= soonest + Span::seconds(2)));
    scene.spec.max_runners = 2;
    assert_eq!(scene.acts(), ["retire 1 withdrawn", "retire 2 withdrawn"]);
    scene.spec.max_runners = 4;
    for row in scene.state.instances.values_mut() {
        Arc::make_mut(row).created_at = NOW - Span::seconds(10);
    }
    assert_eq!(scene.acts(), ["retire 1 withdrawn", "retire 2 withdrawn"]);
}

#[test]
fn their_room_is_another_pools_for_the_asking_before_any_idle_runners() {
    let mut scene = Scene::new(0, 2);
    scene.instance(Phase::Idle, 5);
    for age in [4, 3] {
        scene.instance(Phase::Warm, age);
    }
    assert_eq!(scene.plan().sizing.surplus_idle, 3);
    scene.host_wants = 1;
    assert_eq!(scene.acts(), ["retire 2 withdrawn"]);
    scene.host_wants = 3;
    assert_eq!(scene.acts(), ["retire 2 withdrawn", "retire 3 withdrawn", "retire 1 surplus"]);
    // One that a job wants is not to be had.
    let mut scene = Scene::new(1, 2);
    scene.instance(Phase::Warm, 4);
    scene.host_wants = 1;
    assert_eq!(scene.plan().sizing.surplus_idle, 0);
    assert_eq!(scene.acts()[0], "launch 1");
}

#[test]
fn one_that_dies_counts_for_the_circuit_and_what_only_waits_does_not_hold_it_half_open() {
    let mut scene = Scene::new(0, 2);
    for ended in [true, false, true] {
        let mut row = scene.instance(Phase::Warm, 1).clone();
        let seen = if ended {
            Observation::Ended { exit: Exit::default() }
        } else {
            Observation::EnvironmentGone
        };
        observe(Arc::make_mut(&mut scene.state.pool), &mut row, &seen, NOW).unwrap();
        assert_eq!(row.phase, Phase::Stopping);
    }
    scene.state.instances.clear();
    let circuit = scene.state.pool.circuit.clone();
    assert!(circuit.is_open(NOW) && circuit.failures == 3);
    assert_eq!(scene.acts(), Vec::<String>::new());
    Arc::make_mut(&mut scene.state.pool).circuit.open_until = Some(NOW);
    assert_eq!(scene.acts(), ["create 1"], "half open, one is tried");
    scene.instance(Phase::Warm, 1);
    assert_eq!(scene.acts(), ["create 1"], "it could be made, so the next is tried");
    // One that was being removed did not fail.
    let mut pool = Pool::clone(&scene.state.pool);
    pool.circuit = fleetfoot_core::Circuit::default();
    let mut row = scene.instance(Phase::Warm, 1).clone();
    let removal = Observation::Removal { reason: Reason::Drained };
    for seen in [removal, Observation::EnvironmentGone] {
        observe(&mut pool, &mut row, &seen, NOW).unwrap();
    }
    assert_eq!(pool.circuit.failures, 0);
}

#[test]
fn nothing_is_made_or_launched_of_unknown_demand() {
    let mut scene = Scene::new(1, 2);
    scene.instance(Phase::Warm, 1);
    Arc::make_mut(&mut scene.state.pool).demand.session_lost();
    assert_eq!(scene.acts(), Vec::<String>::new());
}
