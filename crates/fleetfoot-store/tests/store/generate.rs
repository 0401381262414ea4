//! Instances, pools and jobs with every field drawn.

use std::collections::BTreeMap;

use fleetfoot_core::{
    Circuit, Demand, Environment, Exit, FailureKind, Instance, InstanceName, Intent, Job, JobId,
    JobState, Outcome, Phase, Pool, PoolName, Reason, Registration, RunnerId, ScaleSetId,
    Statistics, Timestamp,
};
use proptest::prelude::*;

pub(crate) const FAILURES: [FailureKind; 8] = [
    FailureKind::Create,
    FailureKind::Launch,
    FailureKind::EarlyExit,
    FailureKind::BootTimeout,
    FailureKind::CreateTimeout,
    FailureKind::StartTimeout,
    FailureKind::Backend,
    FailureKind::Github,
];

pub(crate) const ENVIRONMENTS: [Environment; 6] = [
    Environment::None,
    Environment::Requested,
    Environment::Present,
    Environment::Launched,
    Environment::Ended,
    Environment::Gone,
];

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn maybe_time() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of(time())
}

/// Any text: quotes, line ends, other scripts, the character 0.
fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..12).prop_map(|chars| chars.into_iter().collect())
}

/// What has a column of its own cannot hold the character 0.
fn column_text() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\0', ""))
}

fn maybe_text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(text())
}

fn name() -> impl Strategy<Value = InstanceName> {
    "[A-Za-z0-9][A-Za-z0-9_.-]{0,40}".prop_map(|text| InstanceName::new(&text).unwrap())
}

fn job_id() -> impl Strategy<Value = JobId> {
    column_text().prop_map(|text| JobId::new(&text))
}

fn reason() -> impl Strategy<Value = Reason> {
    proptest::sample::select(Reason::ALL.to_vec())
}

fn failure() -> impl Strategy<Value = (FailureKind, String)> {
    (proptest::sample::select(FAILURES.to_vec()), text())
}

fn registration() -> impl Strategy<Value = Registration> {
    prop_oneof![
        Just(Registration::None),
        Just(Registration::Requested),
        any::<i64>().prop_map(|id| Registration::Registered(RunnerId(id))),
        Just(Registration::Gone),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        maybe_text().prop_map(|result| Outcome::Completed { result }),
        failure().prop_map(|(kind, detail)| Outcome::Failed { kind, detail }),
        text().prop_map(|detail| Outcome::Lost { detail }),
        reason().prop_map(Outcome::Removed),
        Just(Outcome::HostRebooted),
        Just(Outcome::RegistrationUnverified),
    ]
}

fn exit() -> impl Strategy<Value = Exit> {
    (any::<Option<i32>>(), any::<bool>(), maybe_text())
        .prop_map(|(code, out_of_memory, message)| Exit { code, out_of_memory, message })
}

/// An instance of `pool`, with every field drawn.
pub(crate) fn instance(pool: PoolName) -> impl Strategy<Value = Instance> {
    let identity = (
        name(),
        proptest::sample::select(Phase::ALL.to_vec()),
        registration(),
        proptest::sample::select(ENVIRONMENTS.to_vec()),
        any::<Option<i64>>(),
        any::<Option<i64>>(),
        (maybe_text(), maybe_text(), maybe_text(), maybe_text()),
    );
    let job = (
        proptest::option::of(job_id()),
        maybe_time(),
        maybe_time(),
        proptest::option::of(column_text()),
        any::<bool>(),
    );
    let end = (
        proptest::option::of(exit()),
        proptest::option::of(reason()),
        proptest::option::of(failure()),
        any::<bool>(),
        proptest::option::of(outcome()),
    );
    let steps = (
        maybe_time(),
        any::<u32>(),
        maybe_time(),
        maybe_time(),
        any::<u32>(),
        maybe_time(),
        maybe_text(),
    );
    let times = (time(), time(), maybe_time());
    (identity, job, end, steps, times).prop_map(move |(identity, job, end, steps, times)| {
        let (name, phase, registration, environment, runner, scale_set, handles) = identity;
        Instance {
            name,
            pool: pool.clone(),
            phase,
            registration,
            environment,
            runner_id: runner.map(RunnerId),
            scale_set_id: scale_set.map(ScaleSetId),
            handle: handles.0,
            backend_identity: handles.1,
            boot_id: handles.2,
            recipe: handles.3,
            job: job.0,
            job_started_at: job.1,
            job_completed_at: job.2,
            job_result: job.3,
            job_proven: job.4,
            exit: end.0,
            reason: end.1,
            failure: end.2,
            forced: end.3,
            outcome: end.4,
            unanswered_since: steps.0,
            clear_lists: steps.1,
            last_clear_list_at: steps.2,
            last_call_at: steps.3,
            attempts: steps.4,
            retry_at: steps.5,
            last_error: steps.6,
            created_at: times.0,
            phase_since: times.1,
            verified_at: times.2,
        }
    })
}

