//! Each cause of waiting in words: what it is, and what an operator can do about it.

use fleetfoot_api::{CauseInfo, OwnerInfo};
use fleetfoot_core::{Cause, ListenerState, PoolHealth};

use crate::views::time::rfc3339;

/// The code shown when no daemon runs, and so nothing is started. Not one of the core's causes: the
/// core only knows the causes of a controller that runs.
pub const NO_DAEMON: &str = "no_daemon";

/// The code of a pool that another controller serves; what holds it up, that one says.
pub const ELSEWHERE: &str = "elsewhere";

/// The code of a pool that nobody serves at the moment.
pub(crate) const UNSERVED: &str = "unserved";

/// The code of a pool whose host has no controller that answers.
pub(crate) const HOST_UNREACHABLE: &str = "host_unreachable";

/// Why a pool that is not served here is not.
pub(crate) fn of_owner(owner: &OwnerInfo) -> Vec<CauseInfo> {
    let host = owner.host.as_deref().unwrap_or("unknown");
    let (code, message, remedy) = match (owner.alive, owner.host_bound) {
        (true, _) => (
            ELSEWHERE,
            format!("the controller on host {host} serves this pool"),
            "nothing; ask on that host for what holds it up",
        ),
        (false, true) => (
            HOST_UNREACHABLE,
            format!("its backend belongs to host {host}, whose controller does not answer"),
            "start fleetfoot on that host; its instances are not gone, only out of reach",
        ),
        (false, false) => (
            UNSERVED,
            "no controller serves this pool at the moment".to_owned(),
            "nothing; another controller that has it takes it within 15 seconds",
        ),
    };
    let remedy = remedy.to_owned();
    vec![CauseInfo { code: code.to_owned(), message, remedy, since: None, until: None }]
}

/// A cause in words.
#[must_use]
pub fn explain(cause: &Cause) -> CauseInfo {
    let (since, until) = match cause {
        Cause::JitBudget { until } | Cause::CircuitOpen { until, .. } => (None, Some(*until)),
        Cause::SessionConflict { since } => (Some(*since), None),
        Cause::DemandUnknown
        | Cause::PoolLimit { .. }
        | Cause::HostBudget
        | Cause::BackendUnavailable { .. }
        | Cause::GithubUnavailable { .. }
        | Cause::Draining
        | Cause::PoolRemoved
        | Cause::RemainsFull { .. }
        | Cause::Starting { .. }
        | Cause::DiskFull
        | Cause::CarefulPass
        | Cause::RunnerMissing { .. } => (None, None),
    };
    CauseInfo {
        code: cause.code().to_owned(),
        message: sentence(cause),
        remedy: remedy(cause).to_owned(),
        since: since.map(rfc3339),
        until: until.map(rfc3339),
    }
}

fn sentence(cause: &Cause) -> String {
    match cause {
        Cause::DemandUnknown => {
            "no message session is open at GitHub, so what it wants is not known".to_owned()
        }
        Cause::PoolLimit { limit } => {
            format!("the pool's limit is reached (max_runners: {limit})")
        }
        Cause::HostBudget => "the host's budget has no room for another instance".to_owned(),
        Cause::JitBudget { .. } => {
            "JIT budget: GitHub grants this credential no further runner registrations for now"
                .to_owned()
        }
        Cause::CircuitOpen { failures, last, .. } => {
            format!("the last {failures} instances failed to start, the last one with: {last}")
        }
        Cause::BackendUnavailable { detail } => format!("the backend is not available: {detail}"),
        Cause::GithubUnavailable { detail } => format!("GitHub is not available: {detail}"),
        Cause::SessionConflict { .. } => {
            "another message session holds this scale set at GitHub".to_owned()
        }
        Cause::Draining => "an operator drained the pool: it takes no more jobs".to_owned(),
        Cause::PoolRemoved => {
            "the pool is not in the configuration any more: it takes no more jobs".to_owned()
        }
        Cause::RemainsFull { remains } => {
            format!("{remains} ended instances could not be removed yet, so no more are made")
        }
        Cause::Starting { count: 1 } => "an instance is being started for it".to_owned(),
        Cause::Starting { count } => format!("{count} instances are being started for it"),
        Cause::DiskFull => "the host has not enough free disk space".to_owned(),
        Cause::CarefulPass => {
            "what was left by an earlier store is looked at before anything new is made".to_owned()
        }
        Cause::RunnerMissing { detail } => detail.clone(),
    }
}

