//! What this process holds while a long world goes on, and how large the world's store is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetfoot_world::{Hears, Progress};
use serde::Serialize;

use crate::commands::bench::process::memory;
use crate::commands::output::say;

/// By then all that fills up to a bound is full.
const FULL_AT: u64 = 20_000;
/// Progress is told, and memory looked at, this often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Memory of this process, and the store of its long world.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Held {
    /// After the first 20,000 jobs.
    after_20000_jobs_mib: f64,
    /// At the end.
    end_mib: f64,
    /// In between, looked at every ten seconds.
    most_mib: f64,
    /// The store's file at the end, and at its largest.
    store_mib: f64,
    store_most_mib: f64,
}

impl Held {
    pub(super) fn text(&self) -> String {
        let Self { after_20000_jobs_mib: full, end_mib: end, most_mib: most, .. } = self;
        let (store, largest) = (self.store_mib, self.store_most_mib);
        format!(
            "resident: {full:.1} MiB after {FULL_AT} jobs, {end:.1} MiB at the end, {most:.1} MiB at most; \
             store: {store:.1} MiB at the end, {largest:.1} MiB at most"
        )
    }
}

#[derive(Default)]
struct Looks {
    told: Option<Instant>,
    held: Option<Held>,
}

/// Looks at this process while long worlds go on.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Looks>>);

impl Watch {
    pub(super) fn hears(&self) -> Hears {
        let watch = self.clone();
        Hears::new(move |progress| watch.look(progress))
    }

    /// What was held, if any world was long enough to tell.
    pub(super) fn held(&self) -> Option<Held> {
        self.looks().held
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, progress: &Progress) {
        let mut looks = self.looks();
        let is_full = progress.jobs >= FULL_AT;
        let due = looks.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        let last = is_full && progress.open == 0;
        let fills = is_full && looks.held.is_none();
        if !(due || last || fills) {
            return;
        }
        looks.told = Some(Instant::now());
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let Ok(resident) = memory(pid).map(|memory| mib(memory.rss_kib / 1024.0)) else { return };
        let store = mib(progress.store_bytes as f64 / 1_048_576.0);
        if is_full {
            let before = looks.held;
            let before = before.unwrap_or(Held {
                after_20000_jobs_mib: resident,
                end_mib: resident,
                most_mib: resident,
                store_mib: store,
                store_most_mib: store,
            });
            looks.held = Some(Held {
                end_mib: resident,
                most_mib: before.most_mib.max(resident),
                store_mib: store,
                store_most_mib: before.store_most_mib.max(store),
                ..before
            });
        }
        let hours = progress.simulated.as_secs_f64() / 3600.0;
        let Progress { jobs, open, .. } = progress;
        say(&format!(
            "{hours:.1} hours, {jobs} jobs over, {open} open, {resident:.1} MiB resident, store {store:.1} MiB"
        ));
    }
}

fn mib(exact: f64) -> f64 {
    (exact * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_told_once_all_is_full() {
        let watch = Watch::default();
        let at = |jobs, open, store_bytes| Progress {
            simulated: Duration::from_secs(3600),
            jobs,
            open,
            store_bytes,
        };
        watch.look(&at(FULL_AT - 1, 3, 1 << 20));
        assert_eq!(watch.held(), None);
        watch.look(&at(FULL_AT, 3, 3 << 20));
        watch.look(&at(2 * FULL_AT, 0, 2 << 20));
        let held = watch.held().unwrap();
        assert!(held.after_20000_jobs_mib > 0.0 && held.most_mib >= held.end_mib);
        assert_eq!((held.store_mib, held.store_most_mib), (2.0, 3.0));
    }
}
