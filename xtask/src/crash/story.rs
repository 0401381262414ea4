//! The scenarios, told step by step. At any step the daemon may have to be started again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::bed::Bed;
use super::targets::SCALE_SET;

/// Everything that is waited for comes within this.
const BOUND: Duration = Duration::from_secs(90);

/// A scenario that is being played.
pub(super) struct Story<'a> {
    bed: &'a mut Bed,
    credential: String,
    crash: Option<String>,
    a: String,
    b: String,
    c: String,
    drained: Vec<String>,
    cancelled: Vec<u64>,
}

impl<'a> Story<'a> {
    pub(super) fn new(bed: &'a mut Bed, credential: String, crash: Option<String>) -> Result<Self> {
        let [a, b, c] = [0, 1, 2].map(|at| bed.pools.get(at).map(|it| it.name.clone()));
        let (a, b) = (a.context("no pool a")?, b.context("no pool b")?);
        let c = c.context("no pool c")?;
        let drained = vec![a.clone(), b.clone()];
        Ok(Self { bed, credential, crash, a, b, c, drained, cancelled: Vec::new() })
    }

    fn configure(&self, pools: &[usize]) -> Result<()> {
        self.bed.configure(&self.credential, pools)
    }

    /// Starts the daemon that is tested.
    fn start(&mut self) -> Result<()> {
        self.bed.start_tested(self.crash.take())
    }

    fn queue(&self, pool: &str, count: u64, duration_ms: u64) -> Result<Vec<u64>> {
        self.bed.github.queue(pool, count, duration_ms)
    }

    /// Jobs over two pools, some more in mid-way, one cancelled; then a drain in which each removal meets something.
    pub(super) fn load(&mut self) -> Result<()> {
        self.configure(&[0, 1, 2])?;
        self.start()?;
        let mut jobs = self.queue(&self.a, 3, 300)?;
        jobs.extend(self.queue(&self.b, 2, 200)?);
        self.all_done(jobs.get(..1).unwrap_or_default())?;
        jobs.extend(self.queue(&self.a, 1, 200)?);
        self.cancelled = self.queue(&self.b, 1, 200)?;
        for job in &self.cancelled {
            // It may be over already.
            let _ = self.bed.github.cancel(*job);
        }
        self.all_done(&jobs)?;
        self.idle_everywhere()?;
        let failing = json!({ "kind": "status", "status": 500 });
        self.bed.github.fault("remove_runner", &self.a, &failing)?;
        self.bed.github.fault("delete_session", &self.a, &failing)?;
        let offered = json!({ "kind": "offer_job", "duration_ms": 300 });
        self.bed.github.fault("remove_runner", &self.b, &offered)?;
        self.drained.push(self.c.clone());
        Ok(())
    }

    /// Few jobs over two pools.
    pub(super) fn few_jobs(&mut self) -> Result<()> {
        self.configure(&[0, 1])?;
        self.start()?;
        let mut jobs = self.queue(&self.a, 2, 200)?;
        jobs.extend(self.queue(&self.b, 2, 200)?);
        self.all_done(&jobs)
    }

    /// A JIT call that fails, one whose answer is lost, a listing that fails.
    pub(super) fn lost_answer(&mut self) -> Result<()> {
        self.configure(&[0, 1])?;
        let failing = json!({ "kind": "status", "status": 500 });
        self.bed.github.fault("generate_jit_config", &self.a, &failing)?;
        self.bed.github.fault("generate_jit_config", &self.a, &json!({ "kind": "lose_answer" }))?;
        self.start()?;
        self.bed.github.fail_listing()?;
        let jobs = self.queue(&self.a, 2, 200)?;
        self.all_done(&jobs)?;
        self.bed.until("a look-up to fail", BOUND, |bed| bed.github.listing_failed())?;
        self.bed.github.expire_queue_tokens()?;
        // Who was looked up in vain is not asked for again soon; a job shows that it is online.
        let mut jobs = self.queue(&self.a, 2, 100)?;
        jobs.extend(self.queue(&self.b, 1, 100)?);
        self.all_done(&jobs)
    }

    /// GitHub says that a scale set is gone that is there, and removes another.
    pub(super) fn set_gone(&mut self) -> Result<()> {
        self.configure(&[0, 1])?;
        let exception = "RunnerScaleSetNotFoundException";
        let gone = json!({ "kind": "status", "status": 404, "exception": exception });
        self.bed.github.fault("generate_jit_config", &self.b, &gone)?;
        self.start()?;
        let jobs = self.queue(&self.a, 1, 200)?;
        self.all_done(&jobs)?;
        self.bed.until("no job of the set that goes", BOUND, |bed| {
            Ok(bed.github.state()?.jobs.iter().all(|job| job.state == "completed"))
        })?;
        self.bed.github.vanish(&self.a)?;
        let jobs = self.queue(&self.a, 2, 200)?;
        self.all_done(&jobs)
    }

