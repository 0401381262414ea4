//! Many sets, many runners, many jobs. Sizes are small here; `FLEETFOOT_SIM_LOAD=10` multiplies.

use std::time::{Duration, Instant};

use fleetfoot_sim::{ControlClient, QueueJobs, ServeOptions, Settings, serve};

use crate::common::{client, github, quick};

fn factor() -> usize {
    std::env::var("FLEETFOOT_SIM_LOAD").ok().and_then(|value| value.parse().ok()).unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_polls_cost_nothing_and_jobs_of_many_sets_pass_quickly() {
    let sets = 200 * factor();
    let settings = Settings {
        long_poll_ms: 50_000,
        auto_runner_boot_ms: Some(1),
        session_lapse_ms: 120_000,
        ..quick()
    };
    let github = github(settings).await;
    let client = client(&github, "acme");
    let mut tasks = tokio::task::JoinSet::new();
    let opened = Instant::now();
    for number in 0..sets {
        let client = client.clone();
        tasks.spawn(async move {
            let set = crate::common::scale_set(&client, &format!("set-{number}")).await;
            let session = client.create_message_session(set.id, "load").await.unwrap();
            let mut runners = 0;
            loop {
                let Some(message) = session.get_message(None, 10).await.unwrap() else { continue };
                session.delete_message(message.id).await.unwrap();
                for _ in message.jobs_assigned() {
                    runners += 1;
                    let name = format!("set-{number}-{runners}");
                    crate::common::jit(&client, set.id, &name).await;
                }
            }
        });
    }
    let all = Duration::from_secs(60);
    let polls = sets as u64;
    github.control().wait_summary(all, |now| now.polls == polls).await.unwrap();
    println!("{sets} polls open after {:?}", opened.elapsed());
    let began = Instant::now();
    for _ in 0..5 {
        for number in 0..sets {
            github.queue_jobs(&QueueJobs::for_scale_set("acme", format!("set-{number}"), 1, 5));
        }
    }
    github.control().wait_all_completed(all).await.unwrap();
    let state = github.state();
    let rate = state.jobs.len() as f64 / began.elapsed().as_secs_f64();
    println!("{} jobs in {:?}: {rate:.0}/s", state.jobs.len(), began.elapsed());
    assert_eq!(state.summary.jobs_succeeded, 5 * polls);
    assert!(state.jobs.iter().all(|job| job.starts == 1));
    tasks.shutdown().await;
}

#[tokio::test]
async fn serve_prints_where_it_is_and_ends_when_told() {
    let (end, until) = tokio::sync::oneshot::channel::<()>();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("line");
    let out = std::fs::File::create(&path).unwrap();
    let options = ServeOptions { scope: "acme".to_owned(), ..ServeOptions::default() };
    let served = serve(options, out, async {
        let _ = until.await;
    });
    let used = async {
        let line = loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.ends_with('\n') {
                break text;
            }
            tokio::task::yield_now().await;
        };
        let ready: fleetfoot_sim::Ready = serde_json::from_str(&line).unwrap();
        assert_eq!(ready.config_url, format!("{}/acme", ready.url));
        let client = crate::common::client_with(&ready.config_url, &ready.token);
        crate::common::scale_set(&client, "linux").await;
        let control = ControlClient::new(&ready.control_url);
        assert_eq!(control.summary().await.unwrap().scale_sets, 1);
        end.send(()).unwrap();
    };
    let (served, ()) = tokio::join!(served, used);
    served.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runners_wait_on_one_set_and_each_takes_one_job() {
    let count = 100 * factor();
    let github = github(Settings { runner_poll_ms: 50_000, ..quick() }).await;
    let (client, set, session) = crate::common::listening(&github).await;
    let mut running = Vec::new();
    for number in 0..count {
        let encoded = crate::common::jit(&client, set.id, &format!("many-{number}")).await;
        running.push(crate::common::runner(&encoded));
    }
    let all = Duration::from_secs(120);
    let control = github.control();
    control.wait_summary(all, |now| now.runners_online == count as u64).await.unwrap();
    let began = Instant::now();
    control.queue_jobs(&crate::common::jobs(count, 1)).await.unwrap();
    while github.summary().jobs_completed < count as u64 {
        crate::common::take(&session, 100_000).await;
    }
    println!("{count} jobs on {count} waiting runners in {:?}", began.elapsed());
    assert_eq!((github.summary().jobs_succeeded, github.summary().runners), (count as u64, 0));
    for (running, _) in running {
        running.await.unwrap();
    }
}
