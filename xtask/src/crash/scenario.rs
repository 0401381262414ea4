//! What a case does: a small load, and what else it takes to come to the rarer points.
//!
//! Nobody says which point belongs to which scenario. Each scenario is run once without a crash, and
//! what it passed tells; a point takes the first scenario that passes it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Backend;
use super::bed::{Bed, Pool};
use crate::process::run_quiet;

/// Everything that is waited for comes within this.
const BOUND: Duration = Duration::from_secs(60);

/// A story that a daemon is put through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scenario {
    /// Jobs over two pools, one cancelled, one in the moment of a removal; removals that fail; a drain.
    Load,
    /// A server that offers jobs.
    Enterprise,
    /// A GitHub App's credential.
    App,
    /// A JIT call that fails, and one whose answer is lost.
    LostAnswer,
    /// A scale set that GitHub removes.
    SetGone,
    /// The store is lost while a job runs, and a pool is not configured any more.
    LostStore,
    /// A pool and its credential are gone from the configuration, and the others have other labels.
    Orphan,
}

impl Scenario {
    /// All of them, the ones that pass the most first.
    pub(super) const ALL: [Self; 7] = [
        Self::Load,
        Self::LostAnswer,
        Self::Enterprise,
        Self::App,
        Self::SetGone,
        Self::LostStore,
        Self::Orphan,
    ];

    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Enterprise => "enterprise",
            Self::App => "app",
            Self::LostAnswer => "lost answer",
            Self::SetGone => "set gone",
            Self::LostStore => "lost store",
            Self::Orphan => "orphan",
        }
    }

    /// Settings of its box. `dir` is for what all its cases share.
    pub(super) fn settings(self, dir: &Path) -> Result<Value> {
        Ok(match self {
            Self::Enterprise => json!({ "flavor": "ghes" }),
            Self::App => {
                app_key(dir)?;
                let installations = json!([{ "id": 7, "account": super::github::ORG }]);
                json!({ "app": { "id": 5, "client_id": "Iv1.crash", "installations": installations } })
            }
            Self::Load | Self::LostAnswer | Self::SetGone | Self::LostStore | Self::Orphan => {
                json!({})
            }
        })
    }

    /// Its pools: two that work, and a third that some stories need.
    pub(super) fn pools(self, bed: &Bed, number: usize) -> Vec<Pool> {
        let pool = |letter: char, limit: usize, lines: String| Pool {
            name: format!("k{number}{letter}"),
            limit,
            lines,
        };
        // A name that is just being registered goes with a lost store: nobody may be at it then (7.2).
        let idle = if self == Self::LostStore { "" } else { "    min_idle: 1\n" };
        let group = "    runner_group: crew\n";
        let third = match (self, bed.backend()) {
            (Self::Orphan, _) => {
                let token = bed.dir().join("token.other");
                format!("    token_file: {}\n{}", token.display(), bed.backend_lines(false))
            }
            // Nobody has the image: it is asked for, in vain, and nobody else minds.
            (Self::Load, Backend::Docker) => bed
                .backend_lines(false)
                .replace(super::engine::IMAGE, "127.0.0.1:1/nobody/has:this")
                .replace("pull: never", "pull: missing"),
            (_, _) => bed.backend_lines(false),
        };
        vec![
            pool('a', 2, format!("{idle}{}", bed.backend_lines(false))),
            pool('b', 1, format!("{idle}{group}{}", bed.backend_lines(true))),
            pool('c', 1, third),
        ]
    }

    fn credential(self, bed: &Bed) -> String {
        match self {
            Self::App => format!(
                "github:\n  app:\n    client_id: Iv1.crash\n    installation_id: 7\n    private_key_file: {}",
                bed.dir().with_file_name("app.pem").display()
            ),
            Self::Load
            | Self::Enterprise
            | Self::LostAnswer
            | Self::SetGone
            | Self::LostStore
            | Self::Orphan => bed.token(),
        }
    }

    /// Plays it to its end, with everything drained and the daemon stopped; the cancelled jobs.
    pub(super) fn play(self, bed: &mut Bed, crash: Option<String>) -> Result<Vec<u64>> {
        let credential = self.credential(bed);
        let [a, b, c] = [0, 1, 2].map(|at| bed.pools.get(at).map(|it| it.name.clone()));
        let (a, b) = (a.context("no pool a")?, b.context("no pool b")?);
        let c = c.context("no pool c")?;
        let mut drained = vec![a.clone(), b.clone()];
        let mut cancelled = Vec::new();
        match self {
            Self::Load => {
                bed.configure(&credential, &[0, 1, 2])?;
                bed.start_tested(crash)?;
                let mut jobs = bed.github.queue(&a, 3, 300)?;
                jobs.extend(bed.github.queue(&b, 2, 200)?);
                all_done(bed, jobs.get(..1).unwrap_or_default())?;
                jobs.extend(bed.github.queue(&a, 1, 200)?);
                cancelled = bed.github.queue(&b, 1, 200)?;
                for job in &cancelled {
                    // It may be over already.
                    let _ = bed.github.cancel(*job);
                }
                all_done(bed, &jobs)?;
                idle_everywhere(bed, &[&a, &b])?;
                let failing = json!({ "kind": "status", "status": 500 });
                bed.github.fault("remove_runner", &a, &failing)?;
                bed.github.fault("delete_session", &a, &failing)?;
                let offered = json!({ "kind": "offer_job", "duration_ms": 300 });
                bed.github.fault("remove_runner", &b, &offered)?;
                drained.push(c);
            }
            Self::Enterprise | Self::App => {
                bed.configure(&credential, &[0, 1])?;
                bed.start_tested(crash)?;
                let mut jobs = bed.github.queue(&a, 2, 200)?;
                jobs.extend(bed.github.queue(&b, 2, 200)?);
                all_done(bed, &jobs)?;
            }
            Self::LostAnswer => {
                bed.configure(&credential, &[0, 1])?;
                let failing = json!({ "kind": "status", "status": 500 });
                bed.github.fault("generate_jit_config", &a, &failing)?;
                bed.github.fault("generate_jit_config", &a, &json!({ "kind": "lose_answer" }))?;
                bed.start_tested(crash)?;
                let jobs = bed.github.queue(&a, 2, 200)?;
                all_done(bed, &jobs)?;
            }
            Self::SetGone => {
                bed.configure(&credential, &[0, 1])?;
                bed.start_tested(crash)?;
                let jobs = bed.github.queue(&a, 1, 200)?;
                all_done(bed, &jobs)?;
                bed.until("no job of the set that goes", BOUND, |bed| {
                    Ok(bed.github.state()?.jobs.iter().all(|job| job.state == "completed"))
                })?;
                bed.github.vanish(&a)?;
                let jobs = bed.github.queue(&a, 2, 200)?;
                all_done(bed, &jobs)?;
            }
            Self::LostStore => {
                bed.configure(&credential, &[0, 1, 2])?;
                bed.start_plain()?;
                let (long, short) = (bed.github.queue(&a, 1, 3000)?, bed.github.queue(&c, 1, 500)?);
                running_then_killed(bed, &[&long[..], &short[..]].concat())?;
                all_done(bed, &short)?;
                for end in ["", "-wal", "-shm"] {
                    let file = bed.state_dir().join(format!("store.sqlite{end}"));
                    if file.exists() {
                        std::fs::remove_file(file)?;
                    }
                }
                bed.configure(&credential, &[0, 1])?;
                bed.start_tested(crash)?;
                let more = bed.github.queue(&b, 1, 200)?;
                all_done(bed, &[&long[..], &more[..]].concat())?;
            }
            Self::Orphan => {
                bed.configure_labeled(&credential, &[0, 1, 2], "before")?;
                bed.start_plain()?;
                let jobs = bed.github.queue(&c, 1, 500)?;
                running_then_killed(bed, &jobs)?;
                all_done(bed, &jobs)?;
                bed.configure(&credential, &[0, 1])?;
                bed.start_tested(crash)?;
                let jobs = bed.github.queue(&a, 1, 200)?;
                all_done(bed, &jobs)?;
            }
        }
        drain(bed, &drained)?;
        bed.stop()?;
        Ok(cancelled)
    }
}

