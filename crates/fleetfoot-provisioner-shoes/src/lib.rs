//! Shoes plugin backend of fleetfoot.
//!
//! A *shoes plugin* is a program of its own, made with hashicorp/go-plugin, that makes and deletes one machine
//! for each runner by two gRPC calls. Creation is *single step*: it carries a setup script with the JIT config.
//! There is no list and no watch: a machine is known by the cloud id that its creation answered.
//!
//! ```text
//! ShoesProvisioner ── setup script ──▶ PluginHost ── AddInstance / DeleteInstance ──▶ plugin process
//!                                        └─ start, handshake, output, health, recycling, end
//! ```
//!
//! What this room does not know: GitHub, the store, the controller, targets and their REST API.
//!
//! Where to start: [`ShoesProvisioner`]; [`PluginHost`] for the life of the plugin's process, `handshake` for
//! the line it begins with, [`script`] for what a machine runs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods))]

mod calls;
mod failure;
mod handshake;
mod host;
mod leftovers;
mod messages;
mod output;
mod process;
mod provisioner;
pub mod script;
mod tasks;
mod tls;

pub use calls::{CallError, Created};
pub use host::{HostSettings, PluginHost, ProcessModel};
pub use output::PluginOutput;
pub use process::StartError;
pub use provisioner::{Machine, ShoesPool, ShoesProvisioner};
