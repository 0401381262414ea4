//! The binary's own library: configuration, wiring and commands, so that tests can reach them.
//!
//! This room knows every other room and is the only one that names a concrete backend. Nothing
//! depends on it.
//!
//! Where to start: [`config`] for the file an operator writes, [`outrunner`] for what differs when
//! the program is called by the name of the original.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod config;
pub mod outrunner;