fn remedy(cause: &Cause) -> &'static str {
    match cause {
        Cause::DemandUnknown => {
            "nothing to do if it lasts seconds; else look at the pool's listener in `fleetfoot status`"
        }
        Cause::PoolLimit { .. } => {
            "wait for a job to end, or raise `max_runners` of the pool if the host can carry more"
        }
        Cause::HostBudget => {
            "wait for a job to end, or raise `host.max_instances`, `host.cpus` or `host.memory`"
        }
        Cause::JitBudget { .. } => {
            "nothing to do: it goes on by itself; a GitHub App of its own for busy pools raises the budget"
        }
        Cause::CircuitOpen { .. } => {
            "mend what the failure names (image, host, network); it tries again by itself, later each time"
        }
        Cause::BackendUnavailable { .. } => {
            "start or mend the backend on this host; `fleetfoot check` tests it"
        }
        Cause::GithubUnavailable { .. } => {
            "check network, proxy, token and its permissions with `fleetfoot check`; it tries again by itself"
        }
        Cause::SessionConflict { .. } => {
            "stop the other program that serves this scale set; after a crash it lapses within minutes"
        }
        Cause::Draining => "`fleetfoot resume <pool>` takes jobs again",
        Cause::PoolRemoved => {
            "put the pool back into the configuration, or send the jobs to other labels"
        }
        Cause::RemainsFull { .. } => {
            "see why deletion fails: `fleetfoot why <instance>` for one that is `stopping`"
        }
        Cause::Starting { .. } => "nothing to do: a runner will be online soon",
        Cause::DiskFull => {
            "free disk space (old images, build caches), or lower `host.min_free_disk`"
        }
        Cause::CarefulPass => "nothing to do: it ends after one full pass",
        Cause::RunnerMissing { .. } => {
            "nothing to do if it lasts a minute; without a network unpack a release into that directory by hand, named by its version"
        }
    }
}

/// Why a pool of a running controller does not serve at once: its plan's causes, and what its listener
/// says that the plan does not.
#[must_use]
pub fn of_pool(health: &PoolHealth) -> Vec<CauseInfo> {
    let from_listener = match &health.listener {
        ListenerState::Standby { since } => Some(Cause::SessionConflict { since: *since }),
        ListenerState::Backoff { detail, .. } => {
            Some(Cause::GithubUnavailable { detail: detail.clone() })
        }
        ListenerState::Opening | ListenerState::Connected | ListenerState::Closed => None,
    };
    let mut causes: Vec<CauseInfo> = Vec::new();
    // What the listener says is the reason of an unknown demand, so it comes first.
    for cause in from_listener.iter().chain(&health.causes) {
        let cause = explain(cause);
        if !causes.iter().any(|known| known.code == cause.code) {
            causes.push(cause);
        }
    }
    causes
}

/// The cause above all others when no daemon runs.
#[must_use]
pub fn no_daemon() -> CauseInfo {
    CauseInfo {
        code: NO_DAEMON.to_owned(),
        message: "no daemon runs on this state directory, so nothing is started".to_owned(),
        remedy: "`fleetfoot run`, or start its service".to_owned(),
        since: None,
        until: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fleetfoot_core::Timestamp;

    use super::*;

    fn every_cause() -> Vec<Cause> {
        let until = Timestamp(60_000);
        let detail = || "connection refused".to_owned();
        vec![
            Cause::DemandUnknown,
            Cause::PoolLimit { limit: 4 },
            Cause::HostBudget,
            Cause::JitBudget { until },
            Cause::CircuitOpen { until, failures: 3, last: "no such image".to_owned() },
            Cause::BackendUnavailable { detail: detail() },
            Cause::GithubUnavailable { detail: detail() },
            Cause::SessionConflict { since: until },
            Cause::Draining,
            Cause::PoolRemoved,
            Cause::RemainsFull { remains: 100 },
            Cause::Starting { count: 2 },
            Cause::DiskFull,
            Cause::CarefulPass,
            Cause::RunnerMissing { detail: "no release of the runner is in /d yet".to_owned() },
        ]
    }

    #[test]
    fn every_cause_has_its_own_sentence_and_a_remedy() {
        let explained: Vec<CauseInfo> = every_cause().iter().map(explain).collect();
        let sentences: BTreeSet<&str> = explained.iter().map(|c| c.message.as_str()).collect();
        let codes: BTreeSet<&str> = explained.iter().map(|c| c.code.as_str()).collect();
        assert_eq!(sentences.len(), explained.len());
        assert_eq!(codes.len(), explained.len());
        for cause in &explained {
            assert!(!cause.remedy.is_empty(), "{}", cause.code);
            for text in [&cause.message, &cause.remedy] {
                assert!(!text.ends_with('.') && !text.contains('\n'), "{text}");
            }
        }
    }

    #[test]
    fn figures_and_details_are_in_the_sentence() {
        let words: Vec<String> = every_cause().iter().map(|cause| explain(cause).message).collect();
        for part in ["max_runners: 4", "last 3 instances", "no such image", "100 ended", "2 inst"] {
            assert!(words.iter().any(|sentence| sentence.contains(part)), "{part}");
        }
        let open = explain(&Cause::CircuitOpen {
            until: Timestamp(60_000),
            failures: 3,
            last: String::new(),
        });
        assert_eq!(open.until.as_deref(), Some("1970-01-01T00:01:00.000Z"));
    }

    #[test]
    fn the_listener_speaks_first_and_nothing_twice() {
        let since = Timestamp(1);
        let health = PoolHealth {
            listener: ListenerState::Standby { since },
            causes: vec![Cause::DemandUnknown, Cause::SessionConflict { since }],
            ..PoolHealth::default()
        };
        let codes: Vec<String> = of_pool(&health).into_iter().map(|cause| cause.code).collect();
        assert_eq!(codes, ["session_conflict", "demand_unknown"]);
    }
}
