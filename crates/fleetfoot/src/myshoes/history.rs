//! The original's tables grow for ever: a row or three for each runner there ever was. Where their operator says how long
//! they are wanted (`MYSHOES_HISTORY_DAYS`), those of runners that are long deleted are removed.

use std::convert::Infallible;
use std::time::Duration;

use fleetfoot_store::Store;

/// Between looks at them.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// Runners in one transaction: other writes wait for it.
const STEP: usize = 200;

/// Between two transactions.
const PAUSE: Duration = Duration::from_millis(100);

/// Removes them for ever; without a number of days, nothing.
pub(super) async fn keep(days: Option<u32>, store: Store) -> Infallible {
    let Some(days) = days else { return std::future::pending().await };
    loop {
        let mut forgotten = 0;
        loop {
            match store.forget_runner_rows(days, STEP).await {
                Ok(count) => {
                    forgotten += count;
                    if count < STEP {
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!(
                        "failed to remove rows of old runners: {}",
                        crate::chain(&error)
                    );
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        if forgotten > 0 {
            tracing::info!(runners = forgotten, days, "rows of old runners are removed");
        }
        tokio::time::sleep(LOOK).await;
    }
}