    /// The store is lost while a job runs and a pool with remains is not configured any more.
    pub(super) fn lost_store(&mut self) -> Result<()> {
        self.configure(&[0, 1, 2])?;
        self.bed.start_plain()?;
        let (long, short) = (self.queue(&self.a, 1, 3000)?, self.queue(&self.c, 1, 500)?);
        self.running_then_killed(&[&long[..], &short[..]].concat())?;
        self.all_done(&short)?;
        for end in ["", "-wal", "-shm"] {
            let file = self.bed.state_dir().join(format!("store.sqlite{end}"));
            if file.exists() {
                std::fs::remove_file(file)?;
            }
        }
        self.configure(&[0, 1])?;
        self.start()?;
        let more = self.queue(&self.b, 1, 200)?;
        self.all_done(&[&long[..], &more[..]].concat())
    }

    /// A pool is not configured any more while its job runs; an operator stops an instance.
    pub(super) fn removed(&mut self) -> Result<()> {
        let c = self.c.clone();
        self.configure(&[0, 1, 2])?;
        self.bed.start_plain()?;
        let jobs = self.queue(&self.c, 1, 1500)?;
        self.running_then_killed(&jobs)?;
        self.configure(&[0, 1])?;
        self.start()?;
        self.stop_one()?;
        self.all_done(&jobs)?;
        let a = self.a.clone();
        self.bed.until("the pool to be gone", BOUND, |bed| Ok(bed.serves(&a)? && !bed.serves(&c)?))
    }

    /// A pool and its credential are not configured any more; the others have other labels.
    pub(super) fn orphan(&mut self) -> Result<()> {
        self.bed.configure_labeled(&self.credential, &[0, 1, 2], "before")?;
        self.bed.start_plain()?;
        let jobs = self.queue(&self.c, 1, 500)?;
        self.running_then_killed(&jobs)?;
        self.all_done(&jobs)?;
        self.configure(&[0, 1])?;
        self.start()?;
        let jobs = self.queue(&self.a, 1, 200)?;
        self.all_done(&jobs)
    }

    /// While it runs: a pool joins the configuration, one leaves it in mid-job, the other has another label.
    pub(super) fn reload(&mut self) -> Result<()> {
        let (b, c) = (self.b.clone(), self.c.clone());
        self.configure(&[0, 1])?;
        self.start()?;
        let mut jobs = self.queue(&self.a, 1, 1500)?;
        jobs.extend(self.queue(&self.b, 1, 1500)?);
        self.started(&jobs)?;
        self.bed.configure_labeled(&self.credential, &[0, 2], "after")?;
        self.bed.hang_up()?;
        self.drained = vec![self.a.clone(), c.clone()];
        // Its job is offered once the pool has a scale set.
        self.bed.until("the new pool to be served", BOUND, |bed| {
            Ok(bed.serves(&c)? && bed.github.state()?.scale_sets.iter().any(|set| set.name == c))
        })?;
        jobs.extend(self.queue(&self.c, 1, 200)?);
        self.all_done(&jobs)?;
        self.bed
            .until("the old pool to be gone", BOUND, |bed| Ok(bed.serves(&c)? && !bed.serves(&b)?))
    }

    /// A target beside a pool: made, given jobs, made larger, deleted. Who gets no answer asks again.
    pub(super) fn targets(&mut self) -> Result<()> {
        self.configure(&[0])?;
        self.start()?;
        self.drained = vec![self.a.clone()];
        self.bed.until("the target to be made", BOUND, Bed::makes_target)?;
        self.bed.until("its scale set", BOUND, |bed| {
            Ok(bed.github.state()?.scale_sets.iter().any(|set| set.name == SCALE_SET))
        })?;
        let mut jobs = self.queue(&self.a, 1, 200)?;
        jobs.extend(self.queue(SCALE_SET, 2, 300)?);
        self.all_done(&jobs)?;
        self.bed.until("the target to be larger", BOUND, Bed::enlarges_target)?;
        jobs.extend(self.queue(SCALE_SET, 1, 200)?);
        self.all_done(&jobs)?;
        self.bed.until("the target to be deleted", BOUND, Bed::deletes_target)?;
        self.bed.until("its scale set to be gone", BOUND, |bed| {
            Ok(bed.github.state()?.scale_sets.iter().all(|set| set.name != SCALE_SET))
        })
    }

