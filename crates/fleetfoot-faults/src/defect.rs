//! Planted defects: known ways to lose jobs or leak machines, one of which a simulated world may switch on
//! to see whether its checks find it, and `cargo xtask crash` in a whole process.

use std::cell::Cell;
use std::sync::OnceLock;

/// Names the defect of a whole process.
const OF_PROCESS: &str = "FLEETFOOT_DEFECT";

thread_local! {
    static PLANTED: Cell<Option<Defect>> = const { Cell::new(None) };
}

macro_rules! defects {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A deliberate mistake, each in one line of the production file that it breaks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Defect {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Defect {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name in tables and on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The one of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|defect| defect.name() == name)
            }

            /// Whether it is switched on for this thread, or for the process.
            #[must_use]
            pub fn is_planted(self) -> bool {
                PLANTED.get().or_else(of_process) == Some(self)
            }

            /// What it does, in a sentence.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

defects! {
    /// Acknowledges a message before what it says is committed.
    AcknowledgeBeforeCommit = "acknowledge-before-commit",
    /// Adds up messages instead of taking the level that GitHub states.
    CountMessages = "count-messages",
    /// Forgets an instance whose delete failed.
    ForgetFailedDelete = "forget-failed-delete",
    /// Sweeps whatever has our name prefix.
    SweepByPrefix = "sweep-by-prefix",
    /// Deletes an environment without deregistering its runner first.
    DeleteBeforeDeregister = "delete-before-deregister",
    /// Takes a refusal because the runner is busy for consent.
    IgnoreBusy = "ignore-busy",
    /// Advertises only the slots that are free.
    AdvertiseFreeGap = "advertise-free-gap",
    /// Advertises 0 when there is no room.
    AdvertiseZero = "advertise-zero",
    /// Forgets a registration whose JIT answer was lost.
    LoseJitRegistration = "lose-jit-registration",
    /// Opens the session before what runs is adopted.
    AdoptAfterSession = "adopt-after-session",
    /// Goes on writing after another controller took the pool.
    ActWithOldEpoch = "act-with-old-epoch",
    /// Closes the row before the environment is gone.
    DeleteRowFirst = "delete-row-first",
    /// Leaves one phase without a way out by time.
    NoWayOut = "no-way-out",
    /// Takes a list that was cut in the middle for complete.
    CutListIsEmpty = "cut-list-is-empty",
    /// Closes a row while an unanswered call may still land.
    CloseBeforeLateLanding = "close-before-late-landing",
    /// Counts an outage of GitHub or the backend as failures of instances.
    CountOutageAsFailure = "count-outage-as-failure",
    /// Creates while demand is unknown.
    CreateOnUnknownDemand = "create-on-unknown-demand",
    /// Removes an instance on a completion message alone.
    KillOnMessage = "kill-on-message",
    /// Counts jobs that run as new demand when a session opens.
    CountRunningAsNew = "count-running-as-new",
    /// Forgets how long GitHub asked to be left alone.
    ForgetRetryAfter = "forget-retry-after",
    /// Acknowledges an offer before its jobs are acquired.
    AcquireAfterAcknowledge = "acquire-after-acknowledge",
    /// Gives a slot away while what holds it may still live.
    FreeSlotTooEarly = "free-slot-too-early",
    /// Takes the list of another backend for that of its own.
    BelieveAnotherEngine = "believe-another-engine",
    /// Takes a list that began before a call for newer than the call.
    BelieveOldList = "believe-old-list",
    /// Creates before what a lost store left behind was looked at.
    CreateBeforeCarefulPass = "create-before-careful-pass",
    /// Retries a failed removal at once, again and again.
    RetryWithoutBackoff = "retry-without-backoff",
    /// Holds GitHub's refusal of one pool against all pools of the credential.
    BlameEveryPool = "blame-every-pool",
    /// Writes a JIT config into the log.
    LogJitConfig = "log-jit-config",
}

fn of_process() -> Option<Defect> {
    static PLANTED: OnceLock<Option<Defect>> = OnceLock::new();
    *PLANTED.get_or_init(|| Defect::from_name(&std::env::var(OF_PROCESS).ok()?))
}

/// Switches a defect on for this thread, or all off.
pub fn plant(defect: Option<Defect>) {
    PLANTED.set(defect);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_names_are_unique() {
        plant(Some(Defect::IgnoreBusy));
        assert!(Defect::IgnoreBusy.is_planted() && !Defect::SweepByPrefix.is_planted());
        plant(None);
        assert!(!Defect::IgnoreBusy.is_planted());
        assert!(Defect::ALL.iter().all(|one| Defect::from_name(one.name()) == Some(*one)));
        let mut names: Vec<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Defect::ALL.len());
        assert_eq!(
            Defect::IgnoreBusy.says(),
            "Takes a refusal because the runner is busy for consent."
        );
    }
}
