//! The end of a world: the faults stop, and within a stated time all is well.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetfoot_core::{Exit, Instance, InstanceName, Observation, Reason};
use fleetfoot_provisioner::EnvironmentState;
use fleetfoot_sim::{Job, JobState};
use fleetfoot_store::Store;
use tokio::time::Instant;

use crate::books::{Books, Inner, Machine};
use crate::happening::Happening;
use crate::outside::ANOTHER_ENGINE;
use crate::script::PoolPlan;
use crate::search;
use crate::stage::Stage;
use crate::world::{Agenda, play};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// With nothing left to do, all is as it should be within this.
const SETTLES: Duration = Duration::from_secs(3600);
/// What one job may cost besides its own time.
const OVERHEAD: Duration = Duration::from_secs(60);
/// A JIT call was given up, and looked for twice, by this time after it was made.
const LATE_MS: u64 = 60_000;
/// A calm pool's job starts within this of being queued, if its controller is there.
const CALM_MS: u64 = 90_000;
/// A controller that came back may need as long: its old session may have to lapse.
const BACK_MS: u64 = 150_000;

/// What is not yet as it should be.
pub(crate) struct Wrong {
    invariant: u8,
    about: Vec<String>,
    text: String,
}

impl Wrong {
    pub(crate) fn tell(self, books: &Books) {
        books.breaks(self.invariant, self.about, self.text);
    }
}

fn wrong(invariant: u8, about: impl Into<String>, text: String) -> Wrong {
    Wrong { invariant, about: vec![about.into()], text }
}

/// Stops the faults and waits until nothing is left to do.
pub(crate) async fn settle(stage: &mut Stage, agenda: &mut Agenda) -> Result<(), String> {
    if stage.books.lock().violation.is_some() {
        return Ok(());
    }
    *agenda = Agenda::default();
    stage.calm_down();
    stage.peers_well();
    if stage.runs() {
        stage.reprieve();
        stage.gate().thaw();
        stage.came_back();
    } else {
        agenda.put(Instant::now(), Happening::Start);
    }
    play(stage, agenda, Some(Instant::now() + LOOK)).await?;
    if put_back(stage) {
        stage.again(agenda).await?;
    }
    if stage.unlike {
        // Whoever shares a store is given the same file in the end.
        stage.reload(None, agenda).await?;
    }
    clear_away(stage).await?;
    // One more job for each pool: it has to run, and GitHub's next message states its level again.
    let pools: Vec<_> = stage.pools.iter().filter(|plan| plan.configured).collect();
    let pools: Vec<_> = pools.into_iter().map(|plan| plan.name.clone()).collect();
    for pool in pools {
        stage.jobs(&pool, 1, 1000);
    }
    let bound = Instant::now() + bound(stage);
    loop {
        play(stage, agenda, Some(Instant::now() + LOOK)).await?;
        if stage.books.lock().violation.is_some() {
            return Ok(());
        }
        let late = Instant::now() >= bound;
        // What was not known then to be elsewhere may be by now, and another controller may have had its pool.
        clear_away(stage).await?;
        // The cheap look comes first, for as long as nobody asks what is wrong.
        if !late && miscounted(stage, &stage.books.lock()).is_some() {
            continue;
        }
        let Some(wrong) = left(stage) else { break };
        if late {
            wrong.tell(&stage.books);
            return Ok(());
        }
    }
    for wrong in judged(stage) {
        wrong.tell(&stage.books);
    }
    if stage.long {
        stage.tell_progress();
        if let Some(text) = stage.past_is_bounded().await {
            wrong(0, "", text).tell(&stage.books);
        }
    }
    Ok(())
}

/// Removed pools whose instances nobody can reach are put back by the operator, as the log asks for.
fn put_back(stage: &mut Stage) -> bool {
    let present = stage.books.lock().present.clone();
    let mut any = false;
    for plan in stage.pools.iter_mut().filter(|plan| !plan.configured) {
        let rows = present.get(&plan.name).is_some_and(|state| !state.instances.is_empty());
        if rows {
            plan.configured = true;
            any = true;
        }
    }
    stage.note_unserved();
    any
}

