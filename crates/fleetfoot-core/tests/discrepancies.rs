//! What GitHub, a backend and the store say of one name × what of it does not fit together: every kind once at least.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use fleetfoot_core::discrepancy::{Facts, Machine, Row, Runner};
use fleetfoot_core::{
    Discrepancy, Environment, FailureKind, Instance, InstanceName, Phase, PoolName, PoolSpec,
    Registration, RunnerId, ScaleSetId, Span, Timestamp,
};

const NOW: Timestamp = Timestamp(10_000_000);
const SETTLE: Span = Span::seconds(30);

/// `PHASE ENVIRONMENT REGISTRATION [marks…]`; marks: `unanswered`, `clear` (two clear lists), `failed`,
/// `young`, `half` (of the boot timeout), `done`, `proven`, `set=N`.
fn row(words: &str) -> Instance {
    let mut words = words.split_whitespace();
    let pool = PoolName::new("p").unwrap();
    let mut row = Instance::pending(InstanceName::of_pool(&pool, 1), pool, Timestamp(0));
    row.phase = Phase::from_name(words.next().unwrap()).unwrap();
    row.environment = match words.next().unwrap() {
        "none" => Environment::None,
        "requested" => Environment::Requested,
        "present" => Environment::Present,
        "launched" => Environment::Launched,
        "ended" => Environment::Ended,
        "gone" => Environment::Gone,
        other => panic!("{other}"),
    };
    row.registration = match words.next().unwrap() {
        "none" => Registration::None,
        "requested" => Registration::Requested,
        "registered" => Registration::Registered(RunnerId(1)),
        "gone" => Registration::Gone,
        other => panic!("{other}"),
    };
    row.scale_set_id = Some(ScaleSetId(1));
    row.phase_since = NOW - Span::minutes(1);
    for word in words {
        match word {
            "unanswered" => row.unanswered_since = Some(Timestamp(500)),
            "clear" => row.clear_lists = 2,
            "failed" => row.failure = Some((FailureKind::Create, "x".into())),
            "young" => row.phase_since = NOW - Span::seconds(1),
            "half" => row.phase_since = NOW - PoolSpec::default().boot_timeout.half(),
            "done" => row.job_completed_at = Some(NOW - Span::minutes(1)),
            "proven" => row.job_proven = true,
            "set=2" => row.scale_set_id = Some(ScaleSetId(2)),
            other => panic!("{other}"),
        }
    }
    row
}

fn machine(word: &str) -> Machine {
    match word {
        "?" => Machine::Unasked,
        "-" => Machine::Absent,
        "made" => Machine::Made,
        "runs" => Machine::Runs,
        "ended" => Machine::Ended,
        "elsewhere" => Machine::Elsewhere,
        "anothers" => Machine::Anothers,
        other => panic!("{other}"),
    }
}

fn runner(word: &str) -> Runner {
    match word {
        "?" => Runner::Unasked,
        "-" => Runner::Absent,
        "offline" => Runner::Offline,
        "online" => Runner::Online,
        "busy" => Runner::Busy,
        other => panic!("{other}"),
    }
}

/// The row's words (`-` for none, `closed`, `unserved` before a row of a pool nobody serves), backend, GitHub.
fn said(words: &str, backend: &str, github: &str) -> Vec<&'static str> {
    let spec = PoolSpec::default();
    let (words, spec) = match words.strip_prefix("unserved ") {
        Some(words) => (words, None),
        None => (words, Some(&spec)),
    };
    let live;
    let row = match words {
        "-" => Row::None,
        "closed" => Row::Closed,
        words => {
            live = row(words);
            Row::Live(&live)
        }
    };
    let (machine, runner) = (machine(backend), runner(github));
    let scale_set = Some(ScaleSetId(1));
    let facts = Facts { row, machine, runner, scale_set, spec, settle: SETTLE };
    facts.disagreements(NOW).into_iter().map(Discrepancy::as_str).collect()
}

