//! Each reason of a removal in words.

use fleetfoot_core::Reason;

/// Why an instance is removed, as a clause after "because".
#[must_use]
pub(crate) fn why_removed(reason: Reason) -> &'static str {
    match reason {
        Reason::Withdrawn => "it was not wanted any more before its runner was started",
        Reason::Surplus => "it was idle beyond `min_idle` for longer than `idle_timeout`",
        Reason::JobDone => "its job is completed and its environment did not end by itself",
        Reason::RunnerGone => "GitHub removed its runner",
        Reason::Interrupted => "a restart of the daemon cut its start off",
        Reason::CreateTimeout => "its environment was not made within `create_timeout`",
        Reason::StartTimeout => "it was not begun within `start_timeout`",
        Reason::BootTimeout => "its runner did not come online within `boot_timeout`",
        Reason::WarmExpired => "its environment waited too long for a job",
        Reason::Outdated => "it was made with settings or an image that have changed",
        Reason::ScaleSetGone => "the scale set it registered under is gone",
        Reason::Drained => "its pool is drained",
        Reason::Operator => "an operator asked to stop it",
        Reason::OperatorForce => "an operator asked to stop it with --force",
        Reason::MaxJobDuration => "its job ran longer than `max_job_duration`",
        Reason::Stray => "it was found at the backend without a record of it",
        Reason::HostRebooted => "the host was restarted",
        Reason::Offline => "its runner waited for a job and was not connected to GitHub",
    }
}