/// Engines that answered for a while do not come back: an operator clears away what they hold, and says so of each row.
async fn clear_away(stage: &Stage) -> Result<(), String> {
    for life in [&stage.incarnation, &stage.second].into_iter().flatten() {
        clear_away_at(stage, &life.store).await?;
    }
    Ok(())
}

/// What it says reaches the controller that has the pool.
async fn clear_away_at(stage: &Stage, store: &Store) -> Result<(), String> {
    let mut names = Vec::new();
    for (pool, state) in store.pools().iter().filter(|(pool, _)| store.owns(pool)) {
        for (name, row) in &state.instances {
            let Some(engine) = stage.engines.iter().find(|it| it.is_elsewhere(name)) else {
                // It was to be made by one that was gone by then, and holds nothing.
                let of = row.backend_identity.as_deref();
                let gone = [Some(ANOTHER_ENGINE), Some(Instance::HOLDER_UNCERTAIN)].contains(&of)
                    && !stage.engines.iter().any(|it| it.holds(name));
                names.extend(gone.then(|| name.clone()));
                continue;
            };
            stage.books.killed(pool, name, "is cleared away by hand");
            engine.end(name, Exit::default());
            engine.remove(name);
            stage.books.lock().names.entry(name.clone()).or_default().machine = Machine::Gone;
            names.push(name.clone());
        }
    }
    let now = stage.wall();
    let told = store.update(move |txn| {
        for name in names {
            let reason = Reason::OperatorForce;
            let _ = txn.observe(&name, &Observation::Removal { reason }, now).is_ok();
        }
    });
    let told = told.await.map_err(|error| error.to_string());
    // Of two controllers the other one may just have taken the pool; the time for all to be well goes on.
    if stage.several { Ok(()) } else { told }
}

fn bound(stage: &Stage) -> Duration {
    let open = stage.github.jobs_since(u64::MAX);
    let work = open.iter().map(|job| Duration::from_millis(job.duration_ms) + OVERHEAD);
    SETTLES + work.sum::<Duration>()
}

/// Jobs of pools that nobody serves any more wait for ever.
fn is_served(stage: &Stage, scale_set: &str) -> bool {
    stage.pools.iter().any(|plan| plan.configured && plan.name.as_str() == scale_set)
}

/// A pool with more or fewer instances than it keeps idle and made, and how many that is.
fn miscounted<'a>(stage: &'a Stage, inner: &Inner) -> Option<(&'a PoolPlan, u32)> {
    stage.pools.iter().find_map(|plan| {
        let most = if plan.configured { plan.spec.max_runners } else { 0 };
        let idle = plan.spec.min_idle.min(most);
        let kept = (idle + plan.spec.warm).min(most);
        // On a host that is too small for all, what waits for no job is made last and given up first.
        let least = if stage.host_max.is_some() { idle } else { kept };
        let rows = inner.present.get(&plan.name).map_or(0, |state| state.instances.len());
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        (!(least..=kept).contains(&rows)).then_some((plan, kept))
    })
}

/// The same in words.
fn rows_left(stage: &Stage, inner: &Inner) -> Option<Wrong> {
    let (plan, kept) = miscounted(stage, inner)?;
    let rows = inner.present.get(&plan.name).map(|state| {
        let rows = state.instances.values();
        rows.map(|row| format!("{} {}", row.name, row.phase.as_str())).collect::<Vec<_>>()
    });
    let text = format!("{}: {kept} instances should be left, there are {rows:?}", plan.name);
    Some(wrong(7, plan.name.as_str(), text))
}