#[test]
fn every_disagreement_is_seen_and_agreement_is_none() {
    let table: &[(&str, &str, &str, &[&str])] = &[
        // row, backend, GitHub, what does not fit
        ("idle launched registered", "runs", "online", &[]),
        ("running launched registered", "runs", "busy", &[]),
        ("starting launched registered young", "runs", "offline", &[]),
        ("stopping ended registered young", "ended", "?", &[]),
        ("pending none none", "-", "-", &[]),
        ("creating requested none", "?", "?", &[]),
        ("-", "-", "online", &[]),
        ("-", "?", "busy", &[]),
        ("closed", "-", "-", &[]),
        // Things without a row.
        ("-", "runs", "?", &["machine_without_row"]),
        ("closed", "ended", "?", &["machine_without_row"]),
        ("closed", "runs", "busy", &["machine_without_row", "busy_of_closed_row"]),
        ("unserved -", "runs", "?", &["machine_of_unserved_pool"]),
        ("unserved running launched registered", "runs", "?", &["machine_of_unserved_pool"]),
        ("unserved running launched registered", "-", "?", &["row_of_unserved_pool"]),
        ("-", "anothers", "?", &["machine_of_another_installation"]),
        ("unserved -", "anothers", "?", &[]),
        // Rows against machines.
        ("running launched registered", "elsewhere", "?", &["another_backend"]),
        ("running launched registered", "-", "?", &["machine_vanished"]),
        ("stopping ended gone", "-", "?", &["machine_vanished"]),
        ("running launched registered", "ended", "?", &["end_unseen"]),
        ("creating requested none", "made", "?", &["answer_unseen"]),
        ("starting requested registered", "runs", "?", &["answer_unseen"]),
        ("stopping gone registered", "runs", "?", &["late_landing"]),
        ("stopping none gone", "made", "?", &["late_landing"]),
        ("stopping requested gone unanswered failed", "-", "?", &["call_unanswered"]),
        ("stopping requested gone unanswered failed clear", "-", "?", &["machine_vanished"]),
        ("creating requested none", "-", "?", &["start_cut_off"]),
        ("starting launched registered", "made", "?", &["start_cut_off"]),
        ("stopping ended gone", "runs", "?", &["used_jit_config"]),
        // What a row knows of two sides.
        ("stopping ended gone", "ended", "?", &["remains_left"]),
        ("stopping gone gone", "-", "?", &["row_without_anything"]),
        ("running launched registered done", "runs", "?", &["completed_machine_lives"]),
        ("starting launched registered half", "runs", "?", &["never_registered"]),
        ("stopping ended registered", "ended", "?", &["registration_without_machine"]),
        ("stopping gone requested", "-", "?", &["registration_without_machine"]),
        ("stopping ended registered proven", "ended", "?", &["busy_without_machine"]),
        ("stopping launched gone", "runs", "?", &["machine_without_registration"]),
        // Rows against registrations.
        ("stopping ended registered", "?", "busy", &["busy_without_machine"]),
        ("idle launched registered", "?", "-", &["runner_gone"]),
        ("running launched registered", "?", "-", &["runner_gone"]),
        ("idle launched registered", "?", "offline", &["runner_offline"]),
        ("running launched registered", "?", "offline", &[]),
        ("idle launched registered", "?", "busy", &["job_unseen"]),
        ("idle launched registered set=2", "runs", "?", &["scale_set_gone"]),
        ("running launched registered set=2", "runs", "?", &[]),
        ("closed", "?", "offline", &["registration_of_closed_row"]),
        ("closed", "?", "online", &["registration_of_closed_row"]),
        ("closed", "?", "busy", &["busy_of_closed_row"]),
    ];
    let mut seen = BTreeSet::new();
    for (words, backend, github, wanted) in table {
        assert_eq!(said(words, backend, github), *wanted, "{words} / {backend} / {github}");
        seen.extend(wanted.iter().copied());
    }
    // A session has no name; the sweeper sees it by itself.
    seen.insert(Discrepancy::SessionNotInRow.as_str());
    let all: BTreeSet<&str> = Discrepancy::ALL.into_iter().map(Discrepancy::as_str).collect();
    assert_eq!(seen, all, "a kind without a row in this table");
}

#[test]
fn names_are_one_each_and_fit_a_label() {
    let names: BTreeSet<&str> = Discrepancy::ALL.into_iter().map(Discrepancy::as_str).collect();
    assert_eq!(names.len(), Discrepancy::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
}

#[test]
fn every_limit_is_positive_and_in_words() {
    let spec = PoolSpec::default();
    for kind in Discrepancy::ALL {
        assert!(kind.limit(&spec) > Span::ZERO);
        assert!(!kind.limit_words().is_empty() && !kind.means().is_empty());
    }
    assert_eq!(Discrepancy::NeverRegistered.limit_words(), "`boot_timeout`");
    assert_eq!(Discrepancy::BusyOfClosedRow.limit_words(), "6 h");
    assert_eq!(Discrepancy::EndUnseen.limit_words(), "1 min");
    assert_eq!(Discrepancy::table().lines().count(), Discrepancy::ALL.len() + 2);
}
