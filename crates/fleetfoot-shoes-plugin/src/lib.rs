//! Write a shoes plugin in Rust: a program that makes one machine for each runner, and deletes it.
//!
//! ```no_run
//! use fleetfoot_shoes_plugin::{AddInstance, DeleteInstance, Instance, Refusal, Shoes, serve};
//!
//! struct Cloud;
//!
//! #[async_trait::async_trait]
//! impl Shoes for Cloud {
//!     async fn add_instance(&self, wanted: AddInstance) -> Result<Instance, Refusal> {
//!         // Make a machine that runs `wanted.setup_script` as root when it has started.
//!         Ok(Instance::new(wanted.runner_name, "cloud"))
//!     }
//!
//!     async fn delete_instance(&self, gone: DeleteInstance) -> Result<(), Refusal> {
//!         // Delete it, and answer when it is gone.
//!         Err(Refusal::NotFound(gone.cloud_id))
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     fleetfoot_shoes_plugin::exit(serve(Cloud).await)
//! }
//! ```
//!
//! ```text
//! fleetfoot myshoes ── starts ──▶ this program ── 1|1|unix|/tmp/plugin…|grpc| ──▶ fleetfoot
//!                  ── AddInstance, DeleteInstance, Health, Shutdown (gRPC on that socket) ──▶
//! ```
//!
//! What this room does not know: machines, GitHub, and the host's side of the protocol, which is
//! `fleetfoot-provisioner-shoes`.
//!
//! Where to start: [`Shoes`]; [`serve`] for the life of the process.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod handshake;
mod messages;
mod serve;

pub use fleetfoot_core::ResourceType;
pub use handshake::ServeError;
pub use serve::{exit, serve};

use async_trait::async_trait;

/// A machine that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInstance {
    /// Whose machine it is, `myshoes-<uuid>`: unique, at most 63 characters, fit for a host name.
    pub runner_name: String,
    /// A program for the machine: begins with `#!`, runs as root, and returns when the runner was started. It carries
    /// a credential, so nobody else may read it; it may be larger than what a cloud takes as user data.
    pub setup_script: String,
    /// How big the machine is to be.
    pub resource_type: ResourceType,
    /// Words that may choose an image.
    pub labels: Vec<String>,
}

/// A machine that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// By this name it will be deleted; at most 255 characters.
    pub cloud_id: String,
    /// What kind of plugin made it; at most 255 characters.
    pub shoes_type: String,
    /// Where it is; empty if nobody needs to know.
    pub ip_address: String,
    /// How big it became; [`ResourceType::Unknown`] stands for what was asked for.
    pub resource_type: ResourceType,
}

impl Instance {
    /// A machine as big as it was asked for, whose address nobody needs to know.
    pub fn new(cloud_id: impl Into<String>, shoes_type: impl Into<String>) -> Self {
        Self {
            cloud_id: cloud_id.into(),
            shoes_type: shoes_type.into(),
            ip_address: String::new(),
            resource_type: ResourceType::Unknown,
        }
    }
}

/// A machine that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteInstance {
    /// What its creation answered; its runner's name where that answer was lost.
    pub cloud_id: String,
    /// As at its creation.
    pub labels: Vec<String>,
}

/// Why a call was not done. Each is answered with a gRPC code that says to the host what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It will never be possible: it is not asked for again (`InvalidArgument`).
    #[error("{0}")]
    InvalidArgument(String),
    /// There is no such machine: a deletion is done (`NotFound`).
    #[error("{0} is not there")]
    NotFound(String),
    /// There is no room at the moment: it is asked for again (`ResourceExhausted`).
    #[error("{0}")]
    Full(String),
    /// Anything else: it is asked for again (`Internal`).
    #[error("{0}")]
    Failed(String),
}

/// What a plugin does. Calls come side by side; a deletion may come while its creation is still going on.
#[async_trait]
pub trait Shoes: Send + Sync + 'static {
    /// Makes a machine that runs the script, once for a name: a second call of the same name makes no second machine.
    /// It is answered when the machine is there, not when its runner is; at most ten minutes may pass.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing may be left then.
    async fn add_instance(&self, wanted: AddInstance) -> Result<Instance, Refusal>;

    /// Deletes a machine, whatever it does, and answers when it is gone. It is called again until it succeeds.
    ///
    /// # Errors
    /// A [`Refusal`]; [`Refusal::NotFound`] counts as success.
    async fn delete_instance(&self, gone: DeleteInstance) -> Result<(), Refusal>;
}
