//! Crate `scaleset`'s own listener, unchanged, runs jobs on the box in both flavors.

use std::convert::Infallible;
use std::time::Duration;

use fleetfoot_sim::{Flavor, Settings};
use scaleset::listener::{Event, Listener, Scaler};
use scaleset::{Client, ScaleSetId};

use crate::common::{SOON, client, github, jit, jobs, quick, runner, scale_set};

struct Starter {
    client: Client,
    set: ScaleSetId,
    started: u32,
    finished: u32,
}

impl Scaler for Starter {
    type Error = Infallible;

    async fn scale(&mut self, event: Event<'_>) -> Result<(), Infallible> {
        if let Some(message) = event.message() {
            self.finished += u32::try_from(message.jobs_completed().count()).unwrap();
        }
        let wanted = event.statistics().total_assigned_jobs;
        while self.started - self.finished < wanted {
            self.started += 1;
            let name = format!("linux-{}", self.started);
            drop(runner(&jit(&self.client, self.set, &name).await));
        }
        Ok(())
    }
}

async fn runs_jobs(settings: Settings) {
    let github = github(settings).await;
    let client = client(&github, "acme");
    let set = scale_set(&client, "linux").await;
    github.queue_jobs(&jobs(12, 20));
    let mut scaler = Starter { client: client.clone(), set: set.id, started: 0, finished: 0 };
    let listener = Listener::new(client, set.id, 4);
    let stop = async {
        github.wait_until(SOON, |state| state.summary.jobs_completed == 12).await.unwrap();
    };
    let running = listener.run(&mut scaler, stop);
    let ended = tokio::time::timeout(Duration::from_secs(30), running).await;
    ended.unwrap().unwrap();
    let state = github.state();
    assert_eq!(state.summary.jobs_succeeded, 12);
    assert_eq!(state.summary.sessions, 0, "the listener closed its session");
    assert!(state.jobs.iter().all(|job| job.starts == 1));
}

#[tokio::test]
async fn on_github_com() {
    runs_jobs(quick()).await;
}

#[tokio::test]
async fn on_ghes() {
    runs_jobs(Settings { flavor: Flavor::Ghes, ..quick() }).await;
}

#[tokio::test]
async fn with_a_byte_order_mark() {
    runs_jobs(Settings { byte_order_mark: true, ..quick() }).await;
}
