//! GitHub as GitHub speaks: credentials, REST, scale sets and message sessions.
//!
//! **What this room is for.** Everything that goes over the wire to github.com, GHE.com or a GitHub
//! Enterprise Server, in GitHub's own words: a *runner group*, a *scale set*, a *message session*,
//! a *runner*, a *JIT config*. It turns every way in which GitHub can refuse, delay or garble an
//! answer into one [`GithubError`] whose [`ErrorKind`] the caller can branch on and whose
//! [`Advice`] says what to do next.
//!
//! **What it does not know.** Instances, provisioners, the store, sizing. It keeps nothing on disk,
//! decides nothing about demand, and never starts a task of its own: what runs, runs in its
//! caller's future and may be dropped at any await.
//!
//! **Where to start.** [`Connection`] is the door: one per configuration URL and credential, shared
//! by all pools that use the pair. [`Session`] is the long poll of one scale set. `connection.rs`
//! lists the calls, `admin.rs` holds the token dance underneath them, `opening.rs` and
//! `session.rs` hold message sessions, and `error.rs` has the table of what an answer means.
//!
//! ```text
//!  Credentials ─▶ installation token ─▶ registration token ─▶ admin token      (admin.rs)
//!                        │                                        │
//!                   REST calls (rest.rs)          scale sets, runners, JIT (connection.rs)
//!                                                                 │
//!                                    session ─▶ poll · acknowledge · acquire   (session.rs)
//! ```
//!
//! Two HTTP clients carry it all (`http.rs`): one for long polls, HTTP/1 only, because an HTTP/2
//! connection has a stream limit behind which control calls would wait for minutes; and one for
//! control calls with a short timeout. Without TLS, and so without HTTP/2, calls about single
//! runners have a third one, which keeps more connections from one burst of jobs to the next.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::print_stderr,
        clippy::wildcard_enum_match_arm
    )
)]

mod admin;
mod agent;
mod app;
mod backoff;
mod breaker;
mod budget;
mod calls;
mod check;
mod clock;
mod config_url;
mod connection;
mod credentials;
mod error;
mod http;
mod installations;
mod message;
mod news;
mod nouns;
mod opening;
mod releases;
mod resolver;
mod rest;
mod session;
mod single_flight;
mod tokens;
mod wire;
mod within;

pub use self::http::{Http, HttpSettings, RateLimit, Roots, Shared};
pub use backoff::backoff;
pub use budget::BudgetState;
pub use calls::{BUCKETS, CallCounts, CallKind, Calls, Durations};
pub use check::CheckReport;
pub use config_url::{ConfigUrl, ConfigUrlError, Scope};
pub use connection::Connection;
pub use credentials::{Credentials, TokenSource};
pub use error::{Advice, ErrorKind, GithubError, Result};
pub use installations::{App, Installation, LIST_INSTALLATIONS, LIST_REPOSITORIES};
pub use message::{JobCompleted, JobInfo, JobStarted, Message, Statistics};
pub use nouns::{
    Jit, Label, LabelKind, Removal, Runner, RunnerGroup, ScaleSet, ScaleSetSpec, labels_differ,
};
pub use releases::{RunnerArchive, RunnerDownload, RunnerNotes, RunnerOffer, RunnerPlatform};
pub use rest::RunnerStatus;
pub use session::Session;
pub use within::{Answering, Within};
