//! The engine in another process: newline-delimited JSON over a Unix socket, one pipelined connection.
//!
//! A client writes requests with ids of its own; answers come in any order. A connection that said `watch`
//! also receives events. The JIT config crosses the socket: it is for tests and figures, on one machine.

mod client;
mod server;

use fleetfoot_core::{Exit, InstallationId, InstanceName, PoolName};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

pub(super) use client::Client;
pub use server::serve;

use super::faults::Operation;
use super::request::{Answer, Request};
use crate::error::{BackendError, ErrorKind};
use crate::provisioner::{
    Deletion, EnvironmentInfo, EnvironmentState, Event, Handle, JitConfig, Listing,
};

/// A request, as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    id: u64,
    op: String,
    installation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<usize>,
}

/// What comes back: an answer to `id`, or an event without one.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Tell {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listing: Option<WireListing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logs: Option<String>,
    /// A delete: whether it removed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    removed: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<WireEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    kind: String,
    message: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireListing {
    identity: String,
    environments: Vec<WireEnvironment>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WireEnvironment {
    name: String,
    pool: Option<String>,
    handle: String,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit: Option<WireExit>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct WireExit {
    code: Option<i32>,
    out_of_memory: bool,
    message: Option<String>,
}

/// No name: resynced.
#[derive(Debug, Serialize, Deserialize)]
struct WireEvent {
    name: Option<String>,
    exit: Option<WireExit>,
}

impl From<Exit> for WireExit {
    fn from(exit: Exit) -> Self {
        Self { code: exit.code, out_of_memory: exit.out_of_memory, message: exit.message }
    }
}

impl From<WireExit> for Exit {
    fn from(exit: WireExit) -> Self {
        Self { code: exit.code, out_of_memory: exit.out_of_memory, message: exit.message }
    }
}

const WATCH: &str = "watch";
const OTHERS: &str = "others";

fn op(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Launch => "launch",
        Operation::Delete => "delete",
        Operation::List => "list",
        Operation::Logs => "logs",
    }
}

impl Ask {
    fn of(id: u64, request: &Request) -> Self {
        let (installation, pool, jit, lines) = match request {
            Request::Create { installation, pool, jit, .. } => {
                (installation, Some(pool), jit.as_ref(), None)
            }
            Request::Launch { installation, jit, .. } => (installation, None, Some(jit), None),
            Request::Delete { installation, .. } | Request::List { installation } => {
                (installation, None, None, None)
            }
            Request::Logs { installation, lines, .. } => (installation, None, None, Some(*lines)),
        };
        Self {
            id,
            op: op(request.operation()).to_owned(),
            installation: installation.to_string(),
            pool: pool.map(ToString::to_string),
            name: request.name().map(ToString::to_string),
            jit: jit.map(|jit| jit.expose().to_owned()),
            lines,
        }
    }

    fn installation(&self) -> Option<InstallationId> {
        InstallationId::new(&self.installation).ok()
    }

    fn request(self) -> Option<Request> {
        let installation = self.installation()?;
        let pool = self.pool.as_deref().and_then(|pool| PoolName::new(pool).ok());
        let name = self.name.as_deref().and_then(|name| InstanceName::new(name).ok());
        let jit = self.jit.map(|jit| JitConfig::new(SecretString::from(jit)));
        Some(match self.op.as_str() {
            "create" => Request::Create { installation, pool: pool?, name: name?, jit },
            "launch" => Request::Launch { installation, name: name?, jit: jit? },
            "delete" => Request::Delete { installation, name: name? },
            "list" => Request::List { installation },
            "logs" => Request::Logs { installation, name: name?, lines: self.lines? },
            _ => return None,
        })
    }
}

impl Tell {
    fn of(id: u64, answer: Result<Answer, BackendError>) -> Self {
        let mut tell = Self { id: Some(id), ..Self::default() };
        match answer {
            Ok(Answer::Done) => {}
            Ok(Answer::Deleted(deletion)) => tell.removed = Some(deletion == Deletion::Removed),
            Ok(Answer::Handle(handle)) => tell.handle = Some(handle.0),
            Ok(Answer::Logs(text)) => tell.logs = Some(text),
            Ok(Answer::Listing(listing)) => {
                let environments =
                    listing.environments.into_iter().map(WireEnvironment::of).collect();
                tell.listing = Some(WireListing { identity: listing.identity, environments });
            }
            Err(error) => {
                tell.error = Some(Failure {
                    kind: kind_word(error.kind).to_owned(),
                    message: error.message,
                });
            }
        }
        tell
    }

    fn event(event: Event) -> Self {
        let event = match event {
            Event::Ended { name, exit } => {
                WireEvent { name: Some(name.to_string()), exit: Some(exit.into()) }
            }
            Event::Resynced => WireEvent { name: None, exit: None },
        };
        Self { event: Some(event), ..Self::default() }
    }

    fn answer(
        self,
        operation: Operation,
        name: Option<&InstanceName>,
    ) -> Result<Answer, BackendError> {
        if let Some(failure) = self.error {
            let error =
                BackendError::new(operation.phrase(), kind_of(&failure.kind), failure.message);
            return Err(match name {
                Some(name) => error.about(name),
                None => error,
            });
        }
        Ok(match self {
            Self { handle: Some(handle), .. } => Answer::Handle(Handle(handle)),
            Self { logs: Some(text), .. } => Answer::Logs(text),
            Self { removed: Some(true), .. } => Answer::Deleted(Deletion::Removed),
            Self { removed: Some(false), .. } => Answer::Deleted(Deletion::WasAbsent),
            Self { listing: Some(listing), .. } => Answer::Listing(Listing {
                identity: listing.identity,
                environments: listing
                    .environments
                    .into_iter()
                    .filter_map(WireEnvironment::info)
                    .collect(),
            }),
            Self { .. } => Answer::Done,
        })
    }
}

impl WireEvent {
    fn event(self) -> Event {
        match self.name.as_deref().and_then(|name| InstanceName::new(name).ok()) {
            Some(name) => Event::Ended { name, exit: self.exit.unwrap_or_default().into() },
            None => Event::Resynced,
        }
    }
}

impl WireEnvironment {
    fn of(info: EnvironmentInfo) -> Self {
        let (state, exit) = match info.state {
            EnvironmentState::Created => ("created", None),
            EnvironmentState::Running => ("running", None),
            EnvironmentState::Ended(exit) => ("ended", Some(exit.into())),
        };
        Self {
            name: info.name.to_string(),
            pool: info.pool.map(|pool| pool.to_string()),
            handle: info.handle.0,
            state: state.to_owned(),
            exit,
        }
    }

    fn info(self) -> Option<EnvironmentInfo> {
        Some(EnvironmentInfo {
            name: InstanceName::new(&self.name).ok()?,
            pool: self.pool.as_deref().and_then(|pool| PoolName::new(pool).ok()),
            handle: Handle(self.handle),
            state: match self.state.as_str() {
                "created" => EnvironmentState::Created,
                "running" => EnvironmentState::Running,
                _ => EnvironmentState::Ended(self.exit.unwrap_or_default().into()),
            },
        })
    }
}

fn kind_word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Instance => "instance",
        ErrorKind::Backend => "backend",
        ErrorKind::Unanswered => "unanswered",
        ErrorKind::NameTaken => "name taken",
        ErrorKind::NoRoom => "no room",
    }
}

fn kind_of(word: &str) -> ErrorKind {
    match word {
        "instance" => ErrorKind::Instance,
        "unanswered" => ErrorKind::Unanswered,
        "name taken" => ErrorKind::NameTaken,
        "no room" => ErrorKind::NoRoom,
        _ => ErrorKind::Backend,
    }
}
