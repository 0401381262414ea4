//! The bare program of the row `pools`: idle polls and nothing else. It runs as a process of its own.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::bare::Bare;
use super::rig::pool_lines;

/// The scope whose scale sets it makes.
const SCOPE: &str = "bare";
const PAUSE: Duration = Duration::from_millis(200);

/// Opens so many sessions and polls each for ever.
pub(super) async fn polls(count: usize, url: &str) -> Result<()> {
    let client = Bare::connect(url, SCOPE).await?;
    let mut sessions = JoinSet::new();
    for pool in pool_lines(&format!("bare-{count}"), count, 1) {
        let client = client.clone();
        sessions.spawn(async move {
            let session = client.open(client.scale_set(&pool.name).await?).await?;
            loop {
                // Two thousand connections at once are more than a listening socket queues: those that the box
                // never saw are opened again.
                if client.poll(&session, 1).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }
    match sessions.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}
