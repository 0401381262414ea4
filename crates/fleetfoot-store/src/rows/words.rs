//! The stable word of every enum of the core that a row holds, and the way back.

use fleetfoot_core::{Environment, FailureKind, Intent, Phase, Reason};

use crate::fault::RowError;

/// Every intent.
const INTENTS: [Intent; 3] = [Intent::Active, Intent::Draining, Intent::Removed];

/// Every state of an environment.
pub(crate) const ENVIRONMENTS: [Environment; 6] = [
    Environment::None,
    Environment::Requested,
    Environment::Present,
    Environment::Launched,
    Environment::Ended,
    Environment::Gone,
];

/// Every kind of failure.
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

fn unknown(what: &'static str, word: &str, row: &str) -> RowError {
    RowError::UnknownWord { what, word: word.to_owned(), row: row.to_owned() }
}

pub(crate) fn intent(word: &str, row: &str) -> Result<Intent, RowError> {
    INTENTS
        .into_iter()
        .find(|intent| intent.as_str() == word)
        .ok_or_else(|| unknown("intent", word, row))
}

pub(crate) fn phase(word: &str, row: &str) -> Result<Phase, RowError> {
    Phase::from_name(word).ok_or_else(|| unknown("phase", word, row))
}

pub(crate) fn reason(word: &str, row: &str) -> Result<Reason, RowError> {
    Reason::from_name(word).ok_or_else(|| unknown("reason", word, row))
}

pub(crate) fn failure(word: &str, row: &str) -> Result<FailureKind, RowError> {
    FAILURES
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| unknown("failure", word, row))
}

pub(crate) fn environment_word(environment: Environment) -> &'static str {
    match environment {
        Environment::None => "none",
        Environment::Requested => "requested",
        Environment::Present => "present",
        Environment::Launched => "launched",
        Environment::Ended => "ended",
        Environment::Gone => "gone",
    }
}

pub(crate) fn environment(word: &str, row: &str) -> Result<Environment, RowError> {
    ENVIRONMENTS
        .into_iter()
        .find(|environment| environment_word(*environment) == word)
        .ok_or_else(|| unknown("environment", word, row))
}

pub(crate) fn unknown_registration(word: &str, row: &str) -> RowError {
    unknown("registration", word, row)
}

pub(crate) fn unknown_outcome(word: &str, row: &str) -> RowError {
    unknown("outcome", word, row)
}

pub(crate) fn unknown_job_state(word: &str, row: &str) -> RowError {
    unknown("job state", word, row)
}
