//! A box as a process of its own.

use std::future::Future;
use std::io::Write;

use serde::Serialize;
use thiserror::Error;

use crate::config::{BoxConfig, DEFAULT_TOKEN};
use crate::github_box::{GithubBox, StartError};

/// What `fleetfoot sim serve` starts.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Address and settings.
    pub config: BoxConfig,
    /// The scope that `config_url` names in the line that is printed; `box` when empty.
    pub scope: String,
}

/// Why serving ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// It never began.
    #[error("failed to start the box")]
    Start(#[from] StartError),
    /// Nobody could be told where it is.
    #[error("failed to print the addresses")]
    Announce(#[source] std::io::Error),
}

/// The line that is printed when the box is ready.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct Ready {
    /// `http://host:port`.
    pub url: String,
    /// A configuration URL that any client of the scale set service can use.
    pub config_url: String,
    /// Where the control API is.
    pub control_url: String,
    /// A token it accepts.
    pub token: String,
    /// Process id.
    pub pid: u32,
}

/// Starts a box, prints one JSON line ([`Ready`]) and serves until `until` is over.
///
/// # Errors
/// When the address cannot be bound, or `out` not written.
pub async fn serve(
    options: ServeOptions,
    mut out: impl Write,
    until: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let scope = if options.scope.is_empty() { "box" } else { options.scope.as_str() };
    let token = options.config.settings.tokens.first().map(|token| token.token.clone());
    let github = GithubBox::start(options.config).await?;
    let ready = Ready {
        url: github.url(),
        config_url: github.config_url(scope),
        control_url: format!("{}/_box", github.url()),
        token: token.unwrap_or_else(|| DEFAULT_TOKEN.to_owned()),
        pid: std::process::id(),
    };
    let line = serde_json::to_string(&ready).map_err(|error| ServeError::Announce(error.into()))?;
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(ServeError::Announce)?;
    until.await;
    drop(github);
    Ok(())
}
