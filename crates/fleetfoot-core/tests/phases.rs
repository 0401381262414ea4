//! Every pair of phase and observation by name: what it leads to, or that it is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use fleetfoot_core::{
    Exit, FailureKind, JobId, Observation, Outcome, Phase, Reason, RunnerId, ScaleSetId, apply,
};

/// One column per phase; `-` = refused, otherwise the first letter of the next phase (`I` idle, `G` starting,
/// `S` stopping, `X` closed).
const TABLE: &str = "
                    pending creating warm starting idle running stopping closed
create begun        C       -        -    -        -    -       -        -
created             -       W        -    -        -    -       S        -
start begun         G       -        G    -        -    -       -        -
registered          -       -        -    G        -    R       S        -
launch begun        -       -        -    G        -    -       -        -
launched            -       -        -    G        I    R       S        -
online              -       -        -    I        I    R       S        -
job started         -       -        -    R        R    R       S        -
job completed       -       -        -    R        R    R       S        -
ended               -       S        S    S        S    S       S        -
environment gone    -       S        S    S        S    S       S        -
deregistered        -       -        -    -        -    -       S        -
runner gone         -       -        -    S        S    S       S        -
busy                -       -        -    R        R    R       R        -
still registered    -       -        -    G        I    R       S        -
jobless             -       -        -    G        I    R       S        -
failed              S       S        S    S        I    R       S        -
unanswered          S       S        S    S        I    R       S        -
removal:withdrawn   S       S        S    S        S    -       S        -
removal:surplus     S       S        S    S        S    -       S        -
removal:operator    S       S        S    S        S    -       S        -
removal:drained     S       S        S    S        S    -       S        -
removal:job-done    S       S        S    S        S    S       S        -
removal:force       S       S        S    S        S    S       S        -
removal:max         S       S        S    S        S    S       S        -
closed              -       -        -    -        -    -       X        -
";

fn observation(name: &str) -> Observation {
    let detail = || "x".to_owned();
    match name {
        "create begun" => Observation::CreateBegun,
        "created" => Observation::Created { handle: detail() },
        "start begun" => Observation::StartBegun { scale_set: ScaleSetId(1) },
        "registered" => Observation::Registered { runner: RunnerId(1) },
        "launch begun" => Observation::LaunchBegun,
        "launched" => Observation::Launched { handle: None },
        "online" => Observation::Online,
        "job started" => Observation::JobStarted { job: JobId::new("j") },
        "job completed" => Observation::JobCompleted { job: None, result: None },
        "ended" => Observation::Ended { exit: Exit::default() },
        "environment gone" => Observation::EnvironmentGone,
        "deregistered" => Observation::Deregistered,
        "runner gone" => Observation::RunnerGone,
        "busy" => Observation::Busy,
        "still registered" => Observation::StillRegistered,
        "jobless" => Observation::Jobless,
        "failed" => Observation::Failed { kind: FailureKind::Create, detail: detail() },
        "unanswered" => Observation::Unanswered { kind: FailureKind::Backend, detail: detail() },
        "removal:withdrawn" => Observation::Removal { reason: Reason::Withdrawn },
        "removal:surplus" => Observation::Removal { reason: Reason::Surplus },
        "removal:operator" => Observation::Removal { reason: Reason::Operator },
        "removal:drained" => Observation::Removal { reason: Reason::Drained },
        "removal:job-done" => Observation::Removal { reason: Reason::JobDone },
        "removal:force" => Observation::Removal { reason: Reason::OperatorForce },
        "removal:max" => Observation::Removal { reason: Reason::MaxJobDuration },
        "closed" => Observation::Closed { outcome: Outcome::HostRebooted },
        other => panic!("no observation is called `{other}`"),
    }
}

fn letter(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "P",
        Phase::Creating => "C",
        Phase::Warm => "W",
        Phase::Starting => "G",
        Phase::Idle => "I",
        Phase::Running => "R",
        Phase::Stopping => "S",
        Phase::Closed => "X",
    }
}

#[test]
fn every_pair_leads_where_the_table_says() {
    let mut pairs = 0;
    for line in TABLE.lines().filter(|line| !line.trim().is_empty()).skip(1) {
        let (name, cells) = line.split_at(20);
        let observation = observation(name.trim());
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), Phase::ALL.len(), "{name}");
        for (phase, wanted) in Phase::ALL.into_iter().zip(cells) {
            let got = apply(phase, &observation).map_or("-", letter);
            assert_eq!(got, wanted, "{} in {}", name.trim(), phase.as_str());
            pairs += 1;
        }
    }
    assert_eq!(pairs, 26 * 8);
}

#[test]
fn a_refusal_names_the_pair() {
    let refused =
        apply(Phase::Running, &Observation::Removal { reason: Reason::Surplus }).unwrap_err();
    assert_eq!(refused.to_string(), "`removal` is refused for an instance in phase `running`");
}

#[test]
fn words_lead_back_to_their_values() {
    for phase in Phase::ALL {
        assert_eq!(Phase::from_name(phase.as_str()), Some(phase));
    }
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.as_str()), Some(reason));
    }
    assert_eq!(Phase::from_name("x"), None);
}

#[test]
fn the_original_programs_words() {
    let words: Vec<&str> = Phase::ALL.into_iter().map(Phase::outrunner_word).collect();
    assert_eq!(
        words,
        [
            "provisioning",
            "provisioning",
            "provisioning",
            "provisioning",
            "idle",
            "running",
            "stopping",
            "stopping"
        ]
    );
}
