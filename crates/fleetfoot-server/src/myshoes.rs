//! The REST API of myshoes, byte for byte: routes, status codes, texts, the order of fields, the quirks.
//!
//! ```text
//! request ─▶ access log ─▶ token, read-only ─▶ body (rules of fleetfoot-myshoes) ─▶ GitHub (Scopes)
//!                                                            └─▶ the store's one writer ─▶ answer
//! ```
//!
//! Whether a scope may be registered, GitHub says; who asks it is handed in ([`Scopes`]).

mod access;
mod answer;
pub mod numbers;
mod routes;
mod targets;
mod wire;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use fleetfoot_myshoes::rules::Failure;
use fleetfoot_store::{Store, StoredToken};
use secrecy::SecretString;

pub use routes::{router, standby};
pub use wire::serve;

/// What GitHub is asked before a target is made.
pub trait Scopes: Send + Sync {
    /// Whether the App is installed at the scope and may manage its runners; with the installation's token, where
    /// tokens are to be stored.
    fn admit<'a>(
        &'a self,
        scope: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<StoredToken>, Failure>> + Send + 'a>>;
}

/// A switch that a client turns; told with its new position.
pub type Switch = Arc<dyn Fn(bool) + Send + Sync>;

/// Makes the page of numbers.
pub type Page = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// What the routes are given.
#[derive(Clone)]
pub struct MyshoesState {
    /// Where targets are.
    pub store: Store,
    /// Who asks GitHub.
    pub scopes: Arc<dyn Scopes>,
    /// GitHub's address, if it is not github.com: it stands in new rows.
    pub ghe_domain: Option<String>,
    /// `POST /config/debug`
    pub debug: Switch,
    /// `POST /config/strict`
    pub strict: Switch,
    /// `GET /metrics`
    pub metrics: Page,
    /// What requests must carry, if anything.
    pub token: Option<Arc<SecretString>>,
    /// Targets and switches are only looked at.
    pub is_read_only: bool,
}

impl fmt::Debug for MyshoesState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MyshoesState").field("store", &self.store).finish_non_exhaustive()
    }
}
