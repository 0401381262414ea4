//! How a command ends: its exit code, and the one line that says what went wrong and what to do.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

/// The exit code of a command that could not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was called wrongly: 64.
    Usage,
    /// The configuration is wrong: 78.
    Config,
    /// Anything else: 1.
    Failure,
    /// Whoever read its output has left, so there is nothing more to say: 0.
    ReaderLeft,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Config => 78,
            Self::Failure => 1,
            Self::ReaderLeft => 0,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do its work, in one line, and what to do about it in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// How it ends.
    pub exit: Exit,
    message: String,
    hint: Option<String>,
    report: Option<String>,
}

impl CommandError {
    /// A failure in one line.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: one_line(&message.into()), hint: None, report: None }
    }

    /// A failure told by an error and all its sources.
    #[must_use]
    pub fn from_error(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        Self::new(exit, crate::chain(error))
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(one_line(&hint.into()));
        self
    }

    /// The same with a report of several lines, which is shown above the line.
    #[must_use]
    pub fn with_report(mut self, report: impl Into<String>) -> Self {
        self.report = Some(report.into()).filter(|report| !report.trim().is_empty());
        self
    }

    /// The reader of our output has left.
    #[must_use]
    pub fn reader_left() -> Self {
        Self::new(Exit::ReaderLeft, "the reader has left")
    }

    /// The advice.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Tells people on standard error, unless there is nothing to tell.
    pub fn report(&self) {
        if self.exit == Exit::ReaderLeft {
            return;
        }
        let mut text = self.report.clone().unwrap_or_default();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("fleetfoot: {self}\n"));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        // Nobody is left to be told that nobody can be told.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CommandError {}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::from_error(Exit::Failure, error.as_ref()),
        }
    }
}

/// Foreign text may hold line ends and terminal codes; an error is one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = CommandError::new(Exit::Failure, "a\n\n  b\u{1b}[31m\r\n");
        assert_eq!(error.to_string(), "a; b [31m");
    }

    #[test]
    fn codes_are_those_of_sysexits() {
        let codes = [Exit::Usage, Exit::Config, Exit::Failure, Exit::ReaderLeft].map(Exit::code);
        assert_eq!(codes, [64, 78, 1, 0]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("failed to open `x`: gone")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_source_that_was_said_is_not_said_again() {
        let said = Outer(std::io::Error::other("gone"));
        assert_eq!(crate::chain(&said), "failed to open `x`: gone");
        let new = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(crate::chain(&new), "failed to open `x`: gone: disk on fire");
    }
}
