//! What holds of every plan, whatever happened before: a small world of random facts around one pool.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetfoot_core::pool::observe;
use fleetfoot_core::{
    Action, Environment, Exit, Instance, InstanceName, Intent, Job, JobId, JobState, Observation,
    Phase, Plan, Pool, PoolName, PoolSpec, PoolState, Reason, Registration, RunnerId, ScaleSetId,
    Snapshot, Span, Statistics, Timestamp, plan,
};
use proptest::prelude::*;

/// The pool and its surroundings, acted on the way the controller acts.
struct World {
    state: PoolState,
    spec: PoolSpec,
    now: Timestamp,
    names: u32,
    late_binding: bool,
}

impl World {
    fn new(spec: PoolSpec, late_binding: bool) -> Self {
        let mut pool = Pool::new(PoolName::new("p").unwrap(), Timestamp(0));
        pool.scale_set_id = Some(ScaleSetId(1));
        Self {
            state: PoolState::new(pool),
            spec,
            now: Timestamp(1_000_000),
            names: 0,
            late_binding,
        }
    }

    fn plan(&self) -> Plan {
        let in_flight = BTreeSet::new();
        let snapshot = Snapshot {
            late_binding: self.late_binding,
            backend_identity: Some("engine"),
            ..Snapshot::unhindered(&self.state, &self.spec, &in_flight)
        };
        plan(&snapshot, self.now)
    }

    fn see(&mut self, name: &InstanceName, observation: &Observation) -> bool {
        let Some(instance) = self.state.instances.get(name) else { return false };
        let mut instance = Instance::clone(instance);
        let taken =
            observe(Arc::make_mut(&mut self.state.pool), &mut instance, observation, self.now)
                .is_ok();
        if instance.phase == Phase::Closed {
            self.state.instances.remove(name);
        } else {
            self.state.instances.insert(name.clone(), Arc::new(instance));
        }
        taken
    }

    /// Executes the plan the way the executor does when every call succeeds.
    fn act(&mut self, plan: Plan) {
        for action in plan.actions {
            match action {
                Action::Create { count } => {
                    for _ in 0..count {
                        self.names += 1;
                        let name = InstanceName::of_pool(&self.state.pool.name, self.names);
                        let mut row =
                            Instance::pending(name.clone(), self.state.pool.name.clone(), self.now);
                        row.recipe = Some(self.spec.recipe.clone());
                        self.state.instances.insert(name.clone(), Arc::new(row));
                        self.begin(&name);
                    }
                }
                Action::Begin { name } => self.begin(&name),
                Action::Launch { name } => self.register_and_launch(&name),
                Action::Retire { name, reason } => {
                    self.see(&name, &Observation::Removal { reason });
                }
                Action::Remove { name, deregister, delete } => {
                    if deregister {
                        self.see(&name, &Observation::Deregistered);
                    }
                    if delete {
                        self.see(&name, &Observation::EnvironmentGone);
                    }
                }
                Action::Close { name, outcome } => {
                    self.see(&name, &Observation::Closed { outcome });
                }
                Action::Verify { name } => {
                    self.see(&name, &self.looked_up(&name));
                }
            }
        }
    }

    /// What GitHub says of a runner of which nobody told that it has a job.
    fn looked_up(&self, name: &InstanceName) -> Observation {
        let row = &self.state.instances[name];
        match row.registration {
            Registration::Registered(_) if row.had_job() => Observation::StillRegistered,
            Registration::Registered(_) => Observation::Jobless,
            Registration::None | Registration::Requested | Registration::Gone => {
                Observation::Registered { runner: RunnerId(1) }
            }
        }
    }

    fn begin(&mut self, name: &InstanceName) {
        if self.late_binding {
            self.see(name, &Observation::CreateBegun);
            self.see(name, &Observation::Created { handle: "h".into() });
        } else {
            self.register_and_launch(name);
        }
    }

    fn register_and_launch(&mut self, name: &InstanceName) {
        let id = RunnerId(i64::from(self.names));
        self.see(name, &Observation::StartBegun { scale_set: ScaleSetId(1) });
        self.see(name, &Observation::Registered { runner: id });
        self.see(name, &Observation::LaunchBegun);
        self.see(name, &Observation::Launched { handle: Some("h".into()) });
    }

    fn occupying(&self) -> u32 {
        self.state.occupying()
    }

    fn pick(&self, seed: usize) -> Option<InstanceName> {
        let count = self.state.instances.len();
        (count > 0).then(|| self.state.instances.keys().nth(seed % count).unwrap().clone())
    }
}

