//! Docker and Podman backend of fleetfoot.
//!
//! One container for each instance, made with its JIT config in it (*single step*), labelled with the
//! installation and the exact instance name, never restarted and never removed by the engine itself: it must
//! outlive the controller, and how it ended must be readable after its end.
//!
//! The JIT config goes in as an environment variable by default. What else runs on the host can read it only
//! as root, as a member of the group `docker`, or under the very user id that the runner has inside. The
//! original's form, an argument, is readable by every user of the host; images that need it get it by
//! [`JitDelivery::Argument`]. Jobs with `container:` or services need an engine inside: the mounted engine
//! socket makes each job root on the host; `runtime: sysbox-runc` does not.
//!
//! The wire is spoken directly over hyper (a dozen calls): engines silently pull anonymously when the
//! registry credentials are not base64url, and a call that is dropped must leave no connection.
//!
//! What this room does not know: GitHub, the store, the controller, any other tool.
//!
//! Where to start: [`DockerProvisioner`], then `watch` for how exits are found, `resolve` for how the engine is.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod auth;
mod check;
mod container;
mod endpoint;
mod engine;
mod http;
pub mod image;
mod legacy;
mod look;
mod provisioner;
mod pull;
mod remove;
mod resolve;
mod shell;
mod tasks;
mod waiting;
mod watch;

pub use container::{
    BindMount, DockerPool, InstanceProxy, JitDelivery, LABEL_INSTALLATION, LABEL_INSTANCE,
    LABEL_OUTRUNNER, LABEL_OUTRUNNER_NAME, LABEL_POOL, PullPolicy,
};
pub use engine::DockerEngine;
pub use provisioner::DockerProvisioner;
pub use resolve::{EngineSettings, ResolveError};
