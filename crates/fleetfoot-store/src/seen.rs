//! What this host remembers of a database that is elsewhere: how far the owners of its pools had come.
//!
//! Every commit counts its pool's writes up, every taking its epoch. So a database that says less of a pool than
//! this host has seen was put back to what it was before (design, 11.4), whoever put it back and from whatever copy.
//! The file lies in the state directory; without it nothing is concluded, nor of another installation's database.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fleetfoot_core::{Fleet, InstallationId};
use serde::{Deserialize, Serialize};

/// It is written this often at most: so much may be missing after a sudden end.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    /// Whose database it was.
    installation: String,
    /// Epoch and writes, by pool.
    pools: BTreeMap<String, (i64, i64)>,
}

impl Content {
    fn of(installation: &InstallationId, fleet: &Fleet) -> Self {
        let row = |(pool, row): (&fleetfoot_core::PoolName, &fleetfoot_core::Ownership)| {
            (pool.to_string(), (row.epoch, row.writes))
        };
        Self {
            installation: installation.to_string(),
            pools: fleet.pools.iter().map(row).collect(),
        }
    }
}

/// The memory of an open store.
#[derive(Debug)]
pub(crate) struct Seen {
    path: PathBuf,
    written: Content,
    written_at: Option<Instant>,
}

impl Seen {
    /// Reads what is remembered. A file that says nothing is none.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let written = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), written, written_at: None })
    }

    /// The database says less of a pool than was seen of it. A pool that it does not know may have been removed.
    pub(crate) fn is_past(&self, installation: &InstallationId, fleet: &Fleet) -> bool {
        let now = Content::of(installation, fleet);
        let less = |(pool, seen): (&String, &(i64, i64))| {
            now.pools.get(pool).is_some_and(|found| found < seen)
        };
        self.written.installation == now.installation && self.written.pools.iter().any(less)
    }

    /// Remembers how far it is, now and then; at once if it is the last time.
    pub(crate) fn note(
        &mut self,
        installation: &InstallationId,
        fleet: &Fleet,
        at_once: bool,
    ) -> io::Result<()> {
        let fresh = self.written_at.is_some_and(|at| at.elapsed() < EVERY);
        if fresh && !at_once {
            return Ok(());
        }
        let content = Content::of(installation, fleet);
        if content != self.written {
            let text = serde_json::to_string(&content).unwrap_or_default();
            // Without a sync: what a power cut takes of it makes it know less, never more.
            let partial = self.path.with_extension("new");
            fs::write(&partial, text)?;
            fs::rename(&partial, &self.path)?;
            self.written = content;
        }
        self.written_at = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetfoot_core::{Ownership, PoolName};

    fn fleet(pools: &[(&str, i64, i64)]) -> Fleet {
        let row = |(pool, epoch, writes): &(&str, i64, i64)| {
            let row = Ownership { owner: None, epoch: *epoch, host_id: None, writes: *writes };
            (PoolName::new(pool).unwrap(), row)
        };
        Fleet { pools: pools.iter().map(row).collect(), ..Fleet::default() }
    }

    #[test]
    fn less_than_was_seen_is_the_past() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database.seen");
        let [ours, other] = ["a", "b"].map(|id| InstallationId::new(id).unwrap());
        let mut seen = Seen::read(&path).unwrap();
        let then = fleet(&[("x", 2, 40), ("y", 7, 9)]);
        assert!(!seen.is_past(&ours, &then), "nothing is concluded from nothing");
        seen.note(&ours, &then, false).unwrap();
        seen.note(&ours, &fleet(&[("x", 2, 41)]), false).unwrap();
        let seen = Seen::read(&path).unwrap();
        for (found, past) in [
            (&[("x", 2, 40), ("y", 7, 9)][..], false),
            (&[("x", 2, 44), ("y", 8, 1)], false),
            (&[("x", 2, 39), ("y", 7, 9)], true),
            (&[("x", 1, 99), ("y", 7, 9)], true),
            // Removed, and another pool came.
            (&[("y", 7, 9), ("z", 1, 1)], false),
            (&[], false),
        ] {
            assert_eq!(seen.is_past(&ours, &fleet(found)), past, "{found:?}");
            assert!(!seen.is_past(&other, &fleet(found)), "another installation's");
        }
        std::fs::write(&path, "{").unwrap();
        assert!(!Seen::read(&path).unwrap().is_past(&ours, &fleet(&[])));
    }
}