fn demand() -> impl Strategy<Value = Demand> {
    let spent = proptest::collection::btree_map(name(), time(), 0..4);
    let finished =
        proptest::collection::btree_map(text().prop_map(|id| JobId::new(&id)), time(), 0..4);
    let times = (time(), time(), any::<Option<u32>>());
    (any::<bool>(), any::<[u32; 7]>(), times, any::<Option<i64>>(), spent, finished).prop_map(
        |(
            known,
            counts,
            (stated_at, opened_at, before_session),
            last_message_id,
            spent,
            finished,
        )| {
            let [available, acquired, assigned, running, registered, busy, idle] = counts;
            let statistics =
                Statistics { available, acquired, assigned, running, registered, busy, idle };
            Demand {
                known,
                statistics,
                stated_at,
                opened_at,
                before_session,
                last_message_id,
                spent,
                finished: finished.into(),
            }
        },
    )
}

/// A pool of that name, with every field drawn.
pub(crate) fn pool(name: PoolName) -> impl Strategy<Value = Pool> {
    let intents = vec![Intent::Active, Intent::Draining, Intent::Removed];
    let texts = (text(), text(), maybe_text(), text(), text());
    let circuit = (any::<u32>(), maybe_time(), any::<u32>(), text());
    let numbers = (any::<Option<i64>>(), any::<i64>());
    (proptest::sample::select(intents), texts, numbers, demand(), circuit, time()).prop_map(
        move |(intent, texts, (scale_set, last_name), demand, circuit, created_at)| Pool {
            name: name.clone(),
            intent,
            config_url: texts.0,
            runner_group: texts.1,
            scale_set_id: scale_set.map(ScaleSetId),
            scale_set_is_ours: last_name % 2 == 0,
            session_id: texts.2,
            credential_reference: texts.3,
            backend_connection: texts.4,
            demand,
            circuit: Circuit {
                failures: circuit.0,
                open_until: circuit.1,
                allowance: circuit.2,
                last_failure: circuit.3,
            },
            last_name,
            created_at,
        },
    )
}

/// A job with every field drawn.
pub(crate) fn job() -> impl Strategy<Value = Job> {
    let state = prop_oneof![
        Just(JobState::Assigned),
        proptest::option::of(name()).prop_map(|instance| JobState::Started { instance }),
    ];
    let texts = (text(), text(), text());
    (job_id(), state, texts, any::<i64>(), maybe_time(), time(), maybe_time()).prop_map(
        |(id, state, texts, run_id, queued_at, seen_at, started_at)| Job {
            id,
            state,
            repository: texts.0,
            workflow: texts.1,
            display_name: texts.2,
            run_id,
            queued_at,
            seen_at,
            started_at,
        },
    )
}

/// The jobs by their ids.
pub(crate) fn jobs() -> impl Strategy<Value = BTreeMap<JobId, Job>> {
    proptest::collection::vec(job(), 0..4)
        .prop_map(|jobs| jobs.into_iter().map(|job| (job.id.clone(), job)).collect())
}