/// Something that happens outside.
#[derive(Debug, Clone)]
enum Fact {
    Level(u32),
    SessionLost,
    Assigned(u8),
    Pass(u32),
    Online(usize),
    Started(usize, u8),
    Completed(usize, u8),
    Ended(usize),
    Gone(usize),
    RunnerGone(usize),
    Busy(usize),
    Failed(usize),
    Operator(usize, bool),
    Drain(bool),
    Limit(u32),
    Floor(u32),
    Recipe(u8),
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        4 => (0u32..8).prop_map(Fact::Level),
        1 => Just(Fact::SessionLost),
        2 => any::<u8>().prop_map(Fact::Assigned),
        4 => (1u32..400_000).prop_map(Fact::Pass),
        4 => any::<usize>().prop_map(Fact::Online),
        4 => (any::<usize>(), any::<u8>()).prop_map(|(n, j)| Fact::Started(n, j)),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(n, j)| Fact::Completed(n, j)),
        3 => any::<usize>().prop_map(Fact::Ended),
        1 => any::<usize>().prop_map(Fact::Gone),
        1 => any::<usize>().prop_map(Fact::RunnerGone),
        2 => any::<usize>().prop_map(Fact::Busy),
        1 => any::<usize>().prop_map(Fact::Failed),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, f)| Fact::Operator(n, f)),
        1 => any::<bool>().prop_map(Fact::Drain),
        1 => (0u32..6).prop_map(Fact::Limit),
        1 => (0u32..4).prop_map(Fact::Floor),
        1 => (0u8..3).prop_map(Fact::Recipe),
    ]
}

fn happen(world: &mut World, fact: &Fact) {
    let now = world.now;
    let (seed, observation) = match fact {
        Fact::Level(assigned) => {
            let pool = Arc::make_mut(&mut world.state.pool);
            let statistics = Statistics { assigned: *assigned, ..Statistics::default() };
            if pool.demand.known {
                pool.demand.state(statistics, now);
            } else {
                pool.demand.session_opened(statistics, now);
            }
            return;
        }
        Fact::SessionLost => return Arc::make_mut(&mut world.state.pool).demand.session_lost(),
        Fact::Assigned(job) => {
            let id = JobId::new(&job.to_string());
            let row = Job {
                id: id.clone(),
                state: JobState::Assigned,
                repository: String::new(),
                workflow: String::new(),
                display_name: String::new(),
                run_id: 0,
                queued_at: None,
                seen_at: now,
                started_at: None,
            };
            world.state.jobs.entry(id).or_insert(Arc::new(row));
            return;
        }
        Fact::Pass(ms) => {
            world.now = now + Span(i64::from(*ms));
            return;
        }
        Fact::Drain(drain) => {
            let intent = if *drain { Intent::Draining } else { Intent::Active };
            Arc::make_mut(&mut world.state.pool).intent = intent;
            return;
        }
        // A limit may be lowered below what runs; then only nothing new may be made.
        Fact::Limit(limit) => {
            world.spec.max_runners = *limit;
            return;
        }
        Fact::Floor(warm) => {
            world.spec.warm = *warm;
            return;
        }
        Fact::Recipe(recipe) => {
            world.spec.recipe = recipe.to_string();
            return;
        }
        Fact::Online(n) => (*n, Observation::Online),
        Fact::Started(n, job) => {
            (*n, Observation::JobStarted { job: JobId::new(&job.to_string()) })
        }
        Fact::Completed(n, job) => {
            let id = JobId::new(&job.to_string());
            world.state.jobs.remove(&id);
            (*n, Observation::JobCompleted { job: Some(id), result: Some("succeeded".into()) })
        }
        Fact::Ended(n) => (*n, Observation::Ended { exit: Exit::default() }),
        Fact::Gone(n) => (*n, Observation::EnvironmentGone),
        Fact::RunnerGone(n) => (*n, Observation::RunnerGone),
        Fact::Busy(n) => (*n, Observation::Busy),
        Fact::Failed(n) => {
            let kind = fleetfoot_core::FailureKind::Create;
            (*n, Observation::Failed { kind, detail: "x".into() })
        }
        Fact::Operator(n, force) => {
            let reason = if *force { Reason::OperatorForce } else { Reason::Operator };
            (*n, Observation::Removal { reason })
        }
    };
    if let Some(name) = world.pick(seed) {
        world.see(&name, &observation);
    }
}

