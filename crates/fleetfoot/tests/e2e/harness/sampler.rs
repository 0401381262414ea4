//! Watches the directories of process instances: how many live at once, pool by pool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

/// The most that was ever seen at once, by pool.
pub(crate) struct Sampler {
    most: Arc<Mutex<BTreeMap<String, usize>>>,
    task: JoinHandle<()>,
}

impl Sampler {
    pub(crate) fn start(instances: PathBuf) -> Self {
        let most = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = most.clone();
        let task = tokio::spawn(async move {
            loop {
                let mut now: BTreeMap<String, usize> = BTreeMap::new();
                for (pool, _, _) in living(&instances) {
                    *now.entry(pool).or_default() += 1;
                }
                for (pool, count) in now {
                    let mut most = seen.lock().unwrap();
                    let entry = most.entry(pool).or_default();
                    *entry = count.max(*entry);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { most, task }
    }

    /// Checks the limits.
    pub(crate) fn never_above(self, limits: &[(&str, u32)]) {
        self.task.abort();
        let most = self.most.lock().unwrap();
        for (pool, limit) in limits {
            let seen = most.get(*pool).copied().unwrap_or_default();
            assert!(seen > 0, "pool {pool} was never seen at work");
            assert!(seen <= usize::try_from(*limit).unwrap(), "pool {pool}: {seen} > {limit}");
        }
    }
}

/// Pool, instance and shim of each instance that has begun and not ended.
fn living(instances: &Path) -> Vec<(String, String, i64)> {
    let mut all = Vec::new();
    for path in super::left::directories(instances) {
        let read = |name: &str| -> Option<Value> {
            serde_json::from_slice(&std::fs::read(path.join(name)).ok()?).ok()
        };
        if path.join("exit.json").exists() {
            continue;
        }
        if let (Some(meta), Some(record)) = (read("meta.json"), read("pid"))
            && let (Some(pool), Some(name), Some(pid)) =
                (meta["pool"].as_str(), meta["instance"].as_str(), record["pid"].as_i64())
        {
            all.push((path.clone(), (pool.to_owned(), name.to_owned(), pid)));
        }
    }
    // What lives at a second look as well lived at one moment: between the two.
    all.retain(|(path, _)| path.join("meta.json").exists() && !path.join("exit.json").exists());
    all.into_iter().map(|(_, one)| one).collect()
}

/// The shims of the instances that live now.
pub(crate) fn shims(instances: &Path) -> BTreeSet<(String, i64)> {
    living(instances).into_iter().map(|(_, name, pid)| (name, pid)).collect()
}
