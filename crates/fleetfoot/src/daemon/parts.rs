//! The pools of one daemon come from two sides, its configuration and its targets. Each says its own, and the
//! controller is told of both together: what one side does not name is not thereby removed of the other.
//!
//! ```text
//! configuration ──▶ AllPools ──words, one after the other──▶ Turns ──▶ controller
//! targets ────────▶ AllPools ──┘
//! ```

use std::collections::BTreeSet;
use std::convert::Infallible;

use fleetfoot_controller::{Controller, HostLimits, PoolSettings, StartError};
use fleetfoot_core::PoolName;
use tokio::sync::{mpsc, oneshot, watch};

/// Words that wait for their turn. Each side waits for its own word to be done before it says another.
const WORDS_MAX: usize = 2;

/// Where both sides say what their pools are.
#[derive(Debug, Clone)]
pub(crate) struct AllPools {
    words: mpsc::Sender<Word>,
    /// The names that are none of a target's.
    of_file: watch::Receiver<BTreeSet<PoolName>>,
}

/// Applies what both sides say, one word after the other.
#[derive(Debug)]
pub(crate) struct Turns {
    words: mpsc::Receiver<Word>,
    of_file: watch::Sender<BTreeSet<PoolName>>,
    said: Said,
}

/// What both sides said last.
#[derive(Debug)]
struct Said {
    file: Vec<PoolSettings>,
    targets: Vec<PoolSettings>,
    host: HostLimits,
}

#[derive(Debug)]
struct Word {
    change: Change,
    done: oneshot::Sender<Result<(), StartError>>,
}

#[derive(Debug)]
enum Change {
    File(Vec<PoolSettings>, HostLimits),
    Targets(Vec<PoolSettings>),
}

/// Both ends, for a daemon that begins with these pools.
pub(crate) fn all_pools(
    file: Vec<PoolSettings>,
    targets: Vec<PoolSettings>,
    host: HostLimits,
) -> (AllPools, Turns) {
    let (words, taken) = mpsc::channel(WORDS_MAX);
    let (names, of_file) = watch::channel(names(&file));
    let said = Said { file, targets, host };
    (AllPools { words, of_file }, Turns { words: taken, of_file: names, said })
}

fn names(pools: &[PoolSettings]) -> BTreeSet<PoolName> {
    pools.iter().map(|pool| pool.name.clone()).collect()
}

impl AllPools {
    /// The names that are none of a target's.
    pub(crate) fn of_file(&self) -> BTreeSet<PoolName> {
        self.of_file.borrow().clone()
    }

    /// Serves these pools of the configuration, and the targets' as they are.
    pub(crate) async fn apply_file(
        &self,
        pools: Vec<PoolSettings>,
        host: HostLimits,
    ) -> Result<(), StartError> {
        self.say(Change::File(pools, host)).await
    }

    /// Serves these pools of targets, and the configuration's as they are.
    pub(crate) async fn apply_targets(&self, pools: Vec<PoolSettings>) -> Result<(), StartError> {
        self.say(Change::Targets(pools)).await
    }

    /// Done when it is applied. A daemon that ends applies nothing more.
    async fn say(&self, change: Change) -> Result<(), StartError> {
        let (done, answer) = oneshot::channel();
        if self.words.send(Word { change, done }).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }
}

impl Turns {
    /// Takes turns until the daemon ends.
    pub(crate) async fn run(mut self, controller: &Controller) -> Infallible {
        while let Some(Word { change, done }) = self.words.recv().await {
            let all = self.take(change);
            let applied = controller.apply(all, self.said.host.clone()).await;
            // Who asked may be gone; it is applied all the same.
            let _ = done.send(applied).is_ok();
        }
        std::future::pending().await
    }

    /// What is to be served from now on.
    fn take(&mut self, change: Change) -> Vec<PoolSettings> {
        match change {
            Change::File(pools, host) => {
                self.of_file.send_replace(names(&pools));
                (self.said.file, self.said.host) = (pools, host);
            }
            Change::Targets(pools) => self.said.targets = pools,
        }
        let is_free = |pool: &&PoolSettings| self.said.file.iter().all(|it| it.name != pool.name);
        let targets = self.said.targets.iter().filter(is_free);
        self.said.file.iter().chain(targets).cloned().collect()
    }
}
