//! The usual way of things, against the emulator of crate `scaleset`.

use std::time::Duration;

use fleetfoot_github::{
    ConfigUrl, Connection, Credentials, ErrorKind, Http, HttpSettings, Removal, ScaleSetSpec,
    TokenSource, labels_differ,
};
use scaleset::testing::{DEFAULT_PAT, Emulator};
use scaleset::{JobRequestId, ScaleSetId};
use secrecy::ExposeSecret;

fn connection(emulator: &Emulator, token: &str) -> Connection {
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse(&emulator.config_url()).unwrap();
    let token = TokenSource::fixed("test", token.into());
    Connection::new(&http, &url, &Credentials::Token(token)).unwrap()
}

#[tokio::test]
async fn a_job_from_offer_to_removal() {
    let emulator = Emulator::builder()
        .long_poll(Duration::from_millis(100))
        .runner_group("Fast Ones & Co")
        .start()
        .await;
    let connection = connection(&emulator, DEFAULT_PAT);

    let group = connection.runner_group("Fast Ones & Co").await.unwrap().unwrap();
    assert_eq!((group.is_default, group.allows_public_repositories), (false, None));
    assert_eq!(connection.runner_group("none").await.unwrap(), None);

    assert_eq!(connection.scale_set(group.id, "linux").await.unwrap(), None);
    let spec = ScaleSetSpec {
        name: "linux".into(),
        group_id: group.id,
        labels: vec!["linux".into()],
        label_kind: fleetfoot_github::LabelKind::User,
    };
    let set = connection.create_scale_set(&spec).await.unwrap();
    assert_eq!(connection.create_scale_set(&spec).await.unwrap().id, set.id, "found, not doubled");
    let found = connection.scale_set(group.id, "linux").await.unwrap().unwrap();
    assert_eq!((found.id, found.group_id), (set.id, group.id));
    let wanted = vec!["LINUX".into(), "big".into()];
    assert!(labels_differ(&wanted, &found.labels));
    let set = connection
        .update_scale_set_labels(set.id, &wanted, fleetfoot_github::LabelKind::User)
        .await
        .unwrap();
    assert!(!labels_differ(&wanted, &set.labels));

    let session = connection.open_session(set.id, "here").await.unwrap();
    assert_eq!(session.statistics().unwrap().assigned, 0);
    let conflict = connection.open_session(set.id, "here").await.unwrap_err();
    assert_eq!(conflict.kind(), &ErrorKind::Conflict);
    assert_eq!(session.poll(None, 4).await.unwrap(), None);

    let job = emulator.queue_job(ScaleSetId(set.id), ["linux"]);
    let offer = session.poll(None, 4).await.unwrap().unwrap();
    assert_eq!(offer.available[0].request_id, job.get());
    assert_eq!(offer.available[0].labels, ["linux"]);
    assert_eq!(session.acquire(&[job.get()]).await.unwrap(), [job.get()]);
    session.acknowledge(offer.id).await.unwrap();
    session.acknowledge(offer.id).await.expect("twice does no harm");
    let assigned = session.poll(Some(offer.id), 4).await.unwrap().unwrap();
    assert_eq!(assigned.assigned.len(), 1);
    assert_eq!(assigned.statistics.unwrap().assigned, 1);
    session.acknowledge(assigned.id).await.unwrap();

    let jit = connection.jit_config(set.id, "linux-1").await.unwrap();
    assert!(!jit.config.expose_secret().is_empty());
    assert!(!format!("{jit:?}").contains(jit.config.expose_secret()));
    let exists = connection.jit_config(set.id, "linux-1").await.unwrap_err();
    assert_eq!(exists.kind(), &ErrorKind::RunnerExists);
    let runner = connection.runner_by_name("linux-1").await.unwrap().unwrap();
    assert_eq!((runner.id, runner.set_id), (jit.runner_id, set.id));
    assert_eq!(connection.runner_by_id(jit.runner_id).await.unwrap().unwrap().name, "linux-1");

    emulator.start_job(JobRequestId(job.get()), Some("linux-1"));
    assert_eq!(connection.remove_runner(jit.runner_id).await.unwrap(), Removal::Busy);
    let started = session.poll(Some(assigned.id), 4).await.unwrap().unwrap();
    assert_eq!(started.started[0].runner_name, "linux-1");
    session.acknowledge(started.id).await.unwrap();
    emulator.complete_job(JobRequestId(job.get()), Some("succeeded"));
    let completed = session.poll(Some(started.id), 4).await.unwrap().unwrap();
    assert_eq!(completed.completed[0].result, "succeeded");
    assert_eq!(connection.remove_runner(jit.runner_id).await.unwrap(), Removal::Gone);
    assert_eq!(connection.runner_by_id(jit.runner_id).await.unwrap(), None);
    assert_eq!(connection.runner_by_name("linux-1").await.unwrap(), None);

    session.close().await.unwrap();
    session.close().await.expect("gone is gone");
    connection.delete_scale_set(set.id).await.unwrap();
    connection.delete_scale_set(set.id).await.expect("gone is gone");
}

#[tokio::test]
async fn a_successor_deletes_the_session_that_a_crash_left() {
    let emulator = Emulator::builder().long_poll(Duration::from_millis(50)).start().await;
    let before = connection(&emulator, DEFAULT_PAT);
    let spec = ScaleSetSpec {
        name: "linux".into(),
        group_id: 1,
        labels: Vec::new(),
        label_kind: fleetfoot_github::LabelKind::User,
    };
    let set = before.create_scale_set(&spec).await.unwrap();
    assert_eq!(set.labels[0].name, "linux", "the name is the label where there is none");
    let saved_id = before.open_session(set.id, "here").await.unwrap().id().to_owned();
    drop(before);

    let after = connection(&emulator, DEFAULT_PAT);
    assert_eq!(after.open_session(set.id, "here").await.unwrap_err().kind(), &ErrorKind::Conflict);
    after.delete_session(set.id, &saved_id).await.unwrap();
    after.delete_session(set.id, &saved_id).await.expect("gone is gone");
    let session = after.open_session(set.id, "here").await.unwrap();
    assert_eq!(session.poll(None, 1).await.unwrap(), None);
}

#[tokio::test]
async fn tokens_that_end_early_are_renewed() {
    let emulator = Emulator::builder().long_poll(Duration::from_millis(50)).start().await;
    let connection = connection(&emulator, DEFAULT_PAT);
    let spec = ScaleSetSpec {
        name: "linux".into(),
        group_id: 1,
        labels: Vec::new(),
        label_kind: fleetfoot_github::LabelKind::User,
    };
    let set = connection.create_scale_set(&spec).await.unwrap();
    let session = connection.open_session(set.id, "here").await.unwrap();
    emulator.expire_admin_tokens();
    emulator.expire_queue_token(ScaleSetId(set.id));
    assert_eq!(session.poll(None, 1).await.unwrap(), None);
    emulator.expire_admin_tokens();
    assert!(connection.scale_set(1, "linux").await.unwrap().is_some());
    emulator.expire_session(ScaleSetId(set.id));
    let error = session.poll(None, 1).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::SessionGone, "{}", error.chain());
}

#[tokio::test]
async fn a_wrong_token_is_named() {
    let emulator = Emulator::start().await;
    let error = connection(&emulator, "ghp_wrong").scale_set(1, "linux").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unauthorized);
    assert!(error.chain().contains("test (status 401"), "{}", error.chain());
}