fn may_be_retired_running(instance: &Instance, reason: Reason) -> bool {
    reason.opens_gate() || (reason == Reason::JobDone && instance.job_completed_at.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_any_history(
        facts in prop::collection::vec(fact(), 1..120),
        limit in 0u32..6,
        min_idle in 0u32..3,
        warm in 0u32..4,
        late_binding in any::<bool>(),
    ) {
        let spec = PoolSpec { max_runners: limit, min_idle, warm, ..PoolSpec::default() };
        let mut world = World::new(spec, late_binding);
        for fact in &facts {
            let before = world.occupying();
            happen(&mut world, fact);
            let plan = world.plan();
            for action in &plan.actions {
                match action {
                    // Unknown demand creates nothing and removes no idle runner for being surplus.
                    Action::Create { count } => {
                        prop_assert!(world.state.pool.demand.known);
                        prop_assert!(world.occupying() + count <= world.spec.max_runners.max(before));
                        prop_assert!(world.occupying() + count <= world.spec.max_runners);
                        prop_assert_eq!(world.state.pool.intent, Intent::Active);
                    }
                    Action::Retire { name, reason } => {
                        let instance = &world.state.instances[name];
                        if instance.phase == Phase::Running {
                            prop_assert!(may_be_retired_running(instance, *reason));
                        }
                        if *reason == Reason::Surplus {
                            prop_assert!(world.state.pool.demand.known);
                        }
                    }
                    // Nothing that may live is deleted before GitHub consented.
                    Action::Remove { name, delete, .. } => {
                        let instance = &world.state.instances[name];
                        prop_assert_eq!(instance.phase, Phase::Stopping);
                        if *delete && instance.may_live() && !instance.forced {
                            prop_assert!(matches!(instance.registration, Registration::None | Registration::Gone));
                        }
                    }
                    Action::Close { name, .. } => {
                        let instance = &world.state.instances[name];
                        prop_assert!(matches!(instance.environment, Environment::None | Environment::Gone));
                        prop_assert!(matches!(instance.registration, Registration::None | Registration::Gone));
                    }
                    // A JIT config is asked for only by what a job or `min_idle` wants.
                    Action::Launch { name } => {
                        let instance = &world.state.instances[name];
                        prop_assert!(instance.phase == Phase::Warm && world.state.pool.demand.known);
                        prop_assert!(plan.sizing.needed() > 0);
                        let recipe = instance.recipe.as_deref();
                        prop_assert!(world.spec.recipe.is_empty() || recipe == Some(&world.spec.recipe));
                    }
                    Action::Begin { .. } | Action::Verify { .. } => {}
                }
            }
            let launches = plan.actions.iter().filter(|action| matches!(action, Action::Launch { .. })).count();
            prop_assert!(launches <= plan.sizing.needed() as usize);
            // One action for one instance: no two that contradict each other.
            let named: Vec<&InstanceName> = plan.actions.iter().filter_map(|action| match action {
                Action::Create { .. } => None,
                Action::Begin { name } | Action::Launch { name } | Action::Retire { name, .. }
                | Action::Remove { name, .. } | Action::Close { name, .. } | Action::Verify { name } => Some(name),
            }).collect();
            let distinct: BTreeSet<&InstanceName> = named.iter().copied().collect();
            prop_assert_eq!(named.len(), distinct.len(), "{:?}", plan.actions);
            world.act(plan);
        }
    }

    #[test]
    fn a_plan_converges_and_its_repetition_is_empty(
        facts in prop::collection::vec(fact(), 1..80),
        limit in 0u32..6,
        warm in 0u32..4,
        late_binding in any::<bool>(),
    ) {
        let spec = PoolSpec { max_runners: limit, warm, ..PoolSpec::default() };
        let mut world = World::new(spec, late_binding);
        for fact in &facts {
            happen(&mut world, fact);
            let plan = world.plan();
            world.act(plan);
        }
        let mut left = 12;
        loop {
            let plan = world.plan();
            if plan.actions.is_empty() {
                break;
            }
            prop_assert!(left > 0, "still planning {:?}", plan.actions);
            left -= 1;
            world.act(plan);
        }
        prop_assert!(world.plan().actions.is_empty());
    }

    /// Every phase has a way out: with the world silent and GitHub's level at nothing, everything that does
    /// not run a job is gone after its time, also what was called busy and has none; and what runs ends when its job is
    /// said to be done.
    #[test]
    fn every_phase_has_a_way_out(
        facts in prop::collection::vec(fact(), 1..80),
        warm in 0u32..4,
        late_binding in any::<bool>(),
    ) {
        let spec = PoolSpec { max_runners: 5, warm, ..PoolSpec::default() };
        let mut world = World::new(spec, late_binding);
        for fact in &facts {
            happen(&mut world, fact);
            let plan = world.plan();
            world.act(plan);
        }
        Arc::make_mut(&mut world.state.pool).intent = Intent::Active;
        world.state.jobs.clear();
        (world.spec.min_idle, world.spec.warm) = (0, 0);
        happen(&mut world, &Fact::SessionLost);
        happen(&mut world, &Fact::Level(0));
        let running: Vec<InstanceName> = world.state.instances.values()
            .filter(|instance| instance.phase == Phase::Running && instance.had_job()).map(|instance| instance.name.clone()).collect();
        for name in &running {
            world.see(name, &Observation::JobCompleted { job: None, result: None });
        }
        for _ in 0..400 {
            let plan = world.plan();
            world.now = if plan.actions.is_empty() {
                plan.wake_at.map_or(world.now + Span::minutes(1), |at| at.max(world.now + Span(1)))
            } else {
                world.now + Span::seconds(1)
            };
            world.act(plan);
            happen(&mut world, &Fact::Level(0));
        }
        prop_assert!(world.state.instances.is_empty(), "left {:?}", world.state.instances.values().next());
    }
}