/// The first thing that is not done or should not be there.
fn left(stage: &Stage) -> Option<Wrong> {
    if let Some(job) = stage.github.open_job(|scale_set| is_served(stage, scale_set)) {
        let text = format!("job {} is still {:?} long after the faults stopped", job.id, job.state);
        let mut wrong = wrong(0, format!("job{}.", job.id), text);
        wrong.about.extend(job.scale_set.clone());
        return Some(wrong);
    }
    let inner = stage.books.lock();
    let foreign: BTreeSet<&str> = stage.foreign.iter().map(|(_, name)| name.as_str()).collect();
    if let Some(wrong) = rows_left(stage, &inner) {
        return Some(wrong);
    }
    let rows = |name: &str| {
        inner.present.values().any(|state| state.instances.keys().any(|row| row.as_str() == name))
    };
    // What the store that was lost alone knew of, no evidence of ours names (design, 7.2).
    let forgotten = |name: &str| {
        let of = inner.names.iter().find(|(known, _)| known.as_str() == name);
        of.is_none_or(|(_, book)| book.epoch < inner.epoch)
    };
    for runner in &stage.github.runners() {
        let age_us = stage.github.now_us().saturating_sub(runner.registered_us);
        let registered_ms = inner.now_ms().saturating_sub(age_us / 1_000);
        let ours = !forgotten(&runner.name) && !foreign.contains(runner.name.as_str());
        // Nobody could ask GitHub about it, and nobody serves its pool to this day.
        let unverified = inner.manners.unverified.iter().any(|name| {
            let of_pool = inner.names.get(name).and_then(|book| book.pool.as_ref());
            name.as_str() == runner.name
                && of_pool.is_some_and(|pool| inner.manners.unserved.contains(pool))
        });
        // It landed when its call was long given up and its row closed, and nobody looks for its pool to this day.
        let late = inner.names.iter().any(|(name, book)| {
            name.as_str() == runner.name
                && registered_ms > book.jit_asked + LATE_MS
                && book.pool.as_ref().is_some_and(|pool| inner.manners.unserved.contains(pool))
        });
        let ours = ours && !unverified && !late;
        if ours && !rows(&runner.name) {
            let asked = inner.names.iter().find(|(name, _)| name.as_str() == runner.name);
            let later = asked.map_or(0, |(_, book)| registered_ms.saturating_sub(book.jit_asked));
            let text = format!(
                "{}: its runner is left at GitHub and no row names it, registered {} s after that was asked for",
                runner.name,
                later / 1_000
            );
            return Some(wrong(7, &runner.name, text));
        }
    }
    for (number, engine) in stage.engines.iter().enumerate() {
        // A backend without lists cannot tell what a lost store knew of.
        let blind = stage.pools.iter().any(|plan| plan.engine == number && !plan.listed);
        let mut served = stage.pools.iter().filter(|plan| plan.configured);
        let unseen = !served.any(|plan| plan.engine == number);
        for (of, info) in engine.environments() {
            // Neither can anybody of what an engine holds that does not answer any more, or at which no pool is left
            // that would look there.
            let unheard = blind || unseen || engine.is_elsewhere(&info.name);
            let unknown = inner.names.get(&info.name).is_some_and(|book| book.unknown);
            let known = !(unheard && (unknown || forgotten(info.name.as_str())));
            let mut served = stage.pools.iter().filter(|plan| plan.configured);
            let served = info.pool.as_ref().is_some_and(|pool| served.any(|it| it.name == *pool));
            // Its row was lost, nobody serves its pool, and it lives: it is left alone, and told.
            let left = !served
                && forgotten(info.name.as_str())
                && !matches!(info.state, EnvironmentState::Ended(_));
            let expected = known && !left && !inner.manners.left_alone.contains(&info.name);
            if of.as_str() == "world" && expected && !rows(info.name.as_str()) {
                let text = format!("{}: its environment is left and no row names it", info.name);
                return Some(wrong(7, info.name.as_str(), text));
            }
        }
    }
    None
}

/// What cannot be mended by waiting.
pub(crate) fn judged(stage: &Stage) -> Vec<Wrong> {
    let new = stage.github.jobs_since(stage.keeping.judged_until_us);
    let mut found: Vec<Wrong> = new.iter().filter_map(|job| judge(stage, job)).collect();
    found.extend(strangers(stage));
    let secrets = stage.books.lock().secrets.clone();
    for file in stage.files() {
        if std::fs::File::open(&file).is_ok_and(|open| search::holds_any(open, &secrets)) {
            found.push(wrong(10, "", format!("a secret is in {}", file.display())));
        }
    }
    found
}

