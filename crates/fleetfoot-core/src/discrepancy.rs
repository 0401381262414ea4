//! Three sides, one truth: what GitHub, a backend and the store may disagree about, and what is done then.
//!
//! GitHub has registrations, a backend has machines, the store has rows. [`Facts`] is what the three say of
//! one name; [`Facts::disagreements`] tells, purely, what of that does not fit together. Each kind of it is a
//! variant of [`Discrepancy`] with a name, an age limit, and a [`Remedy`]. There is no other list of them:
//! the table in ARCHITECTURE.md, the metric's label and the lines of `why` are made from this one.

mod facts;
mod remedy;

use crate::pool::PoolSpec;
use crate::time::Span;

pub use facts::{Facts, Machine, Row, Runner, with_backend};
pub use remedy::{Remedy, Sides};

/// A kind of disagreement between GitHub, a backend and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discrepancy {
    /// A machine carries our evidence and no live row has its name (11.4).
    MachineWithoutRow,
    /// A machine of ours belongs to a pool that nobody serves (11.8).
    MachineOfUnservedPool,
    /// A machine of one of our pools carries the id of another installation.
    MachineOfAnotherInstallation,
    /// Another backend answers than the one that holds the machine (11.2).
    AnotherBackend,
    /// The row has a machine, and a complete list shows none.
    MachineVanished,
    /// The machine ended, and nobody told.
    EndUnseen,
    /// The machine is there, and the answer of the call that made it is not.
    AnswerUnseen,
    /// A machine landed after its row had given it up (11.1).
    LateLanding,
    /// A call for the row went unanswered and nothing is there: it may still land (11.1).
    CallUnanswered,
    /// Whoever started it is gone in the middle of it.
    StartCutOff,
    /// The machine runs again after its end: its JIT config is used.
    UsedJitConfig,
    /// The machine ended, and its remains are not deleted.
    RemainsLeft,
    /// A row of a pool that nobody serves has no machine any more (11.8).
    RowOfUnservedPool,
    /// Nothing is left of the row at GitHub and at the backend, and it is not closed.
    RowWithoutAnything,
    /// Its job is completed, and its machine goes on.
    CompletedMachineLives,
    /// The machine was started, and its runner was never seen.
    NeverRegistered,
    /// GitHub holds the registration of a machine that is gone.
    RegistrationWithoutMachine,
    /// GitHub calls a runner busy whose machine is gone.
    BusyWithoutMachine,
    /// The machine lives, and nothing is registered for it any more.
    MachineWithoutRegistration,
    /// GitHub does not know the runner any more, and the row does.
    RunnerGone,
    /// The runner waits for a job and is not connected.
    RunnerOffline,
    /// GitHub calls a runner busy that the row has for idle.
    JobUnseen,
    /// It is registered at another scale set than its pool's (11.7).
    ScaleSetGone,
    /// GitHub holds a registration under the name of a closed row.
    RegistrationOfClosedRow,
    /// GitHub calls a runner busy whose row is closed.
    BusyOfClosedRow,
    /// A message session holds the scale set that the pool's row does not know (11.9).
    SessionNotInRow,
}

/// Backend and store are compared this often, and at once after a failure or a lost watch.
const SWEEP: Span = Span::seconds(30);

impl Discrepancy {
    /// Every kind.
    pub const ALL: [Self; 26] = [
        Self::MachineWithoutRow,
        Self::MachineOfUnservedPool,
        Self::MachineOfAnotherInstallation,
        Self::AnotherBackend,
        Self::MachineVanished,
        Self::EndUnseen,
        Self::AnswerUnseen,
        Self::LateLanding,
        Self::CallUnanswered,
        Self::StartCutOff,
        Self::UsedJitConfig,
        Self::RemainsLeft,
        Self::RowOfUnservedPool,
        Self::RowWithoutAnything,
        Self::CompletedMachineLives,
        Self::NeverRegistered,
        Self::RegistrationWithoutMachine,
        Self::BusyWithoutMachine,
        Self::MachineWithoutRegistration,
        Self::RunnerGone,
        Self::RunnerOffline,
        Self::JobUnseen,
        Self::ScaleSetGone,
        Self::RegistrationOfClosedRow,
        Self::BusyOfClosedRow,
        Self::SessionNotInRow,
    ];

