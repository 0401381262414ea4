//! Bare code in the controller's place: the same polls, as many durable commits, the JIT call, and the calls of libvirt.

use anyhow::{Context, Result};
use fleetfoot_provisioner_libvirt::rpc::Connection;
use fleetfoot_provisioner_libvirt::wire::Domain;
use fleetfoot_sim::{BoxState, JobState, QueueJobs};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::bare::{Bare, BareSession, Ledger};
use super::super::figure::{apart_ms, now_us};
use super::super::rig::SCOPE;
use super::{BOUND, JOB_MS, STANDS_STILL, Stand, guest};

/// A client with a scale set of its own, that polls.
pub(super) struct BareController {
    client: Bare,
    session: BareSession,
    set: String,
    ledger: Ledger,
    assigned: mpsc::UnboundedReceiver<()>,
    number: u32,
    _polling: JoinSet<()>,
}

/// What bare code took for one job, in milliseconds, and the credential of that job's runner.
pub(super) struct BareTook {
    pub(super) started: f64,
    pub(super) jit: String,
}

impl BareController {
    pub(super) async fn start(stand: &Stand) -> Result<Self> {
        let client = Bare::connect(&stand.github.url(), SCOPE).await?;
        let set = stand.pool("bare");
        let session = client.open(client.scale_set(&set).await?).await?;
        let ledger = Ledger::new(stand.data.path())?;
        let (told, assigned) = mpsc::unbounded_channel();
        let mut polling = JoinSet::new();
        let of_task = (client.clone(), session.clone(), ledger.clone());
        polling.spawn(async move {
            let (client, session, ledger) = of_task;
            // A failure closes the channel, and the measurement with it.
            let _ = poll(&client, &session, &ledger, &told).await;
        });
        Ok(Self { client, session, set, ledger, assigned, number: 0, _polling: polling })
    }

    /// One job in this machine, which waited as ours do: from the queue to the start of its runner's process.
    pub(super) async fn one(
        &mut self,
        stand: &mut Stand,
        machine: &Domain,
        is_suspended: bool,
    ) -> Result<BareTook> {
        guest::quiet(&stand.talk, machine).await?;
        if is_suspended {
            stand.talk.suspend(machine).await?;
            tokio::time::sleep(STANDS_STILL).await;
        }
        let ids = stand.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, &self.set, 1, JOB_MS));
        let id = ids.first().copied().context("no job was queued")?;
        let assigned = tokio::time::timeout(BOUND, self.assigned.recv()).await?;
        assigned.context("bare code does not poll any more")?;
        self.number += 1;
        let name = format!("{}-{}", self.set, self.number);
        self.ledger.commit(&name)?;
        let resumed = async {
            if is_suspended {
                stand.talk.resume(machine).await?;
            }
            anyhow::Ok(())
        };
        let (jit, ()) = tokio::try_join!(self.client.jit(self.session.set, &name), resumed)?;
        self.ledger.commit("launch")?;
        guest::exec(&stand.talk, machine, guest::RUNNER, &jit).await?;
        let started_us = now_us();
        let ended =
            |state: &BoxState| state.job(id).is_some_and(|job| job.state == JobState::Completed);
        let state = stand.wait(ended).await?;
        let queued_us = state.job(id).context("the box forgot a job")?.queued_us;
        Ok(BareTook { started: apart_ms(queued_us, started_us), jit })
    }
}

/// Commits and acknowledges what comes, and tells of jobs.
async fn poll(
    client: &Bare,
    session: &BareSession,
    ledger: &Ledger,
    told: &mpsc::UnboundedSender<()>,
) -> Result<()> {
    loop {
        let Some(message) = client.poll(session, 1).await? else { continue };
        ledger.commit("message")?;
        if message.assigned > 0 {
            told.send(())?;
        }
        client.acknowledge(session, message.id).await?;
    }
}

/// How long the calls alone take that let a suspended machine go on and start the runner's program in it, with a
/// credential as long as a job's. The machine is one that waits, as ours: booted, quiet, started a program before,
/// stands still for a while.
pub(super) async fn calls(talk: &Connection, machine: &Domain, jit: &str) -> Result<f64> {
    stand_still(talk, machine).await?;
    tokio::time::sleep(STANDS_STILL).await;
    go_on(talk, machine, jit).await
}

/// Lets a machine stand still once it is quiet.
pub(super) async fn stand_still(talk: &Connection, machine: &Domain) -> Result<()> {
    guest::quiet(talk, machine).await?;
    Ok(talk.suspend(machine).await?)
}

/// How long it takes to let it go on and to start the runner's program in it.
pub(super) async fn go_on(talk: &Connection, machine: &Domain, jit: &str) -> Result<f64> {
    let began_us = now_us();
    talk.resume(machine).await?;
    guest::exec(talk, machine, guest::RUNNER, jit).await?;
    Ok(apart_ms(began_us, now_us()))
}