fn judge(stage: &Stage, job: &Job) -> Option<Wrong> {
    let about = format!("job{}.", job.id);
    let runner = job.runner.clone().unwrap_or_default();
    let wrong = |invariant, text: String| {
        let about = vec![about.clone(), runner.clone()];
        Some(Wrong { invariant, about, text: format!("job {} {text}", job.id) })
    };
    if job.starts > 1 {
        return wrong(0, format!("was started {} times", job.starts));
    }
    let inner = stage.books.lock();
    let plan =
        stage.pools.iter().find(|plan| job.scale_set.as_deref() == Some(plan.name.as_str()))?;
    let book = InstanceName::new(&runner).ok().and_then(|name| inner.names.get(&name));
    let killed = book.is_some_and(|book| book.killed);
    let bad = job.state == JobState::Completed && job.result.as_deref() != Some("succeeded");
    if bad && !killed && !inner.cancelled.contains(&job.id) && plan.spec.max_job_duration.is_none()
    {
        // Withdrawn three times because nobody could serve it: GitHub cancels it.
        let withdrawn = job.starts == 0 && job.result.as_deref() == Some("canceled");
        if !withdrawn || plan.calm {
            return wrong(0, format!("ended as {:?} and nobody cancelled it", job.result));
        }
    }
    if plan.calm
        && let Some(started_us) = job.started_us
    {
        let begin_us = u64::try_from(crate::stage::EPOCH_MS).unwrap_or(0) * 1000;
        let from = job.queued_us.saturating_sub(begin_us) / 1000;
        let to = started_us.saturating_sub(begin_us) / 1000;
        let away = inner.away.iter().map(|(away, back)| (*away, back.map(|at| at + BACK_MS)));
        let full = inner.pools.get(&plan.name).map(|book| book.full.clone()).unwrap_or_default();
        let waited = (to - from).saturating_sub(covered(away.chain(full), from, to));
        if waited > CALM_MS {
            let text = format!("of a pool without faults waited {} s", waited / 1000);
            return wrong(8, text);
        }
    }
    None
}

/// How much of the time from `from` to `to` these spans cover together.
fn covered(spans: impl Iterator<Item = (u64, Option<u64>)>, from: u64, to: u64) -> u64 {
    let mut spans: Vec<(u64, u64)> = spans.map(|(at, end)| (at, end.unwrap_or(to))).collect();
    spans.sort_unstable();
    let (mut sum, mut until) = (0, from);
    for (at, end) in spans {
        let (at, end) = (at.max(until), end.min(to));
        if end > at {
            sum += end - at;
            until = end;
        }
    }
    sum
}

/// What is not ours is as it was.
fn strangers(stage: &Stage) -> Vec<Wrong> {
    let (runners, mut found) = (stage.github.runners(), Vec::new());
    for (engine, name) in &stage.foreign {
        let there = stage.engines[*engine].environments();
        if !there.iter().any(|(_, info)| info.name == *name) {
            found.push(wrong(
                2,
                name.as_str(),
                format!("{name}: somebody else's environment is gone"),
            ));
        }
        if !runners.iter().any(|runner| runner.name == name.as_str()) {
            found.push(wrong(2, name.as_str(), format!("{name}: somebody else's runner is gone")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_excuses_twice_counts_once() {
        let sum = |spans: &[(u64, Option<u64>)]| covered(spans.iter().copied(), 100, 200);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[(120, Some(130)), (110, Some(140))]), 30);
        assert_eq!(sum(&[(0, Some(110)), (190, None)]), 20);
        assert_eq!(sum(&[(0, None), (150, Some(160))]), 100);
        assert_eq!(sum(&[(0, Some(50)), (300, Some(400))]), 0);
    }
}
