//! The binary's own library: configuration, wiring and commands, so that tests can reach them.
//!
//! This room knows every other room and is the only one that names a concrete backend. Nothing
//! depends on it.
//!
//! Where to start: [`config`] for the file an operator writes, [`outrunner`] for what differs when
//! the program is called by the name of the original.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod entry;
pub mod exit;
pub mod logging;
pub mod myshoes;
pub mod outrunner;
mod runtime;
mod takeover;
pub mod wiring;

/// An error with everything beneath it, in one line; what its own line says already is not said again.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !is_said(&text, &line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        source = cause.source();
    }
    text
}

/// A text has these words already, if only as Go spells an error of the system: without its number.
pub(crate) fn is_said(text: &str, line: &str) -> bool {
    let words = line.split(" (os error ").next().unwrap_or(line);
    text.contains(line) || text.to_lowercase().contains(&words.to_lowercase())
}
