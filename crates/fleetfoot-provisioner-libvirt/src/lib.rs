//! libvirt backend of fleetfoot.
//!
//! One virtual machine for each instance: a qcow2 overlay on the pool's image, a transient domain whose
//! metadata has the installation and the exact instance name, a wait for the guest's agent (*late binding*:
//! the machine boots without a credential), and the runner started by the agent, which gets the JIT config on
//! standard input. The domain belongs to libvirtd and outlives us; how its runner ended is read from the agent
//! once and written down.
//!
//! The wire is libvirt's own RPC, spoken directly: two dozen calls of XDR in frames. No C library, no `virsh`.
//!
//! What this room does not know: GitHub, the store, the controller, any other tool.
//!
//! Where to start: [`LibvirtProvisioner`]; `machine` for the life of one machine, `still` for one that waits, `watch`
//! for how ends are found, [`rpc`] and [`wire`] for the protocol.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod agent;
mod check;
mod domain;
mod ending;
mod engine;
mod failure;
mod fifo;
mod flush;
mod iso;
mod legacy;
mod locks;
mod machine;
mod overlay;
mod pool;
mod provisioner;
mod record;
mod remove;
mod reseed;
pub mod rpc;
mod saved;
mod seed;
mod snapshot;
mod still;
mod tasks;
mod template;
mod watch;
pub mod wire;
mod xml;

pub use domain::NAMESPACE;
pub use engine::LibvirtEngine;
pub use pool::{
    Arch, Bus, DirectBoot, DomainType, ExtraDisk, Firmware, JitDelivery, LibvirtPool, Network,
    Share, WarmMode,
};
pub use provisioner::LibvirtProvisioner;
pub use rpc::{Address, AddressError, Remote};
