//! What a case does: a small load, and what else it takes to come to the rarer points.
//!
//! Nobody says which point belongs to which scenario. Each scenario is run once without a crash, and
//! what it passed tells; a point takes the first scenario that passes it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Backend;
use super::bed::{Bed, Pool};
use super::story::Story;
use crate::process::run_quiet;

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
    /// A pool that is gone from the configuration while its job runs, and an operator's stop.
    Removed,
    /// A pool and its credential are gone from the configuration, and the others have other labels.
    Orphan,
    /// While it runs a pool joins the configuration, one leaves it, and the other has another label.
    Reload,
    /// A target of myshoes beside a pool: made, made larger, deleted; its machines are a plugin's.
    Targets,
    /// Two controllers share a database and two pools; each is told what concerns a pool of the other.
    Shared,
}

impl Scenario {
    /// All of one controller, the ones that pass the most first. The last is played once: it is no business of the
    /// backend of the pools.
    pub(super) const ALONE: [Self; 10] = [
        Self::Load,
        Self::LostAnswer,
        Self::Enterprise,
        Self::App,
        Self::SetGone,
        Self::LostStore,
        Self::Removed,
        Self::Orphan,
        Self::Reload,
        Self::Targets,
    ];

    /// Those that every backend of pools plays.
    pub(super) const ALL: &[Self] = Self::ALONE.split_at(9).0;

    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Enterprise => "enterprise",
            Self::App => "app",
            Self::LostAnswer => "lost answer",
            Self::SetGone => "set gone",
            Self::LostStore => "lost store",
            Self::Removed => "removed",
            Self::Orphan => "orphan",
            Self::Reload => "reload",
            Self::Targets => "targets",
            Self::Shared => "shared",
        }
    }

    /// Settings of its box. `dir` is for what all its cases share.
    pub(super) fn settings(self, dir: &Path) -> Result<Value> {
        Ok(match self {
            Self::Enterprise => json!({ "flavor": "ghes" }),
            Self::App | Self::Targets => {
                app_key(dir)?;
                let installations = json!([{ "id": 7, "account": super::github::ORG }]);
                json!({ "app": { "id": 5, "client_id": "Iv1.crash", "installations": installations } })
            }
            Self::Load
            | Self::LostAnswer
            | Self::SetGone
            | Self::LostStore
            | Self::Removed
            | Self::Orphan
            | Self::Reload
            | Self::Shared => json!({}),
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
        let idle =
            if matches!(self, Self::LostStore | Self::Shared) { "" } else { "    min_idle: 1\n" };
        let group = if self == Self::Shared { "" } else { "    runner_group: crew\n" };
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
            | Self::Removed
            | Self::Orphan
            | Self::Reload
            | Self::Targets
            | Self::Shared => bed.token(),
        }
    }

    /// Plays it to its end, with everything drained and the daemon stopped; the cancelled jobs.
    pub(super) fn play(self, bed: &mut Bed, crash: Option<String>) -> Result<Vec<u64>> {
        let credential = self.credential(bed);
        let mut story = Story::new(bed, credential, crash)?;
        match self {
            Self::Load => story.load()?,
            Self::Enterprise | Self::App => story.few_jobs()?,
            Self::LostAnswer => story.lost_answer()?,
            Self::SetGone => story.set_gone()?,
            Self::LostStore => story.lost_store()?,
            Self::Removed => story.removed()?,
            Self::Orphan => story.orphan()?,
            Self::Reload => story.reload()?,
            Self::Targets => story.targets()?,
            Self::Shared => story.shared()?,
        }
        story.end()
    }
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
