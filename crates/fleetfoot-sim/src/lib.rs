//! A whole GitHub in a box, and a stand-in runner for it.
//!
//! The box serves on one loopback port what fleetfoot needs of GitHub: the scale set service with
//! its message sessions, App and registration tokens, and the REST calls for runners and groups.
//! It behaves as github.com does (or as GHES, by setting), with latency and faults on request, and
//! is behind `demo`, `sim`, `bench` and every end-to-end test.
//!
//! It spells the wire itself and knows neither the github room nor the controller, so a mistake in
//! one is caught by the other. Nothing in it guards anything real: its tokens are not secrets.
//!
//! # Start here
//!
//! ```no_run
//! use std::time::Duration;
//! use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let github = GithubBox::start(BoxConfig::default()).await?;
//! let url = github.config_url("acme"); // http://127.0.0.1:PORT/acme, with DEFAULT_TOKEN
//! # let _ = (url, DEFAULT_TOKEN);
//! // ... a client registers a scale set `linux` there and polls ...
//! github.queue_jobs(&QueueJobs::for_scale_set("acme", "linux", 60, 200));
//! let end = github
//!     .wait_until(Duration::from_secs(30), |state| state.summary.jobs_completed == 60)
//!     .await?;
//! assert_eq!(end.summary.jobs_started_twice, 0);
//! # Ok(()) }
//! ```
//!
//! From another process: [`serve`] prints one JSON line ([`Ready`]), [`ControlClient`] does all
//! control calls (plain JSON under `/_box/...`), [`runner::main`] is the runner.
//!
//! | Control call | Body → answer |
//! |---|---|
//! | `GET /_box/state`, `summary`, `settings`, `faults`, `jit-calls`, `requests`, `jobs/{id}`, `health` | → [`BoxState`], [`Summary`], [`Settings`], ... |
//! | `POST /_box/jobs` | [`QueueJobs`] → 201 [`Queued`] |
//! | `POST /_box/jobs/{id}/cancel` | → 204 |
//! | `POST /_box/jobs/{id}/tell` | [`Told`] → 204: a message that need not be true |
//! | `POST /_box/vanish` | [`ScaleSetRef`] → 204 |
//! | `POST /_box/expire` | [`ExpireRequest`] → 204 |
//! | `POST /_box/faults`, `DELETE /_box/faults` | [`Fault`] → 204 |
//! | `PATCH /_box/settings` | some keys of [`Settings`] → all of them |
//! | `POST /_box/cut` | → 204: every open connection ends, waiting polls too |
//! | `POST /_box/reset` | → 204 |
//!
//! # What it does
//!
//! - **Scopes** (`org`, `owner/repo`, `enterprises/name`) all exist; each is a world of its own.
//!   A job names a scope and a scale set (or labels) and waits if there is no such set yet.
//! - **Jobs** are assigned as far as the last poll's `X-ScaleSetMaxCapacity` goes, told in batches
//!   of at most 50 that come again until acknowledged, and handed to the first idle runner of the
//!   set. A set that advertised 0 when a job was queued never gets it. Not taken for
//!   [`Settings::withdraw_after_ms`]: withdrawn and assigned again three times, then cancelled.
//! - **Sessions**: one per set, 409 for a second, dropped after [`Settings::session_lapse_ms`]
//!   without a call in flight.
//! - **Runners** are offline from the JIT config until they connect; one job, then gone. A busy one
//!   refuses removal; one that vanishes stays busy for [`Settings::runner_lost_after_ms`].
//! - **Times** are microseconds on one clock ([`Job`], [`JitCall`], [`Session`]): queue to start is
//!   `started_us - queued_us`, own share of a controller is `arrived_us` of the JIT call minus
//!   `delivered_us`.
//! - **Containers** reach a box bound to an address of the host ([`BoxConfig::address`]); JIT
//!   configs name the host that the caller used, or [`Settings::runner_url`].
//! - **Faults** ([`Fault`]) choose by [`Endpoint`], scope, scale set, runner and count. As JSON:
//!
//! ```
//! let fault = r#"{"endpoint": "generate_jit_config", "scope": "acme", "times": 1,
//!     "response": {"kind": "status", "status": 403, "retry_after_s": 7}}"#;
//! # let _: fleetfoot_sim::Fault = serde_json::from_str(fault).unwrap();
//! let fault = r#"{"endpoint": "get_message", "scale_set": "linux", "skip": 2, "times": 1,
//!     "response": {"kind": "lose_answer"}}"#;
//! # let _: fleetfoot_sim::Fault = serde_json::from_str(fault).unwrap();
//! ```
//!
//! # Inside
//!
//! `state` is everything remembered, behind one short lock, without I/O; `http` reads, delays,
//! strikes and answers requests; `state::timers` does what happens by itself. A change wakes only
//! the polls of the scale set or runner it concerns.

mod agent;
mod clock;
mod config;
mod control;
mod faults;
mod github_box;
mod http;
mod looks;
mod model;
mod observe;
mod request;
pub mod runner;
mod serve;
mod state;
mod tasks;

pub use agent::{Agent, Work};
pub use config::{
    App, BoxConfig, DEFAULT_TOKEN, DeadSession, Flavor, Group, Installation, RateLimit,
    RunnerRelease, Settings, Token,
};
pub use control::{ControlClient, ControlError};
pub use faults::{Endpoint, Fault, FaultAction};
pub use github_box::{GithubBox, StartError, WaitedInVain};
pub use model::{
    BoxState, JitCall, Job, JobState, Label, Runner, ScaleSet, Session, Statistics, Summary,
};
pub use observe::Seen;
pub use request::{Expire, ExpireRequest, Muddle, QueueJobs, Queued, ScaleSetRef, Told};
pub use serve::{Ready, ServeError, ServeOptions, serve};
