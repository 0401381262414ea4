//! The same against our own GitHub in a box, which spells the wire by itself.

use std::time::Duration;

use fleetfoot_github::{
    ConfigUrl, Connection, Credentials, ErrorKind, Http, HttpSettings, Removal, RunnerPlatform,
    ScaleSetSpec, TokenSource,
};
use fleetfoot_sim::{
    BoxConfig, DEFAULT_TOKEN, Endpoint, Expire, ExpireRequest, Fault, FaultAction, Flavor,
    GithubBox, Group, QueueJobs, RunnerRelease, Settings,
};

async fn start(settings: Settings) -> GithubBox {
    GithubBox::start(BoxConfig::with_settings(settings)).await.unwrap()
}

fn quick() -> Settings {
    Settings { long_poll_ms: 100, ..Settings::default() }
}

fn connection(github: &GithubBox, scope: &str) -> Connection {
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse(&github.config_url(scope)).unwrap();
    let token = TokenSource::fixed("test", DEFAULT_TOKEN.into());
    Connection::new(&http, &url, &Credentials::Token(token)).unwrap()
}

fn spec() -> ScaleSetSpec {
    ScaleSetSpec {
        name: "linux".into(),
        group_id: 1,
        labels: vec!["linux".into()],
        label_kind: fleetfoot_github::LabelKind::User,
    }
}

/// Serves jobs as a controller would, until so many have completed.
async fn serve(connection: &Connection, scope_jobs: usize, capacity: u32) -> usize {
    let set = connection.create_scale_set(&spec()).await.unwrap();
    let session = connection.open_session(set.id, "here").await.unwrap();
    let (mut last, mut runners, mut completed) = (None, 0, 0);
    while completed < scope_jobs {
        let Some(message) = session.poll(last, capacity).await.unwrap() else { continue };
        let offered: Vec<i64> = message.available.iter().map(|job| job.request_id).collect();
        session.acquire(&offered).await.unwrap();
        for _ in &message.assigned {
            runners += 1;
            connection.jit_config(set.id, &format!("linux-{runners}")).await.unwrap();
        }
        completed += message.completed.len();
        session.acknowledge(message.id).await.unwrap();
        last = Some(message.id);
    }
    session.close().await.unwrap();
    runners
}

#[tokio::test]
async fn jobs_of_both_flavors_run() {
    for flavor in [Flavor::Github, Flavor::Ghes] {
        let settings =
            Settings { flavor, byte_order_mark: true, auto_runner_boot_ms: Some(5), ..quick() };
        let github = start(settings).await;
        let connection = connection(&github, "acme");
        connection.create_scale_set(&spec()).await.unwrap();
        github.queue_jobs(&QueueJobs::for_scale_set("acme", "linux", 5, 20));
        let runners = tokio::time::timeout(Duration::from_secs(30), serve(&connection, 5, 2));
        assert_eq!(runners.await.expect("in time"), 5, "{flavor:?}");
        assert_eq!(github.summary().jobs_completed, 5);
        assert_eq!(connection.list_runners().await.unwrap(), []);
    }
}

#[tokio::test]
async fn scopes_groups_and_runners() {
    let mut open = Group::new("open");
    open.allows_public_repositories = true;
    let github = start(Settings { groups: vec![open], ..quick() }).await;
    for scope in ["acme", "acme/app", "enterprises/big"] {
        let connection = connection(&github, scope);
        let set = connection.create_scale_set(&spec()).await.unwrap();
        let jit = connection.jit_config(set.id, "linux-1").await.unwrap();
        let listed = connection.list_runners().await.unwrap();
        assert_eq!(listed.len(), 1, "{scope}");
        assert_eq!((listed[0].id, listed[0].online, listed[0].busy), (jit.runner_id, false, false));
        let exists = connection.jit_config(set.id, "linux-1").await.unwrap_err();
        assert_eq!(exists.kind(), &ErrorKind::RunnerExists);
        assert_eq!(connection.remove_runner(jit.runner_id).await.unwrap(), Removal::Gone);
        assert_eq!(connection.runner_by_id(jit.runner_id).await.unwrap(), None);
        connection.check().await.unwrap();
    }
    let group = connection(&github, "acme").runner_group("open").await.unwrap().unwrap();
    assert_eq!(group.allows_public_repositories, Some(true));
}

