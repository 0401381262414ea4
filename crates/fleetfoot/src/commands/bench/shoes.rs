//! Row `shoes`: from a queued job to the `AddInstance` that reached the plugin, a hundred jobs at once, with one
//! plugin process for all calls and with one for each; beside them bare code with a bare gRPC call.

mod call;
pub(crate) mod plugin;

use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::{QueueJobs, Summary};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::Measured;
use super::bare::{Bare, BareSession, Ledger};
use super::figure::{Figure, apart_ms, percentile};
use super::myshoes::{Myshoes, Stage};
use super::rig::SCOPE;
use call::BarePlugin;

const ROW: &str = "shoes";
const JOBS: usize = 100;
const JOB_MS: u64 = 20;
const BOUND: Duration = Duration::from_secs(120);
/// The median of one round moves by ten milliseconds from one to the next.
const ROUNDS: usize = 15;
/// A call in a process of its own takes so much longer that fewer will do.
const PER_CALL_ROUNDS: usize = 5;
/// Between two looks at what nobody has heard of yet.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// For what follows the last message of a round.
const SETTLE: Duration = Duration::from_millis(200);
const SET: &str = "myshoes-bench";
const BARE: &str = "bare";
/// As long as a packed setup script.
const SCRIPT: usize = 4_000;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let rounds = if quick { 1 } else { ROUNDS };
    let mut stage = Stage::new().await?;
    let limits = [("SCALESET_MAX_RUNNERS", "100"), ("MAX_CONNECTIONS_TO_BACKEND", "100")];
    let mut daemon = stage.start(&limits).await?;
    daemon.create(SCOPE).await?;
    let mut bare = BareController::start(&stage).await?;
    stage.wait(BOUND, |summary| summary.polls == 2).await?;
    let mut taken = Taken::default();
    // The first call starts the plugin, which is not what is measured.
    bare.round(&stage, 1).await?;
    ours(&stage, &mut daemon, 1).await?;
    for _ in 0..rounds {
        let (added, called) = bare.round(&stage, JOBS).await?;
        taken.bare.extend(added);
        taken.call.extend(called);
        taken.ours.extend(ours(&stage, &mut daemon, JOBS).await?);
    }
    daemon.stop().await?;
    let per_call = [&limits[..], &[("PLUGIN_PROCESS_PER_CALL", "true")]].concat();
    let mut daemon = stage.start(&per_call).await?;
    stage.wait(BOUND, |summary| summary.polls == 2).await?;
    ours(&stage, &mut daemon, 1).await?;
    for _ in 0..rounds.min(PER_CALL_ROUNDS) {
        taken.per_call.extend(ours(&stage, &mut daemon, JOBS).await?);
    }
    daemon.stop().await?;
    bare.end().await;
    stage.end().await?;
    Ok(Measured::Figures(taken.figures()))
}

#[derive(Default)]
struct Taken {
    ours: Vec<f64>,
    per_call: Vec<f64>,
    bare: Vec<f64>,
    /// The bare call alone, from its begin.
    call: Vec<f64>,
}

impl Taken {
    fn figures(&self) -> Vec<Figure> {
        let n = self.ours.len();
        let at = |metric: &str, percent: usize, values: &[f64]| {
            let name = format!("{metric}_p{percent}");
            Figure::new(ROW, name, "ms", percentile(values, percent), values.len())
                .beside(percentile(&self.bare, percent))
        };
        let above = percentile(&self.ours, 50) - percentile(&self.bare, 50);
        let call = percentile(&self.call, 50);
        vec![
            at("queued_to_add", 50, &self.ours),
            at("queued_to_add", 95, &self.ours),
            Figure::new(ROW, "above_bare_p50", "ms", above, n).goal("at most 10"),
            Figure::new(ROW, "bare_call_p50", "ms", call, self.call.len()),
            at("queued_to_add_process_per_call", 50, &self.per_call),
            at("queued_to_add_process_per_call", 95, &self.per_call),
        ]
    }
}

/// Queues jobs; when each call reached the plugin, after the first one was queued.
async fn ours(stage: &Stage, daemon: &mut Myshoes, jobs: usize) -> Result<Vec<f64>> {
    let added = round(stage, SET, jobs).await?;
    daemon.quiet(BOUND).await?;
    Ok(added)
}

