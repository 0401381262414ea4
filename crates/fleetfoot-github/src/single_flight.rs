//! One fetch for everybody who waits for the same thing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{GithubError, Result};

/// Lets one caller fetch what many want, and shares the outcome with those who waited.
#[derive(Debug, Default)]
pub(crate) struct SingleFlight {
    lock: tokio::sync::Mutex<Option<GithubError>>,
    flights: AtomicU64,
}

impl SingleFlight {
    pub(crate) async fn run<T>(
        &self,
        fresh: impl Fn() -> Option<Arc<T>>,
        slot: &RwLock<Option<Arc<T>>>,
        fetch: impl Future<Output = Result<T>>,
    ) -> Result<Arc<T>> {
        if let Some(value) = fresh() {
            return Ok(value);
        }
        let seen = self.flights.load(Ordering::Acquire);
        let mut last_failure = self.lock.lock().await;
        if let Some(value) = fresh() {
            return Ok(value);
        }
        if self.flights.load(Ordering::Acquire) != seen
            && let Some(failure) = last_failure.as_ref()
        {
            return Err(failure.clone());
        }
        let outcome = fetch.await.map(Arc::new);
        self.flights.fetch_add(1, Ordering::Release);
        match outcome {
            Ok(value) => {
                *last_failure = None;
                *slot.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&value));
                Ok(value)
            }
            Err(failure) => {
                *last_failure = Some(failure.clone());
                Err(failure)
            }
        }
    }
}
