//! Row `start`: from a queued job to the create call at the simulated backend, the store on disk.

use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_provisioner::InstanceName;
use fleetfoot_sim::{JobState, QueueJobs, Settings};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Measured;
use super::bare::{Bare, BareSession, Ledger};
use super::figure::{Figure, apart_ms, now_us, percentile};
use super::rig::{PoolLine, Rig, SCOPE, play};

const ROW: &str = "start";
const POOL: &str = "ours";
const BARE: &str = "bare";
const BOUND: Duration = Duration::from_secs(20);
/// Between two jobs, so that one's end is not measured with the other's start.
const PAUSE: Duration = Duration::from_millis(15);
const JOB_MS: u64 = 5;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let (warm_up, count) = if quick { (2, 20) } else { (10, 200) };
    let mut rig =
        Rig::start(Settings::default(), &[PoolLine { name: POOL.to_owned(), limit: 4 }]).await?;
    let mut bare = BareController::start(&rig).await?;
    let mut taken = Taken::default();
    for round in 0..warm_up + count {
        let bare_ms = bare.one(&rig).await?;
        let (ours_ms, to_jit_ms) = ours(&mut rig).await?;
        if round >= warm_up {
            taken.bare.push(bare_ms.create);
            taken.bare_to_jit.push(bare_ms.to_jit);
            taken.ours.push(ours_ms);
            taken.to_jit.push(to_jit_ms);
        }
    }
    bare.end().await;
    rig.end().await?;
    Ok(Measured::Figures(taken.figures()))
}

#[derive(Default)]
struct Taken {
    ours: Vec<f64>,
    bare: Vec<f64>,
    to_jit: Vec<f64>,
    bare_to_jit: Vec<f64>,
}

impl Taken {
    fn figures(&self) -> Vec<Figure> {
        let n = self.ours.len();
        let at = |metric: &str, percent: usize, ours: &[f64], bare: &[f64]| {
            let figure = Figure::new(
                ROW,
                format!("{metric}_p{percent}"),
                "ms",
                percentile(ours, percent),
                n,
            );
            figure.beside(percentile(bare, percent))
        };
        let above = percentile(&self.ours, 50) - percentile(&self.bare, 50);
        vec![
            at("queued_to_create", 50, &self.ours, &self.bare),
            at("queued_to_create", 95, &self.ours, &self.bare),
            Figure::new(ROW, "above_bare_p50", "ms", above, n).goal("at most 2"),
            at("delivered_to_jit", 50, &self.to_jit, &self.bare_to_jit),
            at("delivered_to_jit", 95, &self.to_jit, &self.bare_to_jit),
        ]
    }
}

/// One job through the measured controller: queued to create, delivered to JIT call.
async fn ours(rig: &mut Rig) -> Result<(f64, f64)> {
    let ids = rig.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, POOL, 1, JOB_MS));
    let id = ids.first().copied().context("no job was queued")?;
    let done = |state: &fleetfoot_sim::BoxState| {
        state.job(id).is_some_and(|job| job.state == JobState::Completed)
    };
    let state = rig.wait(BOUND, done).await?;
    rig.wait_quiet(BOUND).await?;
    tokio::time::sleep(PAUSE).await;
    let job = state.job(id).context("the box forgot a job")?;
    let name = job.runner.clone().context("a job without a runner")?;
    let created = rig.engine.engine.create_received(&InstanceName::new(&name)?);
    let created = created.context("a runner without a create call")?;
    let jit = state
        .jit_calls
        .iter()
        .find(|call| call.name == name)
        .context("a runner without a JIT call")?;
    let delivered = job.delivered_us.context("a job that was never told")?;
    Ok((apart_ms(job.queued_us, created.received_unix_us), apart_ms(delivered, jit.arrived_us)))
}

/// What bare code took for one job.
struct BareTimes {
    create: f64,
    to_jit: f64,
}

/// Bare code in the controller's place: the same polls, as many durable commits, the JIT call.
struct BareController {
    created: mpsc::UnboundedReceiver<(String, u64)>,
    tasks: JoinSet<()>,
}

impl BareController {
    async fn start(rig: &Rig) -> Result<Self> {
        let client = Bare::connect(&rig.github.url(), SCOPE).await?;
        let session = client.open(client.scale_set(BARE).await?).await?;
        let ledger = Ledger::new(rig.data.path())?;
        let (created_tx, created) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // A failure closes the channel, and the measurement with it.
            let _ = serve(&client, &session, &ledger, &created_tx).await;
        });
        Ok(Self { created, tasks })
    }

    async fn one(&mut self, rig: &Rig) -> Result<BareTimes> {
        let ids = rig.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, BARE, 1, JOB_MS));
        let id = ids.first().copied().context("no job was queued")?;
        let received = tokio::time::timeout(BOUND, self.created.recv()).await;
        let (name, created_us) = received?.context("bare code failed")?;
        let done = |state: &fleetfoot_sim::BoxState| {
            state.job(id).is_some_and(|job| job.state == JobState::Completed)
                && state.summary.runners == 0
        };
        let state = rig.github.wait_until(BOUND, done).await?;
        tokio::time::sleep(PAUSE).await;
        let job = state.job(id).context("the box forgot a job")?;
        let jit = state.jit_calls.iter().find(|call| call.name == name).context("no JIT call")?;
        let delivered = job.delivered_us.context("a job that was never told")?;
        Ok(BareTimes {
            create: apart_ms(job.queued_us, created_us),
            to_jit: apart_ms(delivered, jit.arrived_us),
        })
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(
    client: &Bare,
    session: &BareSession,
    ledger: &Ledger,
    created: &mpsc::UnboundedSender<(String, u64)>,
) -> Result<()> {
    let mut works = JoinSet::new();
    for number in 0_u64.. {
        let Some(message) = client.poll(session, 1).await? else { continue };
        // The message, the name of what it leads to, and the launch: three commits, as ours.
        ledger.commit("message")?;
        let acknowledging = (client.clone(), session.clone());
        if message.assigned > 0 {
            let name = format!("bare-{number}");
            let (client, ledger, created, set) =
                (client.clone(), ledger.clone(), created.clone(), session.set);
            works.spawn(async move {
                let begun = async {
                    ledger.commit(&name)?;
                    let jit = client.jit(set, &name).await?;
                    ledger.commit("launch")?;
                    anyhow::Ok(jit)
                };
                if let Ok(jit) = begun.await {
                    let _ = created.send((name, now_us()));
                    play(&jit).await;
                }
            });
        }
        let (client, session) = acknowledging;
        client.acknowledge(&session, message.id).await?;
        while works.try_join_next().is_some() {}
    }
    Ok(())
}
