//! Name look-ups, shared.
//!
//! The system's resolver blocks, so each look-up takes a thread. At a start two thousand polls ask
//! for the same two names in the same second; here they share one look-up each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

/// How long an answer is used again.
const KEEP: Duration = Duration::from_secs(20);
/// Hosts remembered: GitHub's are a handful, so this only bounds mistakes.
const HOSTS_MAX: usize = 64;

#[derive(Debug, Clone, Default)]
pub(crate) struct SharedResolver {
    hosts: Arc<Mutex<HashMap<String, Arc<Host>>>>,
}

type Answer = (Instant, Vec<SocketAddr>);

#[derive(Debug, Default)]
struct Host {
    /// Held during a look-up, so the others wait for its answer.
    answer: tokio::sync::Mutex<Option<Answer>>,
}

impl SharedResolver {
    fn host(&self, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(name) {
            hosts.clear();
        }
        Arc::clone(hosts.entry(name.to_owned()).or_default())
    }
}

impl Resolve for SharedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = self.host(name.as_str());
        Box::pin(async move {
            let mut answer = host.answer.lock().await;
            let fresh = answer.as_ref().filter(|(since, _)| since.elapsed() < KEEP);
            let addresses = match fresh {
                Some((_, addresses)) => addresses.clone(),
                None => {
                    let found: Vec<SocketAddr> =
                        tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
                    *answer = Some((Instant::now(), found.clone()));
                    found
                }
            };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