    /// Its name in the API, in metrics and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MachineWithoutRow => "machine_without_row",
            Self::MachineOfUnservedPool => "machine_of_unserved_pool",
            Self::MachineOfAnotherInstallation => "machine_of_another_installation",
            Self::AnotherBackend => "another_backend",
            Self::MachineVanished => "machine_vanished",
            Self::EndUnseen => "end_unseen",
            Self::AnswerUnseen => "answer_unseen",
            Self::LateLanding => "late_landing",
            Self::CallUnanswered => "call_unanswered",
            Self::StartCutOff => "start_cut_off",
            Self::UsedJitConfig => "used_jit_config",
            Self::RemainsLeft => "remains_left",
            Self::RowOfUnservedPool => "row_of_unserved_pool",
            Self::RowWithoutAnything => "row_without_anything",
            Self::CompletedMachineLives => "completed_machine_lives",
            Self::NeverRegistered => "never_registered",
            Self::RegistrationWithoutMachine => "registration_without_machine",
            Self::BusyWithoutMachine => "busy_without_machine",
            Self::MachineWithoutRegistration => "machine_without_registration",
            Self::RunnerGone => "runner_gone",
            Self::RunnerOffline => "runner_offline",
            Self::JobUnseen => "job_unseen",
            Self::ScaleSetGone => "scale_set_gone",
            Self::RegistrationOfClosedRow => "registration_of_closed_row",
            Self::BusyOfClosedRow => "busy_of_closed_row",
            Self::SessionNotInRow => "session_not_in_row",
        }
    }

    /// What it is, as a sentence without its end.
    #[must_use]
    pub fn means(self) -> &'static str {
        match self {
            Self::MachineWithoutRow => {
                "a machine carries our evidence and no live row has its name"
            }
            Self::MachineOfUnservedPool => "a machine of ours belongs to a pool that nobody serves",
            Self::MachineOfAnotherInstallation => {
                "a machine of this pool's name carries the id of another installation"
            }
            Self::AnotherBackend => "another backend answers than the one that holds the machine",
            Self::MachineVanished => "the row has a machine, and a complete list shows none",
            Self::EndUnseen => "the machine ended, and nobody told",
            Self::AnswerUnseen => {
                "the machine is there, and the answer of the call that made it never came"
            }
            Self::LateLanding => "the machine landed after its row had given it up",
            Self::CallUnanswered => {
                "a call went unanswered and nothing is there; it may still land"
            }
            Self::StartCutOff => "whoever started it is gone in the middle of it",
            Self::UsedJitConfig => {
                "the machine runs again after its end, with a JIT config that is used"
            }
            Self::RemainsLeft => "the machine ended, and its remains are not deleted",
            Self::RowOfUnservedPool => "a row of a pool that nobody serves has no machine any more",
            Self::RowWithoutAnything => "nothing of it is left outside, and its row is not closed",
            Self::CompletedMachineLives => "its job is completed, and its machine goes on",
            Self::NeverRegistered => "the machine was started, and its runner was never seen",
            Self::RegistrationWithoutMachine => {
                "GitHub holds the registration of a machine that is gone"
            }
            Self::BusyWithoutMachine => "GitHub calls a runner busy whose machine is gone",
            Self::MachineWithoutRegistration => {
                "the machine lives, and no runner is registered for it any more"
            }
            Self::RunnerGone => "GitHub does not know the runner any more, and its machine lives",
            Self::RunnerOffline => "the runner waits for a job and is not connected to GitHub",
            Self::JobUnseen => "GitHub calls a runner busy that the row has for idle",
            Self::ScaleSetGone => "it is registered at another scale set than its pool's",
            Self::RegistrationOfClosedRow => {
                "GitHub holds a registration under the name of a closed row"
            }
            Self::BusyOfClosedRow => "GitHub calls a runner busy whose row is closed",
            Self::SessionNotInRow => {
                "a message session holds the scale set that the pool's row does not know"
            }
        }
    }

    /// The sides that disagree.
    #[must_use]
    pub fn sides(self) -> Sides {
        match self {
            Self::MachineWithoutRow
            | Self::MachineOfUnservedPool
            | Self::MachineOfAnotherInstallation
            | Self::AnotherBackend
            | Self::MachineVanished
            | Self::EndUnseen
            | Self::AnswerUnseen
            | Self::LateLanding
            | Self::CallUnanswered
            | Self::StartCutOff
            | Self::UsedJitConfig
            | Self::RemainsLeft => Sides::BackendStore,
            Self::RowOfUnservedPool | Self::RowWithoutAnything => Sides::Store,
            Self::CompletedMachineLives
            | Self::NeverRegistered
            | Self::RegistrationWithoutMachine
            | Self::BusyWithoutMachine
            | Self::MachineWithoutRegistration => Sides::GithubBackend,
            Self::RunnerGone
            | Self::RunnerOffline
            | Self::JobUnseen
            | Self::ScaleSetGone
            | Self::RegistrationOfClosedRow
            | Self::BusyOfClosedRow
            | Self::SessionNotInRow => Sides::GithubStore,
        }
    }

    /// What is done about it.
    #[must_use]
    pub fn remedy(self) -> Remedy {
        match self {
            Self::MachineWithoutRow => Remedy::TakeUp,
            Self::MachineVanished
            | Self::EndUnseen
            | Self::AnswerUnseen
            | Self::LateLanding
            | Self::RunnerGone
            | Self::JobUnseen => Remedy::Record,
            Self::StartCutOff
            | Self::CompletedMachineLives
            | Self::NeverRegistered
            | Self::RunnerOffline
            | Self::ScaleSetGone => Remedy::Gate,
            Self::RegistrationWithoutMachine | Self::RegistrationOfClosedRow => Remedy::Deregister,
            Self::UsedJitConfig | Self::RemainsLeft | Self::MachineWithoutRegistration => {
                Remedy::Delete
            }
            Self::RowOfUnservedPool | Self::RowWithoutAnything => Remedy::Close,
            Self::CallUnanswered
            | Self::BusyWithoutMachine
            | Self::BusyOfClosedRow
            | Self::SessionNotInRow => Remedy::AskAgain,
            Self::MachineOfUnservedPool
            | Self::MachineOfAnotherInstallation
            | Self::AnotherBackend => Remedy::Report,
        }
    }

    /// It should be over within this time of being seen; then it is told as overdue.
    #[must_use]
    pub fn limit(self, spec: &PoolSpec) -> Span {
        self.fixed_limit().unwrap_or(spec.boot_timeout)
    }

    /// The limit in words.
    #[must_use]
    pub fn limit_words(self) -> String {
        let Some(limit) = self.fixed_limit() else { return "`boot_timeout`".to_owned() };
        let seconds = limit.0 / 1000;
        match (seconds % 3600 == 0, seconds % 60 == 0) {
            (true, _) => format!("{} h", seconds / 3600),
            (_, true) => format!("{} min", seconds / 60),
            (false, false) => format!("{seconds} s"),
        }
    }

    /// `None` for what ends with the pool's own `boot_timeout`.
    fn fixed_limit(self) -> Option<Span> {
        Some(match self {
            Self::NeverRegistered => return None,
            // A sweep sees it, the next one that it is over.
            Self::MachineVanished
            | Self::EndUnseen
            | Self::AnswerUnseen
            | Self::LateLanding
            | Self::StartCutOff
            | Self::RowOfUnservedPool
            | Self::RowWithoutAnything => Span(SWEEP.0 * 2),
            // Seen twice, taken up, and through the gate.
            Self::MachineWithoutRow => Span(SWEEP.0 * 4),
            // Two lists further apart than a call may hang.
            Self::CallUnanswered => Span::minutes(5),
            Self::AnotherBackend
            | Self::CompletedMachineLives
            | Self::UsedJitConfig
            | Self::RemainsLeft
            | Self::MachineWithoutRegistration
            | Self::RegistrationWithoutMachine
            | Self::ScaleSetGone
            | Self::SessionNotInRow => Span::minutes(10),
            // One look at GitHub sees it, and the next that it is over.
            Self::RunnerGone | Self::JobUnseen | Self::RegistrationOfClosedRow => Span::minutes(20),
            // Two looks must see it before anything is done.
            Self::RunnerOffline => Span::minutes(30),
            // GitHub lets go of such a runner when it likes.
            Self::BusyWithoutMachine | Self::BusyOfClosedRow => Span::minutes(6 * 60),
            // Until a person does something.
            Self::MachineOfUnservedPool | Self::MachineOfAnotherInstallation => {
                Span::minutes(24 * 60)
            }
        })
    }

    /// Only a look at GitHub can see it.
    #[must_use]
    pub fn needs_github(self) -> bool {
        match self {
            Self::RunnerGone
            | Self::RunnerOffline
            | Self::JobUnseen
            | Self::RegistrationOfClosedRow
            | Self::BusyOfClosedRow => true,
            Self::MachineWithoutRow
            | Self::MachineOfUnservedPool
            | Self::MachineOfAnotherInstallation
            | Self::AnotherBackend
            | Self::MachineVanished
            | Self::EndUnseen
            | Self::AnswerUnseen
            | Self::LateLanding
            | Self::CallUnanswered
            | Self::StartCutOff
            | Self::UsedJitConfig
            | Self::RemainsLeft
            | Self::RowOfUnservedPool
            | Self::RowWithoutAnything
            | Self::CompletedMachineLives
            | Self::NeverRegistered
            | Self::RegistrationWithoutMachine
            | Self::BusyWithoutMachine
            | Self::MachineWithoutRegistration
            | Self::ScaleSetGone
            | Self::SessionNotInRow => false,
        }
    }

    /// The table of all kinds, in Markdown.
    #[must_use]
    pub fn table() -> String {
        let mut text = String::from(
            "| Name | What it is | Sides | Over within | What is done |\n|---|---|---|---|---|\n",
        );
        for kind in Self::ALL {
            let (name, means, sides) = (kind.as_str(), kind.means(), kind.sides().words());
            let (limit, remedy) = (kind.limit_words(), kind.remedy().words());
            text.push_str(&format!("| `{name}` | {means} | {sides} | {limit} | {remedy} |\n"));
        }
        text
    }
}
