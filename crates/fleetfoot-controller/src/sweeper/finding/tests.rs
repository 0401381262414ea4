//! Row facts × list → what is observed, one line each.

use fleetfoot_core::{Environment, FailureKind, RunnerId};
use fleetfoot_provisioner::Handle;

use super::*;

const BEGAN: Timestamp = Timestamp(1_000_000);

/// `phase environment [marks…]`; marks: `flight`, `late` (a call ended after the list began), `unanswered`,
/// `clear` (one clear list, long ago), `clear-now` (one just now), `failed`, `reason`, `reboot`, `done`.
fn row(words: &str) -> (Instance, bool) {
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
    row.registration = fleetfoot_core::Registration::Registered(RunnerId(1));
    row.backend_identity = Some("engine".into());
    row.boot_id = Some("boot".into());
    let mut in_flight = false;
    for mark in words {
        match mark {
            "flight" => in_flight = true,
            "late" => row.last_call_at = Some(BEGAN + Span(1)),
            "unanswered" => row.unanswered_since = Some(Timestamp(500)),
            "clear" => {
                row.clear_lists = 1;
                row.last_clear_list_at = Some(Timestamp(600));
            }
            "clear-now" => {
                row.clear_lists = 1;
                row.last_clear_list_at = Some(BEGAN - Span(10));
            }
            "failed" => row.failure = Some((FailureKind::Create, "x".into())),
            "reason" => row.reason = Some(Reason::Drained),
            "reboot" => row.boot_id = Some("boot before".into()),
            "done" => row.job_completed_at = Some(Timestamp(1)),
            "unmarked" => row.backend_identity = None,
            other => panic!("{other}"),
        }
    }
    (row, in_flight)
}

fn info(row: &Instance, word: &str) -> Option<EnvironmentInfo> {
    let exit = |code| EnvironmentState::Ended(Exit { code: Some(code), ..Exit::default() });
    let state = match word {
        "-" => return None,
        "created" => EnvironmentState::Created,
        "running" => EnvironmentState::Running,
        "exit-0" => exit(0),
        "exit-137" => exit(137),
        other => panic!("{other}"),
    };
    Some(EnvironmentInfo {
        name: row.name.clone(),
        pool: Some(row.pool.clone()),
        handle: Handle("h".into()),
        state,
    })
}

fn said(found: Option<Finding>) -> String {
    let Some(found) = found else { return "nothing".into() };
    let mut words: Vec<&str> = found
        .observations
        .iter()
        .map(|observation| {
            if let Observation::Removal { reason } = observation {
                reason.as_str()
            } else {
                observation.name()
            }
        })
        .collect();
    if found.clear_list_at.is_some() {
        words.push("clear list");
    }
    if words.is_empty() { "mark".into() } else { words.join(", ") }
}

#[test]
fn a_list_tells_what_the_row_does_not_know() {
    let table = [
        // row, list, found
        ("idle launched", "running", "nothing"),
        ("idle launched unmarked", "running", "mark"),
        ("running launched", "exit-137", "ended"),
        ("running launched flight", "exit-0", "ended"),
        ("stopping ended", "exit-0", "nothing"),
        ("running launched", "-", "environment gone"),
        ("running launched late", "-", "nothing"),
        ("running launched flight", "-", "nothing"),
        ("stopping ended", "-", "environment gone"),
        // The list began before it was made; that it has ended since makes the list no newer.
        ("stopping ended late", "-", "nothing"),
        ("stopping gone", "-", "nothing"),
        // A create call that was cut off.
        ("creating requested", "created", "created"),
        ("creating requested flight", "created", "nothing"),
        ("creating requested", "-", "interrupted, clear list"),
        ("starting requested", "created", "interrupted"),
        ("starting requested", "running", "launched"),
        ("starting requested", "-", "interrupted, clear list"),
        ("starting requested flight", "-", "nothing"),
        ("stopping requested reason", "-", "clear list"),
        ("stopping requested failed", "-", "environment gone"),
        // A launch call that was cut off never arrived.
        ("starting launched", "created", "interrupted"),
        ("starting launched late", "created", "nothing"),
        ("warm present", "created", "nothing"),
        ("warm present", "-", "environment gone"),
        // An unanswered call: two lists, apart by more than its bound.
        ("stopping requested unanswered failed", "-", "clear list"),
        ("stopping requested unanswered clear-now", "-", "nothing"),
        ("stopping requested unanswered clear", "-", "environment gone, clear list"),
        ("stopping gone unanswered clear", "-", "clear list"),
        ("stopping requested unanswered", "running", "launched"),
        ("running launched unanswered", "running", "launched"),
        ("running launched unanswered", "exit-0", "ended"),
        // It landed after its row was sure that nothing is there.
        ("stopping gone", "running", "launched"),
        ("stopping none", "created", "launched"),
        // The host was restarted.
        ("running launched reboot", "exit-137", "host rebooted, ended"),
        ("running launched reboot", "exit-0", "ended"),
        ("running launched reboot done", "exit-137", "ended"),
        ("running launched reboot", "-", "host rebooted, environment gone"),
        ("stopping launched reboot reason", "-", "environment gone"),
    ];
    for (facts, list, wanted) in table {
        let (row, in_flight) = row(facts);
        let view = View {
            began: BEGAN,
            ended: BEGAN,
            boot: Some("boot"),
            bound: Span::seconds(30),
            in_flight,
        };
        let found = finding(&row, info(&row, list).as_ref(), view);
        assert_eq!(said(found), wanted, "{facts} / {list}");
    }
}

/// A list that takes long began before a create that timed out has landed; the machine ran its job and ended
/// before the list was read (a world of seed 575).
#[test]
fn a_list_older_than_a_late_landing_that_has_ended_does_not_close_its_row() {
    let (mut row, _) = row("starting requested unanswered");
    row.observe(&Observation::Ended { exit: Exit::default() }, BEGAN + Span::seconds(5)).unwrap();
    let seen = |began| {
        let view = View {
            began,
            ended: began,
            boot: Some("boot"),
            bound: Span::seconds(30),
            in_flight: false,
        };
        said(finding(&row, None, view))
    };
    assert_eq!(seen(BEGAN), "nothing");
    assert_eq!(seen(BEGAN + Span::seconds(6)), "environment gone");
}
