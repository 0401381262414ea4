//! What differs when the program is called `myshoes`: its environment variables, its REST API, its database, its
//! log lines. A target becomes a pool, a shoes plugin a provisioner; everything else is as ever.
//!
//! ```text
//! environment ─▶ plugin, App, store ─▶ controller ◀─ pools ◀─ targets ◀─ REST, or the database's other clients
//! ```
//!
//! One daemon may serve targets beside the pools of a configuration (`crate::daemon`).
//!
//! Where to start: [`targets`] for what a daemon needs to serve them, [`pools`] for what a target becomes, [`github`] for what is
//! asked before one is made.

pub mod adopt;
pub mod database;
mod docker_hub;
pub mod github;
mod history;
pub mod log;
pub mod plugin;
pub mod pools;
mod releases;
pub(crate) mod rest;
pub(crate) mod sync;
pub mod targets;
mod tokens;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fleetfoot_myshoes::environment::file::{self, FileError};
use fleetfoot_myshoes::environment::own::{self, Own};
use fleetfoot_myshoes::environment::{self, Mistake, Note, Plugin, Settings, Switch};

use crate::config::MyshoesSettings;

/// Everything that the environment says.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The original's variables.
    pub settings: Settings,
    /// Ours.
    pub own: Own,
    /// What to log of them.
    pub notes: Vec<Note>,
    /// Variables that plugins get besides those of this process.
    pub more: Vec<(String, String)>,
    /// The program was called by the original's name: it is reached from everywhere, as the original is.
    pub is_original: bool,
}

/// The section `myshoes` of a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    /// The file cannot be read.
    #[error("myshoes.env_file: failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line of it is none.
    #[error("myshoes.env_file: {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Which line.
        cause: FileError,
    },
    /// A variable cannot be used.
    #[error("myshoes: {0}")]
    Mistake(Mistake),
}

impl Environment {
    /// Reads the variables of this process.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read() -> Result<Self, Mistake> {
        Self::of(Vec::new(), true)
    }

    /// Reads what the section of a configuration says, and for the rest the variables of this process.
    ///
    /// # Errors
    /// The file of the section, or the first variable that cannot be used.
    pub fn of_section(section: &MyshoesSettings) -> Result<Self, SectionError> {
        let mut more = Vec::new();
        if let Some(path) = &section.env_file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SectionError::Read { path: path.clone(), source })?;
            let read = file::parse(&text);
            more = read.map_err(|cause| SectionError::File { path: path.clone(), cause })?;
        }
        more.extend(section.variables.iter().cloned());
        Self::of(more, false).map_err(SectionError::Mistake)
    }

    fn of(more: Vec<(String, String)>, is_original: bool) -> Result<Self, Mistake> {
        let get = |variable: &str| {
            let said = more.iter().rev().find(|(name, _)| name == variable);
            // What is no text is not as good as absent: it would choose another database without a word.
            let ours = || std::env::var_os(variable).map(|it| it.to_string_lossy().into_owned());
            said.map(|(_, value)| value.clone()).or_else(ours)
        };
        let (settings, notes) = environment::read(get, |path| Path::new(path).is_file())?;
        let own = own::read(get)?;
        Ok(Self { settings, own, notes, more, is_original })
    }

    /// How targets are served beside pools, in words.
    #[must_use]
    pub fn plan(&self) -> String {
        let plugin = match &self.settings.plugin {
            Plugin::Path(path) => path.display().to_string(),
            Plugin::Url(url) => url.to_string(),
        };
        let (place, limit) = (self.place(), self.settings.scale_set.max_runners);
        let only = match self.settings.scale_set.switch {
            Switch::On => "",
            Switch::Off | Switch::Unsaid => ", only those whose own mode is scaleset",
        };
        format!("REST API on {place}, plugin {plugin}, up to {limit} each{only}")
    }

    /// Where the REST API is: without a token it is reached from elsewhere only under the original's name.
    #[must_use]
    pub fn place(&self) -> std::net::SocketAddr {
        let everywhere = self.is_original || self.own.api_token_file.is_some();
        let host = if everywhere { [0, 0, 0, 0] } else { [127, 0, 0, 1] };
        (host, self.settings.port).into()
    }
}

/// Logs what there is to say of the variables.
pub(crate) fn log_notes(environment: &Environment) {
    for note in &environment.notes {
        match note {
            Note::Info(text) => tracing::info!("{text}"),
            Note::Warning(text) => tracing::warn!("{text}"),
        }
    }
}

/// The original's one line of failure.
pub(crate) fn fail(text: &str) -> ExitCode {
    tracing::error!("{text}");
    ExitCode::FAILURE
}
