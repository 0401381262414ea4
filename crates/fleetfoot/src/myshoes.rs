//! What differs when the program is called `myshoes`: its environment variables, its REST API, its database, its
//! log lines. A target becomes a pool, a shoes plugin a provisioner; everything else is as ever.
//!
//! ```text
//! environment ─▶ plugin, App, store ─▶ controller ◀─ pools ◀─ targets ◀─ REST, or the database's other clients
//! ```
//!
//! Where to start: [`daemon`] for the order of a start, [`pools`] for what a target becomes, [`github`] for what is
//! asked before one is made.

pub mod daemon;
pub mod database;
mod docker_hub;
pub mod github;
pub mod log;
pub mod plugin;
pub mod pools;
mod releases;
mod rest;
mod sync;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

use fleetfoot_myshoes::environment::own::{self, Own};
use fleetfoot_myshoes::environment::{self, Mistake, Note, Settings};

/// Everything that the environment says.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The original's variables.
    pub settings: Settings,
    /// Ours.
    pub own: Own,
    /// What to log of them.
    pub notes: Vec<Note>,
}

impl Environment {
    /// Reads the variables of this process.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read() -> Result<Self, Mistake> {
        let get = |variable: &str| std::env::var(variable).ok();
        let (settings, notes) = environment::read(get, |path| Path::new(path).is_file())?;
        Ok(Self { settings, own: own::read(get)?, notes })
    }
}

/// The original's one line of failure.
pub(crate) fn fail(text: &str) -> ExitCode {
    tracing::error!("{text}");
    ExitCode::FAILURE
}
