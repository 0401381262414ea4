//! A box, a client of it, and runners.

use std::time::Duration;

use fleetfoot_sim::runner::{Blob, Exit, Runner, Stop};
use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs, Settings};
use scaleset::{
    Client, Credentials, JitRunnerSetting, MessageSession, RetryPolicy, RunnerScaleSet,
    RunnerScaleSetSpec, ScaleSetId, ScaleSetMessage,
};
use secrecy::ExposeSecret;
use tokio::task::JoinHandle;

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Settings whose waits are short.
pub(crate) fn quick() -> Settings {
    Settings { long_poll_ms: 200, runner_poll_ms: 200, started_delay_ms: 0, ..Settings::default() }
}

pub(crate) async fn github(settings: Settings) -> GithubBox {
    GithubBox::start(BoxConfig::with_settings(settings)).await.unwrap()
}

pub(crate) fn client_with(url: &str, token: &str) -> Client {
    Client::builder(url, Credentials::personal_access_token(token).unwrap())
        .allow_http(true)
        .retry_policy(RetryPolicy::default().max_retries(0))
        .build()
        .unwrap()
}

pub(crate) fn client(github: &GithubBox, scope: &str) -> Client {
    client_with(&github.config_url(scope), DEFAULT_TOKEN)
}

pub(crate) async fn scale_set(client: &Client, name: &str) -> RunnerScaleSet {
    client.create_runner_scale_set(&RunnerScaleSetSpec::new(name)).await.unwrap()
}

/// A client, its scale set `linux` and an open session.
pub(crate) async fn listening(github: &GithubBox) -> (Client, RunnerScaleSet, MessageSession) {
    let client = client(github, "acme");
    let set = scale_set(&client, "linux").await;
    let session = client.create_message_session(set.id, "test").await.unwrap();
    (client, set, session)
}

pub(crate) async fn jit(client: &Client, set: ScaleSetId, name: &str) -> String {
    let config = client.generate_jit_config(set, &JitRunnerSetting::new(name)).await.unwrap();
    config.encoded_jit_config.expose_secret().to_owned()
}

/// The next message; polls that end without one are repeated.
pub(crate) async fn message(session: &MessageSession, capacity: u32) -> ScaleSetMessage {
    tokio::time::timeout(SOON, async {
        loop {
            if let Some(message) = session.get_message(None, capacity).await.unwrap() {
                return message;
            }
        }
    })
    .await
    .expect("no message came")
}

/// The next message, acknowledged.
pub(crate) async fn take(session: &MessageSession, capacity: u32) -> ScaleSetMessage {
    let message = message(session, capacity).await;
    session.delete_message(message.id).await.unwrap();
    message
}

/// A stand-in runner in this process.
pub(crate) fn runner(encoded: &str) -> (JoinHandle<Exit>, Stop) {
    let runner = Runner::new(Blob::parse(encoded).unwrap());
    let stop = runner.stop_handle();
    #[allow(clippy::disallowed_methods, reason = "tests await what they start")]
    let handle = tokio::spawn(async move { runner.run(&mut std::io::sink()).await.unwrap() });
    (handle, stop)
}

pub(crate) fn jobs(count: usize, duration_ms: u64) -> QueueJobs {
    QueueJobs::for_scale_set("acme", "linux", count, duration_ms)
}
