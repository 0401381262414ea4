//! A bound on what failures log: while GitHub or a backend is away for hours, every pool says the same
//! again and again.
//!
//! Each place in the code may warn so often a minute for one pool, and so often over all pools; what is
//! beyond is left out, and one line says so. Lines below `warn` tell of jobs and instances, each once, and
//! are not counted.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Warnings and errors of one place in the code are counted over this long.
const WINDOW: Duration = Duration::from_secs(60);
/// So many of them for one pool, …
const POOL_MAX: u32 = 20;
/// … so many over all pools.
const PLACE_MAX: u32 = 200;
/// Pairs of a place and a pool that are counted; beyond it only places are.
const PAIRS_MAX: usize = 8192;

/// Lets warnings through up to a bound.
#[derive(Debug, Default)]
pub(super) struct Limit {
    counts: Mutex<HashMap<(Identifier, u64), Count>>,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    seen: u32,
    /// Left out in the window before this one.
    left_out: u32,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Through,
    /// The first one that is left out; how many were in the window before.
    First(u32),
    LeftOut,
}

impl Limit {
    fn judge(&self, place: &Identifier, pool: u64, now: Instant) -> Verdict {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= PAIRS_MAX {
            counts.retain(|_, count| now.duration_since(count.since) < WINDOW);
        }
        if pool != 0 && counts.len() < PAIRS_MAX {
            let of_pool = count(&mut counts, (place.clone(), pool), POOL_MAX, now);
            if of_pool != Verdict::Through {
                return of_pool;
            }
        }
        count(&mut counts, (place.clone(), 0), PLACE_MAX, now)
    }
}

fn count(
    counts: &mut HashMap<(Identifier, u64), Count>,
    key: (Identifier, u64),
    most: u32,
    now: Instant,
) -> Verdict {
    let count = counts.entry(key).or_insert(Count { since: now, seen: 0, left_out: 0 });
    if now.duration_since(count.since) >= WINDOW {
        *count = Count { since: now, seen: 0, left_out: count.seen.saturating_sub(most) };
    }
    count.seen = count.seen.saturating_add(1);
    match count.seen.checked_sub(most) {
        None | Some(0) => Verdict::Through,
        Some(1) => Verdict::First(count.left_out),
        Some(_) => Verdict::LeftOut,
    }
}

impl<S> Filter<S> for Limit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Our own notice comes through here, too.
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let verdict = self.judge(&metadata.callsite(), said.pool, Instant::now());
        if let Verdict::First(before) = verdict {
            tracing::warn!(
                phrase = said.phrase,
                pool = said.pool_name,
                left_out_before = before,
                "lines like this are left out for up to a minute"
            );
        }
        verdict == Verdict::Through
    }
}

/// What a line says and of which pool; 0 is none.
#[derive(Debug, Default)]
struct Said {
    phrase: String,
    pool: u64,
    pool_name: Option<String>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => {
                // Writing to a String does not fail.
                let _ = write!(self.phrase, "{value:?}");
            }
            "pool" | "connection" => {
                let name = format!("{value:?}");
                let mut hasher = DefaultHasher::new();
                name.hash(&mut hasher);
                self.pool = hasher.finish().max(1);
                self.pool_name = Some(name);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn failures_of_one_pool_are_bounded_and_hide_no_other_pool() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(Limit::default()));
        tracing::subscriber::with_default(subscriber, || {
            for attempt in 0..1000 {
                let pool = if attempt == 999 { "b" } else { "a" };
                tracing::warn!(pool, attempt, "listener failed");
                tracing::info!(pool, attempt, "job started");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let of = |phrase: &str| text.lines().filter(|line| line.contains(phrase)).count();
        assert_eq!(of("listener failed pool=\"a\""), 20);
        assert_eq!(of("listener failed pool=\"b\""), 1);
        // The notice itself is not heard here: a scoped subscriber, unlike the program's global one, does
        // not enter itself again.
        assert_eq!(of("job started"), 1000);
    }

    #[test]
    fn a_window_tells_of_the_one_before() {
        let place = tracing::callsite!(
            name: "place", kind: tracing::metadata::Kind::EVENT, fields:
        );
        let place = tracing::callsite::Callsite::metadata(place).callsite();
        let limit = Limit::default();
        let began = Instant::now();
        let judged: Vec<Verdict> = (0..25).map(|_| limit.judge(&place, 7, began)).collect();
        assert_eq!(judged.iter().filter(|it| **it == Verdict::Through).count(), 20);
        assert_eq!(judged[20], Verdict::First(0));
        assert_eq!(judged[24], Verdict::LeftOut);
        let later = began + WINDOW;
        for _ in 0..20 {
            assert_eq!(limit.judge(&place, 7, later), Verdict::Through);
        }
        assert_eq!(limit.judge(&place, 7, later), Verdict::First(5));
    }

    #[test]
    fn many_pools_together_are_bounded_too() {
        let place = tracing::callsite!(
            name: "places", kind: tracing::metadata::Kind::EVENT, fields:
        );
        let place = tracing::callsite::Callsite::metadata(place).callsite();
        let (limit, now) = (Limit::default(), Instant::now());
        let through = (1..20_000_u64)
            .filter(|pool| limit.judge(&place, *pool, now) == Verdict::Through)
            .count();
        assert_eq!(through, 200);
        assert!(limit.counts.lock().unwrap().len() <= PAIRS_MAX + 1);
    }
}
