//! Row `libvirt`: from a queued job to its runner's process in an emulated guest, cold and in each way to wait.

pub(super) mod adopt;
mod bare;
mod guest;
mod spy;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_provisioner_libvirt::rpc::{Connection, ListFlags};
use fleetfoot_provisioner_libvirt::wire::Domain;
use fleetfoot_sim::{BoxConfig, BoxState, DEFAULT_TOKEN, GithubBox, JobState, QueueJobs};

use super::Measured;
use super::figure::{Figure, apart_ms, median};
use super::rig::SCOPE;
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory, Signals};
use bare::BareController;
use guest::Guest;
use spy::{Ask, Noted, Spy};

const ROW: &str = "libvirt";
const BOUND: Duration = Duration::from_secs(300);
const STOP_BOUND: Duration = Duration::from_secs(20);
const JOB_MS: u64 = 100;
const LOOK_EACH: Duration = Duration::from_millis(100);
/// A machine that waits suspended has done so for a while.
const STANDS_STILL: Duration = Duration::from_secs(2);
/// Rounds with a machine that waits, for each round with a boot: they take some tens of milliseconds, and an emulated
/// guest is late by as many now and then.
const WARM_ROUNDS: usize = 3;
/// libvirt's number of that state.
const PAUSED: i32 = 3;
/// Pools by how their machines come to a job, whether one waits for it, and how many there may be.
const WAYS: [Way; 4] = [
    ("cold", "running", 0, 1),
    ("running", "running", 1, 1),
    ("suspended", "suspended", 1, 1),
    ("snapshot", "snapshot", 0, 1),
];

type Way = (&'static str, &'static str, u32, usize);

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let rounds = if quick { 1 } else { 5 };
    on_stand(&WAYS, async |stand| all(stand, rounds).await).await
}

/// Measures with these pools, and removes everything after that.
async fn on_stand(
    ways: &[Way],
    work: impl AsyncFnOnce(&mut Stand) -> Result<Vec<Figure>>,
) -> Result<Measured> {
    let mut signals = Signals::new()?;
    let guest = match Guest::find() {
        Ok(guest) => guest,
        Err(why) => return Ok(Measured::Skipped(why)),
    };
    if let Err(error) = guest::talk(&guest.socket).await {
        return Ok(Measured::Skipped(format!("no libvirtd: {error:#}")));
    }
    let mut stand = Stand::new(guest, ways).await?;
    let measured = tokio::select! {
        biased;
        () = signals.asked() => Err(anyhow::anyhow!("interrupted")),
        measured = work(&mut stand) => measured,
    };
    stand.end().await?;
    measured.map(Measured::Figures)
}

/// A box, a controller behind a spy, and bare code's own connection, which goes the same way.
struct Stand {
    data: DataDirectory,
    guest: Guest,
    talk: Connection,
    spy: Spy,
    github: GithubBox,
    files: ControllerFiles,
    controller: Option<Controller>,
    /// In every name of ours, so that nobody else's machine is taken for one.
    mark: String,
}

/// What one job took, in milliseconds.
struct Took {
    started: f64,
    /// Of it, what neither libvirt, the guest nor GitHub took.
    own: f64,
    /// Of it, the delivery of the message and the JIT call.
    github: f64,
    /// The calls that let it go on and that start its program; the first may lie beside the JIT call.
    libvirt: f64,
}

