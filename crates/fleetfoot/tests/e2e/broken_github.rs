//! GitHub at its worst: one pool is hurt, the other one goes on, and everything ends as if not.

use std::time::Duration;

use fleetfoot_sim::{
    DEFAULT_TOKEN, DeadSession, Endpoint, Expire, ExpireRequest, Fault, FaultAction, Settings,
    Token,
};

use crate::harness::{BOUND, Bed, Daemon, ORG, Sampler, eventually};

const POOLS: [(&str, u32); 2] = [("hurt", 4), ("well", 2)];

/// Two pools with a credential each.
async fn two_pools(change: impl FnOnce(&mut Settings)) -> (Bed, Daemon, Sampler) {
    let mut settings = Settings {
        tokens: vec![Token::new(DEFAULT_TOKEN), Token::new("ghp_another")],
        ..Settings::default()
    };
    change(&mut settings);
    let bed = Bed::with(settings).await;
    let other = bed.path("token2");
    std::fs::write(&other, "ghp_another").unwrap();
    let process = bed.process();
    let hurt = bed.config("", &[POOLS[0]], &process);
    let (name, limit) = POOLS[1];
    bed.write(&format!(
        "{hurt}  {name}:\n    labels: [{name}]\n    max_runners: {limit}\n    idle_timeout: 1s\n    boot_timeout: 30s\n    token_file: {}\n{process}",
        other.display()
    ));
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    (bed, daemon, sampler)
}

async fn finish(bed: Bed, daemon: Daemon, sampler: Sampler, jobs: u64) {
    bed.all_succeeded(jobs, Duration::from_secs(90)).await;
    bed.nothing_left().await;
    sampler.never_above(&POOLS);
    for (pool, _) in POOLS {
        let pool = bed.pool(pool).await;
        assert_eq!(pool["circuit"]["failures"], 0, "GitHub's failures count against none: {pool}");
    }
    daemon.stop().await;
}

async fn ended(bed: &Bed, jobs: &[u64]) {
    let done = |state: &fleetfoot_sim::BoxState| {
        jobs.iter().all(|id| state.job(*id).is_some_and(|job| job.completed_us.is_some()))
    };
    bed.github.wait_until(BOUND, done).await.unwrap();
}

/// One JIT call answered 500, 429 with Retry-After, 401, 403, or cut off: the others are served, and the
/// job is too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jit_calls_fail_once_in_every_way() {
    let (bed, daemon, sampler) = two_pools(|_| {}).await;
    let ways = [
        FaultAction::status(500),
        FaultAction::rate_limited(429, 2),
        FaultAction::status(401),
        FaultAction::status(403),
        FaultAction::Cut,
        FaultAction::EmptyBody,
        FaultAction::status(503),
    ];
    for way in ways {
        bed.github.inject(Fault::once(Endpoint::GenerateJitConfig, way).scale_set("hurt"));
    }
    let hurt = bed.queue("hurt", 20, 100);
    let well = bed.queue("well", 10, 100);
    ended(&bed, &well).await;
    ended(&bed, &hurt).await;
    // Each is told of, but for the one that only asks to wait; and nothing of it is held against the listener.
    let lines = daemon.lines();
    let failed = lines.iter().filter(|line| line["message"] == "instance start failed");
    let failed: Vec<_> = failed.map(|line| line["pool"].as_str().unwrap_or_default()).collect();
    assert!(failed.len() >= 5 && failed.iter().all(|pool| *pool == "hurt"), "{failed:?}");
    assert_eq!(daemon.count("listener failed"), 0);
    finish(bed, daemon, sampler, 30).await;
}

/// While GitHub refuses one credential altogether, the other one's pool does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_pool_disturbs_no_other() {
    let (bed, daemon, sampler) = two_pools(|_| {}).await;
    let long = bed.queue("well", 1, 8000)[0];
    bed.running(1).await;
    let before = bed.github.state().requests[&Endpoint::GenerateJitConfig];
    let refused = Fault::always(Endpoint::GenerateJitConfig, FaultAction::status(403));
    bed.github.inject(refused.scale_set("hurt"));
    let hurt = bed.queue("hurt", 6, 100);
    // Refused again and again; the job that runs goes on, and others start beside it.
    let refused = |state: &fleetfoot_sim::BoxState| {
        state.requests[&Endpoint::GenerateJitConfig] >= before + 2
    };
    let state = bed.github.wait_until(BOUND, refused).await.unwrap();
    assert!(state.job(long).unwrap().completed_us.is_none());
    let well = bed.queue("well", 10, 100);
    ended(&bed, &well).await;
    ended(&bed, &[long]).await;
    let state = bed.github.state();
    assert_eq!(state.job(long).unwrap().starts, 1);
    assert!(hurt.iter().all(|id| state.job(*id).unwrap().starts == 0));
    bed.github.clear_faults();
    finish(bed, daemon, sampler, 17).await;
}