fn all_done(bed: &mut Bed, jobs: &[u64]) -> Result<()> {
    bed.until("every job to complete", BOUND, |bed| {
        let state = bed.github.state()?;
        Ok(jobs.iter().all(|job| state.is(*job, "completed")))
    })
}

fn running_then_killed(bed: &mut Bed, jobs: &[u64]) -> Result<()> {
    bed.until("the jobs to run", BOUND, |bed| {
        let state = bed.github.state()?;
        Ok(jobs.iter().all(|job| state.job(*job).is_some_and(|job| job.starts > 0)))
    })?;
    bed.kill_daemon()
}

/// An idle runner in each pool: there is something alive to remove.
fn idle_everywhere(bed: &mut Bed, pools: &[&str]) -> Result<()> {
    bed.until("an idle runner in each pool", BOUND, |bed| {
        let Some(status) = bed.status()? else { return Ok(false) };
        let empty = Vec::new();
        let instances = status["instances"].as_array().unwrap_or(&empty);
        let idle =
            |pool: &&str| instances.iter().any(|it| it["pool"] == **pool && it["phase"] == "idle");
        Ok(pools.iter().all(idle))
    })
}

/// Drains the pools and waits until nothing is left in the store and at GitHub.
fn drain(bed: &mut Bed, pools: &[String]) -> Result<()> {
    for pool in pools {
        let words = ["drain", pool, "--output", "json"];
        bed.until("the drain to be taken", BOUND, |bed| Ok(bed.command(&words)?.is_some()))?;
    }
    bed.until("nothing to be left in the store", BOUND, |bed| {
        let status = bed.status()?;
        Ok(status.is_some_and(|it| it["instances"].as_array().is_some_and(Vec::is_empty)))
    })?;
    let pools = pools.to_vec();
    bed.until("no session to be left at GitHub", BOUND, |bed| {
        let state = bed.github.state()?;
        let open = |pool: &String| {
            state.scale_sets.iter().any(|set| set.name == *pool && set.session_id.is_some())
        };
        Ok(!pools.iter().any(open))
    })
}

/// A key for an App that this machine makes for itself, once.
fn app_key(dir: &Path) -> Result<()> {
    let (key, unfinished) = (dir.join("app.pem"), dir.join("app.pem.unfinished"));
    if key.exists() {
        return Ok(());
    }
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]);
    run_quiet(openssl.arg(&unfinished)).context("an App needs a key")?;
    std::fs::rename(unfinished, key)?;
    Ok(())
}