    /// Two controllers with a pool each and jobs in both. The tested one comes first, and is started again at once;
    /// at a third pass of a point it comes second, and the other goes on with what its crash left.
    pub(super) fn shared(&mut self) -> Result<()> {
        self.configure(&[0, 1])?;
        let is_later = self.crash.as_ref().is_some_and(|crash| crash.ends_with("#3"));
        if is_later {
            self.bed.start_peer()?
        } else {
            self.start()?
        }
        let mut jobs = self.queue(&self.a, 1, 200)?;
        // Alone, it has everything.
        self.all_done(&jobs)?;
        if is_later {
            self.bed.stay_away();
            self.start()?;
        } else {
            self.bed.start_peer()?;
        }
        self.bed.until("a pool for each", BOUND, |bed| Ok(bed.crashed || bed.owners()? == 2))?;
        jobs.extend(self.queue(&self.a, 3, 300)?);
        jobs.extend(self.queue(&self.b, 2, 300)?);
        self.all_done(&jobs)?;
        self.bed.bring_back()?;
        for pool in [&self.a, &self.b] {
            // Each is told what concerns the other's pool, and leaves word for it.
            self.bed.until("the other's word to be taken", BOUND, |bed| {
                let words = ["drain", pool, "--output", "json"];
                let told =
                    if bed.owns(pool)? { bed.peer_command(&words)? } else { bed.command(&words)? };
                Ok(told.is_some())
            })?;
        }
        Ok(())
    }

    /// Drains what is left, stops the daemon; the cancelled jobs.
    pub(super) fn end(mut self) -> Result<Vec<u64>> {
        self.drain()?;
        self.bed.stop()?;
        self.bed.stop_peer()?;
        Ok(self.cancelled)
    }

    fn all_done(&mut self, jobs: &[u64]) -> Result<()> {
        self.bed.until("every job to complete", BOUND, |bed| {
            let state = bed.github.state()?;
            Ok(jobs.iter().all(|job| state.is(*job, "completed")))
        })
    }

    fn started(&mut self, jobs: &[u64]) -> Result<()> {
        self.bed.until("the jobs to run", BOUND, |bed| {
            let state = bed.github.state()?;
            Ok(jobs.iter().all(|job| state.job(*job).is_some_and(|job| job.starts > 0)))
        })
    }

    fn running_then_killed(&mut self, jobs: &[u64]) -> Result<()> {
        self.started(jobs)?;
        self.bed.kill_daemon()
    }

    /// An idle runner in each pool: there is something alive to remove.
    fn idle_everywhere(&mut self) -> Result<()> {
        let pools = [self.a.clone(), self.b.clone()];
        self.bed.until("an idle runner in each pool", BOUND, |bed| {
            let Some(status) = bed.status()? else { return Ok(false) };
            let empty = Vec::new();
            let instances = status["instances"].as_array().unwrap_or(&empty);
            let idle = |pool: &String| {
                instances.iter().any(|it| it["pool"] == **pool && it["phase"] == "idle")
            };
            Ok(pools.iter().all(idle))
        })
    }

    /// Has an operator stop one instance of the pool, whichever comes first.
    fn stop_one(&mut self) -> Result<()> {
        let pool = self.a.clone();
        self.bed.until("an instance to be stopped", BOUND, |bed| {
            let status = bed.status()?.unwrap_or_default();
            let mut instances = status["instances"].as_array().into_iter().flatten();
            let Some(instance) = instances.find(|it| it["pool"] == *pool) else { return Ok(false) };
            let name = instance["name"].as_str().unwrap_or_default();
            Ok(bed.command(&["stop", name])?.is_some())
        })
    }

    /// Drains the pools and waits until nothing is left in the store and at GitHub.
    fn drain(&mut self) -> Result<()> {
        let pools = self.drained.clone();
        for pool in &pools {
            let words = ["drain", pool, "--output", "json"];
            self.bed
                .until("the drain to be taken", BOUND, |bed| Ok(bed.command(&words)?.is_some()))?;
        }
        self.bed.until("nothing to be left in the store", BOUND, |bed| {
            let status = bed.status()?;
            Ok(status.is_some_and(|it| it["instances"].as_array().is_some_and(Vec::is_empty)))
        })?;
        self.bed.until("no session to be left at GitHub", BOUND, |bed| {
            let state = bed.github.state()?;
            let open = |pool: &String| {
                state.scale_sets.iter().any(|set| set.name == *pool && set.session_id.is_some())
            };
            Ok(!pools.iter().any(open))
        })
    }
}
