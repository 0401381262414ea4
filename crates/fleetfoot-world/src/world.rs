//! One world from its beginning to its end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::books::Books;
use crate::finish;
use crate::happening::{Happening, PeerChange};
use crate::levels;
use crate::log::{Line, shorten};
use crate::manners;
use crate::options::{Family, Options};
use crate::script::Script;
use crate::stage::Stage;
use crate::whole;
use crate::witness::Witness;

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant of design.md, section 1; 0 is a promise about jobs.
    pub invariant: u8,
    /// The instances, jobs and pools it is about.
    pub about: Vec<String>,
    /// What happened.
    pub text: String,
    /// When.
    pub at_ms: u64,
}

/// What became of a world.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Jobs that were queued.
    pub jobs: u64,
    /// Commits, calls and requests that were checked.
    pub steps: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// The families of faults it had.
    pub families: Vec<Family>,
    /// What was found broken.
    pub violation: Option<Violation>,
    /// It was ended before its end, and nothing is said of it.
    pub stopped: bool,
    /// All of its log if it was to be traced, the last lines of it if something was broken.
    pub lines: Vec<Line>,
    /// How often each family of faults and each hard case happened.
    pub occurred: BTreeMap<&'static str, u64>,
    /// The event log as bytes; equal for equal seeds.
    pub digest: u64,
}

impl Report {
    /// What a person needs to see of a violation.
    #[must_use]
    pub fn short(&self) -> Vec<Line> {
        match &self.violation {
            Some(violation) => shorten(&self.lines, &violation.about),
            None => Vec::new(),
        }
    }
}

/// Runs worlds.
#[derive(Debug)]
pub struct World;

impl World {
    /// Runs the world of `seed` on this thread, outside any runtime.
    #[must_use]
    pub fn run(seed: u64, options: &Options) -> Report {
        #[cfg(feature = "faults")]
        fleetfoot_faults::plant(options.defect);
        fastrand::seed(seed);
        let (script, chance) = script(seed, options);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let report = match runtime {
            Ok(runtime) => {
                runtime.block_on(async { live(Books::new(), seed, script, chance, options).await })
            }
            Err(error) => failed(seed, &error.to_string()),
        };
        #[cfg(feature = "faults")]
        fleetfoot_faults::plant(None);
        report
    }
}

/// What the seed chooses, and the chance that is left for later.
pub(crate) fn script(seed: u64, options: &Options) -> (Script, [Rng; 2]) {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut later = Rng::with_seed(seed.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ 1);
    let mut latest = Rng::with_seed(seed.wrapping_mul(0xA24B_AED4_963E_E407) ^ 2);
    let script = Script::new(&mut rng, &mut later, &mut latest, options);
    (script, [rng, later])
}

fn failed(seed: u64, why: &str) -> Report {
    let text = format!("the world could not be made: {why}");
    let violation = Violation { invariant: 0, about: Vec::new(), text, at_ms: 0 };
    Report { seed, violation: Some(violation), ..Report::default() }
}

/// What is due, in order of time; equal times in the order they were put in.
#[derive(Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    items: BTreeMap<u64, Happening>,
    next: u64,
}

impl Agenda {
    pub(crate) fn put(&mut self, at: Instant, what: Happening) {
        self.heap.push(Reverse((at, self.next)));
        self.items.insert(self.next, what);
        self.next += 1;
    }