#[tokio::test]
async fn dead_sessions_and_vanished_sets() {
    let github = start(quick()).await;
    let connection = connection(&github, "acme");
    let set = connection.create_scale_set(&spec()).await.unwrap();
    let session = connection.open_session(set.id, "here").await.unwrap();
    let conflict = connection.open_session(set.id, "there").await.unwrap_err();
    assert_eq!(conflict.kind(), &ErrorKind::Conflict);
    let expire =
        |what| ExpireRequest { what, scope: Some("acme".into()), scale_set: Some("linux".into()) };
    assert!(github.expire(&expire(Expire::QueueTokens)));
    assert_eq!(session.poll(None, 1).await.unwrap(), None, "renewed");
    assert!(github.expire(&expire(Expire::Sessions)));
    let gone = session.poll(None, 1).await.unwrap_err();
    assert_eq!(gone.kind(), &ErrorKind::SessionGone, "{}", gone.chain());
    let session = connection.open_session(set.id, "here").await.unwrap();
    assert!(github.vanish("acme", "linux"));
    let gone = session.poll(None, 1).await.unwrap_err();
    assert!(
        matches!(gone.kind(), ErrorKind::ScaleSetGone | ErrorKind::SessionGone),
        "{}",
        gone.chain()
    );
    let gone = connection.open_session(set.id, "here").await.unwrap_err();
    assert_eq!(gone.kind(), &ErrorKind::ScaleSetGone);
    let gone = connection.jit_config(set.id, "linux-1").await.unwrap_err();
    assert_eq!(gone.kind(), &ErrorKind::ScaleSetGone);
    session.close().await.expect("gone is gone");
}

#[tokio::test]
async fn a_lost_jit_answer_can_be_cleared_by_name() {
    let github = start(quick()).await;
    let connection = connection(&github, "acme");
    let set = connection.create_scale_set(&spec()).await.unwrap();
    github.inject(Fault::once(Endpoint::GenerateJitConfig, FaultAction::LoseAnswer));
    let lost = connection.jit_config(set.id, "linux-1").await.unwrap_err();
    assert!(lost.may_have_landed(), "{}", lost.chain());
    let runner = connection.runner_by_name("linux-1").await.unwrap().unwrap();
    assert_eq!(connection.remove_runner(runner.id).await.unwrap(), Removal::Gone);
}

#[tokio::test]
async fn cut_connections_and_empty_bodies_are_survived() {
    let github = start(Settings { long_poll_ms: 5_000, ..Settings::default() }).await;
    let connection = connection(&github, "acme");
    let set = connection.create_scale_set(&spec()).await.unwrap();
    let session = connection.open_session(set.id, "here").await.unwrap();
    let (polled, ()) = tokio::join!(session.poll(None, 1), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        github.cut_connections();
    });
    assert_eq!(polled.unwrap_err().kind(), &ErrorKind::Unreachable);
    github.inject(Fault::once(Endpoint::GetMessage, FaultAction::EmptyBody));
    assert_eq!(session.poll(None, 1).await.unwrap(), None);
    github.inject(Fault::once(Endpoint::GetScaleSet, FaultAction::Cut));
    connection.scale_set(1, "linux").await.unwrap().expect("asked again");
}

/// The newest release and an older one, each by what GitHub states of it, and its archive to the last byte.
#[tokio::test]
async fn releases_of_the_runner() {
    let release = |version: &str| RunnerRelease::new(version, "/bin/true");
    let mut old = release("2.335.0");
    old.days = 40;
    let releases = vec![old, release("2.336.0")];
    let github = start(Settings { runner_releases: releases, ..quick() }).await;
    let platform = RunnerPlatform { os: "linux", architecture: "x64" };
    for scope in ["acme", "acme/app", "enterprises/acme"] {
        let connection = connection(&github, scope);
        let newest = connection.newest_runner(platform).await.unwrap().unwrap();
        assert_eq!(newest.version, "2.336.0", "{scope}");
        let all = connection.newest_runners().await.unwrap();
        let found = all.iter().find(|it| it.os == "linux" && it.architecture == "x64").unwrap();
        assert_eq!(
            (&found.version, found.sha256.as_ref()),
            (&newest.version, Some(&newest.sha256))
        );
        let notes = connection.runner_notes("2.335.0", platform).await.unwrap();
        let age = notes.published.unwrap().elapsed().unwrap().as_secs() / 86_400;
        assert_eq!(age, 40);
        let old = notes.archive.unwrap();
        assert_ne!(old.sha256, newest.sha256);
        for archive in [newest, old] {
            let mut download = connection.download_runner(&archive).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(part) = download.part().await.unwrap() {
                bytes.extend(part);
            }
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, archive.sha256, "{scope} {}", archive.version);
        }
        let none = RunnerPlatform { os: "win", architecture: "arm64" };
        assert!(connection.newest_runner(none).await.unwrap().is_none());
        let error = connection.runner_notes("2.1.0", platform).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotFound);
    }
}