impl Stand {
    async fn new(guest: Guest, ways: &[Way]) -> Result<Self> {
        let data = DataDirectory::new("bench")?;
        guest::runner_disk(data.path()).await?;
        let socket = data.path().join("libvirt.sock");
        let spy = Spy::start(&socket, guest.socket.clone())?;
        let talk = guest::talk(&socket).await?;
        let github = GithubBox::start(BoxConfig::default()).await?;
        // The guests' way to this host's loopback interface.
        let url = github.url().replace("127.0.0.1", "10.0.2.2");
        github.change(|settings| settings.runner_url = Some(url));
        let mark = format!("b{:06x}", fastrand::u32(..1 << 24));
        let token = data.path().join("token");
        std::fs::write(&token, DEFAULT_TOKEN).context("cannot write the token file")?;
        let mut config =
            format!("url: {}/{SCOPE}\ntoken_file: {}\nrunners:\n", github.url(), token.display());
        for (way, mode, warm, limit) in ways {
            let backend = guest.config(&socket, data.path(), mode);
            let _ = write!(
                config,
                "  {mark}-{way}:\n    labels: [{way}]\n    max_runners: {limit}\n    warm: {warm}\n    \
                 idle_timeout: 1s\n    boot_timeout: 5m\n{backend}"
            );
        }
        let files = ControllerFiles::write(data.path(), &config)?;
        Ok(Self { data, guest, talk, spy, github, files, controller: None, mark })
    }

    fn pool(&self, way: &str) -> String {
        format!("{}-{way}", self.mark)
    }

    async fn start(&mut self) -> Result<()> {
        let controller = self.controller.insert(Controller::start(&self.files)?);
        controller.wait_ready(BOUND).await.map(drop)
    }

    /// Waits until the pool has `warm` machines that wait, and no other instance is there.
    async fn wait_quiet(&mut self, way: &str, warm: usize) -> Result<()> {
        let pool = self.pool(way);
        let controller = self.controller.as_mut().context("no controller")?;
        let quiet = |status: &fleetfoot_api::Status| {
            let waits = |one: &&fleetfoot_api::InstanceStatus| one.phase == "warm";
            let of_pool = status.instances.iter().filter(|one| one.pool == pool);
            let others = status.instances.iter().filter(|one| !waits(one)).count();
            others == 0 && of_pool.filter(waits).count() == warm
        };
        controller.wait_status(BOUND, quiet).await.map(drop)
    }

    async fn wait(&mut self, wanted: impl FnMut(&BoxState) -> bool) -> Result<BoxState> {
        self.wait_within(BOUND, wanted).await
    }

    async fn wait_within(
        &mut self,
        bound: Duration,
        wanted: impl FnMut(&BoxState) -> bool,
    ) -> Result<BoxState> {
        let waited = self.github.wait_until(bound, wanted).await;
        if let Some(controller) = &mut self.controller {
            controller.check()?;
        }
        Ok(waited?)
    }

    /// Waits until the machine that waits is as it will be for a long time: rehearsed, its boot over, and still, if it
    /// is to be.
    async fn wait_ready(&self, way: &str, mode: &str) -> Result<()> {
        let pool = self.pool(way);
        let all = self.talk.domains(ListFlags::ALL).await?;
        let machine = all.into_iter().find(|it| it.name.starts_with(&pool));
        let machine = machine.context("no machine waits")?;
        let end = tokio::time::Instant::now() + BOUND;
        let is_ready = async || -> Result<bool> {
            if mode == "suspended" {
                return Ok(self.talk.state(&machine).await?.is_some_and(|it| it.0 == PAUSED));
            }
            let calls = self.spy.since(0, &machine.name);
            Ok(calls.iter().any(|it| it.ask == Ask::Exec && it.answered_us.is_some()))
        };
        while !is_ready().await? {
            anyhow::ensure!(tokio::time::Instant::now() < end, "a machine does not become ready");
            tokio::time::sleep(LOOK_EACH).await;
        }
        if mode == "suspended" {
            tokio::time::sleep(STANDS_STILL).await;
            return Ok(());
        }
        guest::quiet(&self.talk, &machine).await
    }