async fn round(stage: &Stage, set: &str, jobs: usize) -> Result<Vec<f64>> {
    let before = stage.machines.added().len();
    let ids = stage.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, set, jobs, JOB_MS));
    let first = ids.first().copied().context("no job was queued")?;
    let goal = stage.github.summary().jobs_queued_total;
    let over = |summary: &Summary| {
        summary.jobs_completed == goal && summary.runners == 0 && summary.polls == 2
    };
    let state = loop {
        stage.wait(BOUND, over).await?;
        // And everybody has heard of it: bare code still took in the last ends of its jobs while ours began.
        let state = stage.github.state();
        if state.scale_sets.iter().all(|it| it.undelivered == 0) {
            break state;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    tokio::time::sleep(SETTLE).await;
    let queued_us = state.job(first).context("the box forgot a job")?.queued_us;
    let added = stage.machines.added();
    Ok(added.iter().skip(before).map(|it| apart_ms(queued_us, it.received_us)).collect())
}

/// Bare code in the daemon's place: the same polls, as many durable commits, the JIT call, the gRPC call.
struct BareController {
    called: mpsc::UnboundedReceiver<u64>,
    tasks: JoinSet<()>,
    _plugin: BarePlugin,
}

impl BareController {
    async fn start(stage: &Stage) -> Result<Self> {
        let client = Bare::connect(&stage.github.url(), SCOPE).await?;
        let session = client.open(client.scale_set(BARE).await?).await?;
        let ledger = Ledger::new(stage.data.path())?;
        let plugin = BarePlugin::start(&stage.plugin, &stage.socket).await?;
        let (called_tx, called) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let (launches, asked) = mpsc::unbounded_channel();
        tasks.spawn(commit_together(ledger.clone(), asked));
        let channel = plugin.channel();
        let serving = Serving { client, session, ledger, launches, channel, called_tx };
        tasks.spawn(async move {
            // A failure closes the channel, and the measurement with it.
            let _ = serving.serve().await;
        });
        Ok(Self { called, tasks, _plugin: plugin })
    }

    /// Queued to received, and the call alone to received, the earliest beside the earliest.
    async fn round(&mut self, stage: &Stage, jobs: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let before = stage.machines.added().len();
        let added = round(stage, BARE, jobs).await?;
        let mut began = Vec::new();
        while began.len() < jobs {
            let next = tokio::time::timeout(BOUND, self.called.recv()).await?;
            began.push(next.context("bare code failed")?);
        }
        let mut received: Vec<u64> =
            stage.machines.added().iter().skip(before).map(|it| it.received_us).collect();
        began.sort_unstable();
        received.sort_unstable();
        let alone = began.iter().zip(&received).map(|(began, at)| apart_ms(*began, *at));
        Ok((added, alone.collect()))
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

struct Serving {
    client: Bare,
    session: BareSession,
    ledger: Ledger,
    launches: Commits,
    channel: Channel,
    called_tx: mpsc::UnboundedSender<u64>,
}

impl Serving {
    async fn serve(self) -> Result<()> {
        let mut works = JoinSet::new();
        let mut number = 0_u64;
        loop {
            let Some(message) = self.client.poll(&self.session, JOBS).await? else { continue };
            // The message, the names of what it leads to, and the launches: as few commits as do, as ours.
            self.ledger.commit("message")?;
            self.ledger.commit_rows(message.assigned)?;
            for _ in 0..message.assigned {
                number += 1;
                works.spawn(one(
                    self.client.clone(),
                    self.session.set,
                    self.launches.clone(),
                    self.channel.clone(),
                    self.called_tx.clone(),
                    format!("bare-{number}"),
                ));
            }
            self.client.acknowledge(&self.session, message.id).await?;
            while works.try_join_next().is_some() {}
        }
    }
}

/// Asks for a commit, and is answered when it is done.
type Commits = mpsc::UnboundedSender<oneshot::Sender<()>>;

/// Everything that was asked for meanwhile is one commit.
async fn commit_together(ledger: Ledger, mut asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    while let Some(first) = asked.recv().await {
        let mut together = vec![first];
        while let Ok(more) = asked.try_recv() {
            together.push(more);
        }
        // A failure answers nobody, and the measurement ends with it.
        if ledger.commit_rows(together.len()).is_err() {
            return;
        }
        for one in together {
            let _ = one.send(());
        }
    }
}

async fn one(
    client: Bare,
    set: i64,
    launches: Commits,
    channel: Channel,
    called: mpsc::UnboundedSender<u64>,
    name: String,
) {
    let work = async {
        let jit = client.jit(set, &name).await?;
        let (told, committed) = oneshot::channel();
        launches.send(told)?;
        committed.await?;
        let script = format!("{jit}{}", "x".repeat(SCRIPT.saturating_sub(jit.len())));
        call::add(channel, &name, SCOPE, &script).await
    };
    if let Ok(began) = work.await {
        // Nobody hears it after the measurement.
        let _ = called.send(began);
    }
}
