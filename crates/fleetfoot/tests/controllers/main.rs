//! Three real controllers on one real database: killed, frozen, cut off, their database restarted under them.
//!
//! Each case has a box, an external engine, a database and three daemons of its own, each with its own way to
//! the database ([`proxy`]). All cases of a database run at once: they wait more than they work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test"
)]

mod bed;
mod cases;
#[path = "../e2e/harness/daemon.rs"]
#[expect(dead_code, reason = "the other tests use all of it")]
mod daemon;
mod database;
mod engine;
mod hosts;
mod proxy;
mod server;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use bed::Bed;
use database::{Database, Kind};

/// How long one thing may take before a test gives up: generous, since the machine may be busy.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// The case that ends its database server and starts it again: it has one of its own.
const ALONE: &str = "the_database_is_restarted";

/// Asks until there is an answer.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

macro_rules! all_at_once {
    ($kind:expr; $($path:ident::$case:ident),* $(,)?) => {{
        let only = std::env::var("FLEETFOOT_TEST_CASE").ok();
        let mut running = tokio::task::JoinSet::new();
        $(
            if only.as_deref().is_none_or(|only| only == stringify!($case)) {
                running.spawn(async move {
                    let database = if stringify!($case) == ALONE {
                        Database::alone($kind).await
                    } else {
                        Database::of($kind).await
                    };
                    let began = Instant::now();
                    $path::$case(&mut Bed::new(database).await).await;
                    eprintln!("{:?} {}: {:?}", $kind, stringify!($case), began.elapsed());
                });
            }
        )*
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    }};
}

async fn everything(kind: Kind) {
    if !kind.is_there() {
        return;
    }
    all_at_once!(
        kind;
        cases::one_is_killed_and_comes_back,
        cases::one_is_frozen_and_wakes,
        cases::one_is_cut_off_from_the_database,
        cases::the_database_is_restarted,
        hosts::pools_of_hosts_stay_where_they_are,
        hosts::unlike_settings_and_words_for_the_owner,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres() {
    everything(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mariadb() {
    everything(Kind::Mariadb).await;
}