    /// One job of this pool to its end.
    async fn one(&mut self, way: &str) -> Result<Took> {
        let pool = self.pool(way);
        let ids = self.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, &pool, 1, JOB_MS));
        let id = ids.first().copied().context("no job was queued")?;
        let ended =
            |state: &BoxState| state.job(id).is_some_and(|job| job.state == JobState::Completed);
        let state = self.wait(ended).await?;
        let job = state.job(id).context("the box forgot a job")?;
        let name = job.runner.clone().context("a job without a runner")?;
        let jit = state.jit_calls.iter().find(|call| call.name == name).context("no JIT call")?;
        let jit = (jit.arrived_us, jit.answered_us.context("a JIT call without an answer")?);
        let delivered_us = job.delivered_us.context("a job that was never told")?;
        let calls = self.spy.since(job.queued_us, &name);
        let started_us = last(&calls, Ask::Exec)?.answered_us.context("no process was started")?;
        let resumed = calls.iter().filter(|it| it.ask == Ask::Resume);
        let ours = resumed.chain([last(&calls, Ask::Exec)?]);
        let took = |it: &Noted| it.answered_us.map_or(0.0, |at| apart_ms(it.sent_us, at));
        Ok(Took {
            started: apart_ms(job.queued_us, started_us),
            own: own_ms(delivered_us, &calls, jit)?,
            github: apart_ms(job.queued_us, delivered_us) + apart_ms(jit.0, jit.1),
            libvirt: ours.map(took).sum(),
        })
    }

    /// Ends and removes everything, however far it came.
    async fn end(mut self) -> Result<()> {
        if let Some(controller) = self.controller.take() {
            let _ = controller.stop(STOP_BOUND).await;
        }
        guest::clear(&self.talk, &[self.mark.clone()]).await?;
        clear_templates(&self.talk, self.data.path().to_owned()).await?;
        self.data.end_processes().await;
        self.data.remove()
    }
}

/// A template whose making was cut off has a name of its own; its disk is in our directory.
async fn clear_templates(talk: &Connection, directory: PathBuf) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(name) = name.strip_suffix(".qcow2") {
            guest::clear(talk, &[name.to_owned()]).await?;
        }
    }
    Ok(())
}

fn last(calls: &[Noted], ask: Ask) -> Result<&Noted> {
    let found = calls.iter().rev().find(|it| it.ask == ask);
    found.with_context(|| format!("no {ask:?} was seen at libvirt"))
}

/// From the message to the runner's start, without the calls of libvirt and GitHub and without the boot, which
/// begins with the machine and ends with the agent's first good answer. They may overlap.
fn own_ms(delivered_us: u64, calls: &[Noted], jit: (u64, u64)) -> Result<f64> {
    let exec = last(calls, Ask::Exec)?;
    let mut others = vec![jit];
    if let Some(created) = calls.iter().find(|it| matches!(it.ask, Ask::Create | Ask::Restore)) {
        let up = calls.iter().filter(|it| it.ask == Ask::Ping).find_map(|it| it.answered_us);
        others.push((created.sent_us, up.context("no agent answered")?));
    }
    for resume in calls.iter().filter(|it| it.ask == Ask::Resume) {
        others.push((resume.sent_us, resume.answered_us.context("a resume failed")?));
    }
    others.sort_unstable();
    let (mut own, mut from) = (0.0, delivered_us);
    for (begun, ended) in others {
        own += apart_ms(from.min(begun), begun);
        from = from.max(ended);
    }
    Ok(own + apart_ms(from.min(exec.sent_us), exec.sent_us))
}