    fn earliest(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    fn take(&mut self) -> Option<Happening> {
        let Reverse((_, number)) = self.heap.pop()?;
        self.items.remove(&number)
    }
}

async fn live(
    books: Books,
    seed: u64,
    script: Script,
    [rng, later]: [Rng; 2],
    options: &Options,
) -> Report {
    books.lock().log.all = options.trace;
    let witness = Witness { books: books.clone(), trace: options.trace };
    let _heard = tracing::subscriber::set_default(witness);
    let families = script.families.clone();
    let mut stage = match Stage::new(books.clone(), &script, rng, later) {
        Ok(stage) => stage,
        Err(why) => return failed(seed, &why),
    };
    stage.stop = options.stop.clone();
    stage.hears = options.hears.clone();
    let began = Instant::now();
    let mut agenda = Agenda::default();
    agenda.put(began, Happening::Start);
    if stage.several {
        let second = Happening::Peer(PeerChange::Start);
        agenda.put(began + Duration::from_secs(1), second);
    }
    for (at, what) in script.happenings {
        agenda.put(began + at, what);
    }
    let end = began + script.span;
    let outcome = async {
        play(&mut stage, &mut agenda, Some(end)).await?;
        finish::settle(&mut stage, &mut agenda).await
    };
    let outcome = outcome.await;
    let stopped = stage.stop.is_asked();
    if let Err(why) = outcome
        && !stopped
    {
        books.breaks(0, Vec::new(), why);
    }
    let jobs = stage.github.summary().jobs_queued_total;
    stage.end();
    let mut inner = books.lock();
    let violation = inner.violation.take();
    let keep = options.trace || violation.is_some();
    Report {
        seed,
        jobs,
        steps: inner.steps,
        simulated: began.elapsed(),
        families,
        violation,
        stopped,
        lines: if keep { inner.log.take() } else { Vec::new() },
        occurred: std::mem::take(&mut inner.occurred),
        digest: inner.log.digest(),
    }
}

/// Lets time pass until `until` (for ever: until something is broken), doing what is due.
pub(crate) async fn play(
    stage: &mut Stage,
    agenda: &mut Agenda,
    until: Option<Instant>,
) -> Result<(), String> {
    let books = stage.books.clone();
    loop {
        if stage.stop.is_asked() {
            return Err("stopped before its end".to_owned());
        }
        if books.lock().violation.is_some() {
            return Ok(());
        }
        let due = agenda.earliest();
        let next = match (due, until) {
            (Some(due), Some(until)) => due.min(until),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Ok(()),
        };
        let (gate, second) = (stage.gate(), stage.second_gate());
        let look = Instant::now() + Duration::from_secs(30);
        tokio::select! {
            biased;
            () = books.broken() => return Ok(()),
            () = gate.is_shut(), if stage.runs() => {
                stage.died(agenda).await?;
                continue;
            }
            () = second.is_shut(), if stage.second.is_some() => {
                stage.second_died(agenda).await?;
                continue;
            }
            () = tokio::time::sleep_until(next.min(look)) => {}
        }
        stage.keep_small();
        levels::note_waiting(&books, &stage.github);
        let waits = stage.health(|health| manners::disturbed(&books, health)).flatten();
        let late = whole::waits_too_long(&books);
        let round = whole::goes_round(&books);
        books.after(waits.into_iter().chain(late).chain(round).collect());
        let now = Instant::now();
        if due.is_some_and(|due| due <= now)
            && let Some(what) = agenda.take()
        {
            let what = if let Happening::Fault { family, what } = what {
                books.lock().occurs(family.name());
                *what
            } else {
                what
            };
            stage.happen(what, agenda).await?;
        } else if until.is_some_and(|until| until <= now) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_world_stays_in_memory() {
        let faults = Some(vec![Family::Crash, Family::Peers]);
        let options = Options { jobs: Some(8), hours: Some(0.1), faults, ..Options::default() };
        let mut rngs = [1, 2, 3].map(Rng::with_seed);
        let [rng, later, latest] = &mut rngs;
        let script = Script::new(rng, later, latest, &options);
        let [rng, later, _] = rngs;
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        let books = runtime.block_on(async {
            let books = Books::new();
            let watched = books.watched();
            let report = live(books, 1, script, [rng, later], &options).await;
            assert_eq!(report.violation, None);
            assert!(report.jobs >= 8);
            watched
        });
        drop(runtime);
        assert!(books.upgrade().is_none(), "somebody still holds the books");
    }
}