/// The answer to a JIT call is lost after GitHub made the runner: the registration is found by its name
/// and removed, another instance takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_jit_answer_leaves_no_registration() {
    let (bed, daemon, sampler) = two_pools(|_| {}).await;
    let lose = Fault::once(Endpoint::GenerateJitConfig, FaultAction::LoseAnswer);
    bed.github.inject(lose.scale_set("hurt"));
    bed.queue("hurt", 6, 100);
    bed.queue("well", 2, 100);
    finish(bed, daemon, sampler, 8).await;
}

/// Sessions that die, told as 404 and as 400: a new one is opened and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_die() {
    for dead_session in [DeadSession::NotFound, DeadSession::BadRequest] {
        let (bed, daemon, sampler) =
            two_pools(|settings| settings.dead_session = dead_session).await;
        bed.queue("hurt", 10, 200);
        bed.queue("well", 6, 200);
        bed.running(1).await;
        let request = ExpireRequest {
            what: Expire::Sessions,
            scope: Some(ORG.to_owned()),
            scale_set: Some("hurt".to_owned()),
        };
        assert!(bed.github.expire(&request));
        bed.queue("hurt", 4, 200);
        finish(bed, daemon, sampler, 20).await;
    }
}

/// Tokens that expire are refreshed: those of the service, of registration, of the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_expire() {
    let (bed, daemon, sampler) = two_pools(|_| {}).await;
    for (round, what) in [Expire::QueueTokens, Expire::AdminTokens, Expire::RegistrationTokens]
        .into_iter()
        .enumerate()
    {
        let sessions = bed.github.state().sessions.len();
        assert!(bed.github.expire(&ExpireRequest { what, scope: None, scale_set: None }));
        bed.queue("hurt", 3, 100);
        bed.queue("well", 2, 100);
        bed.all_succeeded(5 * (u64::try_from(round).unwrap() + 1), BOUND).await;
        assert_eq!(bed.github.state().sessions.len(), sessions, "{what:?}: the session goes on");
    }
    finish(bed, daemon, sampler, 15).await;
}

/// A poll that hangs for ever holds up its own pool alone, and connections that are cut are opened anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_hang_and_connections_are_cut() {
    let (bed, daemon, sampler) = two_pools(|_| {}).await;
    bed.github.inject(Fault::once(Endpoint::GetMessage, FaultAction::Hang).scale_set("hurt"));
    bed.queue("hurt", 2, 100);
    ended(&bed, &bed.queue("well", 2, 100)).await;
    // The poll after the next message hangs.
    let control = bed.github.control();
    eventually("the poll hangs", BOUND, || async {
        let faults = control.faults().await.unwrap();
        faults.iter().any(|fault| fault.struck > 0).then_some(())
    })
    .await;
    let hurt = bed.queue("hurt", 6, 100);
    let well = bed.queue("well", 10, 100);
    ended(&bed, &well).await;
    let state = bed.github.state();
    assert!(hurt.iter().all(|id| state.job(*id).unwrap().delivered_us.is_none()));
    bed.github.cut_connections();
    bed.running(1).await;
    bed.github.cut_connections();
    finish(bed, daemon, sampler, 20).await;
}

/// A scale set that vanishes is made anew, and its jobs are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_set_vanishes() {
    let (bed, daemon, sampler) = two_pools(|_| {}).await;
    bed.queue("hurt", 2, 100);
    bed.queue("well", 2, 100);
    bed.all_succeeded(4, BOUND).await;
    let before = bed.github.state().scale_set(ORG, "hurt").unwrap().id;
    assert!(bed.github.vanish(ORG, "hurt"));
    bed.queue("hurt", 4, 100);
    bed.all_succeeded(8, BOUND).await;
    assert_ne!(bed.github.state().scale_set(ORG, "hurt").unwrap().id, before);
    finish(bed, daemon, sampler, 8).await;
}