async fn all(stand: &mut Stand, rounds: usize) -> Result<Vec<Figure>> {
    let mut boots = Vec::new();
    let mut bare = BareController::start(stand).await?;
    for round in 0..rounds {
        let machine = boot(stand, &format!("bare{round}"), &mut boots).await?;
        stand.talk.destroy(&machine).await?;
    }
    stand.start().await?;
    let mut figures = Vec::new();
    for (way, mode, warm, _) in WAYS {
        let (mut all, mut same_work, mut bare_calls) = (Vec::new(), Vec::new(), Vec::new());
        let mut bare_fresh = Vec::new();
        // The first clone of all makes the template.
        let first = usize::from(way == "snapshot");
        let rounds = if warm > 0 { rounds * WARM_ROUNDS } else { rounds };
        for round in 0..rounds + first {
            stand.wait_quiet(way, warm as usize).await?;
            if warm > 0 {
                // A new one in each round, as ours are: a program's second start costs less than its first.
                let machine = boot(stand, &format!("bare-{way}{round}"), &mut boots).await?;
                let took = bare.one(stand, &machine, mode == "suspended").await?;
                same_work.push(took.started);
                let calls = bare::calls(&stand.talk, &machine, &took.jit).await?;
                if mode == "suspended" {
                    bare_fresh.push(calls);
                    // Each stands still through one boot: ours through that of the bare one, the bare one through that
                    // of what takes the place of ours.
                    bare::stand_still(&stand.talk, &machine).await?;
                    stand.wait_ready(way, mode).await?;
                    all.push(stand.one(way).await?);
                    stand.wait_quiet(way, warm as usize).await?;
                    stand.wait_ready(way, mode).await?;
                    bare_calls.push(bare::go_on(&stand.talk, &machine, &took.jit).await?);
                    stand.talk.destroy(&machine).await?;
                    continue;
                }
                bare_calls.push(calls);
                stand.talk.destroy(&machine).await?;
                stand.wait_ready(way, mode).await?;
            }
            let took = stand.one(way).await?;
            if round >= first {
                all.push(took);
            }
        }
        let p50 = |of: fn(&Took) -> f64| median(&all.iter().map(of).collect::<Vec<_>>());
        let started = p50(|it| it.started);
        let (beside, goal) = match way {
            "running" | "suspended" => (&bare_calls, "ratio at most 1.2"),
            "snapshot" => (&boots, "ratio at most 0.333"),
            _ => (&boots, ""),
        };
        let figure =
            |metric: &str, value| Figure::new(ROW, format!("{way}_{metric}"), "ms", value, rounds);
        figures.push(figure("queued_to_started_p50", started).beside(median(beside)).goal(goal));
        if warm > 0 {
            // With the poll, three durable commits and the JIT call, which the calls of libvirt do not have.
            let same = figure("same_work_p50", started).beside(median(&same_work));
            figures.push(same.goal("ratio at most 1.2"));
            let share = figure("libvirt_share_p50", p50(|it| it.libvirt));
            figures.push(share.beside(median(&bare_calls)));
            if !bare_fresh.is_empty() {
                // A bare machine that stood still for two seconds beside nothing.
                figures.push(figure("bare_fresh_calls_p50", median(&bare_fresh)));
            }
            figures.push(figure("github_share_p50", p50(|it| it.github)));
        }
        if way != "snapshot" {
            figures.push(figure("own_share_p50", p50(|it| it.own)).goal("at most 150"));
        }
    }
    Ok(figures)
}

async fn boot(stand: &Stand, name: &str, boots: &mut Vec<f64>) -> Result<Domain> {
    let name = format!("{}-{name}", stand.mark);
    let (domain, took) = stand.guest.boot(&stand.talk, &name, stand.data.path()).await?;
    boots.push(took);
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_share_has_no_boot_and_no_call_of_others() {
        let noted = |ask, sent_us, answered_us| Noted::of(ask, sent_us, answered_us);
        let calls = [
            noted(Ask::Create, 5_000, Some(9_000)),
            noted(Ask::Ping, 10_000, None),
            noted(Ask::Ping, 20_000, Some(21_000)),
            noted(Ask::Exec, 30_000, Some(50_000)),
        ];
        let own = own_ms(1_000, &calls, (22_000, 26_000)).unwrap();
        assert!((own - (4.0 + 9.0 - 4.0)).abs() < 0.001, "{own}");
        let warm = [noted(Ask::Resume, 6_000, Some(8_000)), noted(Ask::Exec, 9_000, Some(10_000))];
        let own = own_ms(1_000, &warm, (2_000, 5_000)).unwrap();
        assert!((own - 3.0).abs() < 0.001, "{own}");
        assert!(own_ms(1_000, &warm[..1], (2_000, 5_000)).is_err());
    }
}
