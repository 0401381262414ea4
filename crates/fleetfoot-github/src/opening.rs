//! Opening message sessions: the client of crate `scaleset`, and who may use it when.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::admin::{bounded, system_info};
use crate::app::{AppSigner, LentSigner};
use crate::connection::Connection;
use crate::error::{ErrorKind, Result, Subject};
use crate::session::{Session, from_crate, no_retries};

/// Sessions that are being opened at once; two thousand at a start take turns.
const OPENING_MAX: usize = 64;
/// Waiting for a turn included.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Crate `scaleset`'s client, and the token it was made with.
pub(crate) struct SessionClient {
    client: scaleset::Client,
    token: Option<SecretString>,
}

pub(crate) fn turns() -> Semaphore {
    Semaphore::new(OPENING_MAX)
}

impl Connection {
    /// Opens the message session of a scale set. `owner` names this machine, for people.
    ///
    /// It is not retried when its answer is lost: a second one would conflict with the first, which
    /// then has to lapse.
    pub async fn open_session(&self, set_id: i64, owner: &str) -> Result<Session> {
        const OPERATION: &str = "open a message session";
        let inner = bounded(OPERATION, OPEN_MAX, async {
            let _turn = self.inner.opening.acquire().await;
            self.admin().breaker.check()?;
            match self.open_once(OPERATION, set_id, owner).await {
                // The token was replaced since the last exchange: nothing was opened yet.
                Err(error)
                    if *error.kind() == ErrorKind::Unauthorized
                        && self.admin().is_token_replaced() =>
                {
                    self.open_once(OPERATION, set_id, owner).await
                }
                opened => opened,
            }
        })
        .await?;
        let id = inner.info().session_id.as_str().to_owned();
        let session = Session::new(inner, self.clone(), set_id);
        if session.is_err() && !id.is_empty() {
            // It cannot be used, but it would be in the way of the next one.
            let _ = self.delete_session(set_id, &id).await;
        }
        session
    }

    async fn open_once(
        &self,
        operation: &'static str,
        set_id: i64,
        owner: &str,
    ) -> Result<scaleset::MessageSession> {
        // Makes the way in first: our own token calls share failures, the crate's do not.
        let service = self.admin().reach(operation).await?;
        let client = self.session_client(operation, service.starts_with("https:"))?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.session.open.before");
        let opened = client.create_message_session(scaleset::ScaleSetId(set_id), owner).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.session.open.after");
        opened.map_err(|error| from_crate(operation, Subject::ScaleSet, error))
    }

    /// Crate `scaleset`'s client for sessions, made again when the token has changed.
    fn session_client(&self, operation: &'static str, secure: bool) -> Result<scaleset::Client> {
        let token = self.admin().personal_token()?;
        let mut slot = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = slot.as_ref()
            && exposed(&known.token) == exposed(&token)
        {
            return Ok(known.client.clone());
        }
        let failed = |error| from_crate(operation, Subject::Other, error);
        let credentials = match (&token, self.admin().app()) {
            (None, Some((id, signer))) => app_credentials(id, signer).map_err(failed)?,
            _ => scaleset::Credentials::personal_access_token(exposed(&token).unwrap_or_default())
                .map_err(failed)?,
        };
        let url = &self.inner.url;
        let client = scaleset::Client::builder(url.as_str(), credentials)
            .http_client(self.inner.http.clients(secure || url.is_secure())?.polls)
            .system_info(system_info())
            .retry_policy(no_retries())
            .allow_http(true)
            .build()
            .map_err(failed)?;
        *slot = Some(SessionClient { client: client.clone(), token });
        Ok(client)
    }
}

fn app_credentials(
    installation_id: i64,
    signer: &Arc<AppSigner>,
) -> scaleset::Result<scaleset::Credentials> {
    let signer = LentSigner(Arc::clone(signer));
    scaleset::Credentials::github_app_with_provider(installation_id, signer)
}

fn exposed(token: &Option<SecretString>) -> Option<&str> {
    token.as_ref().map(ExposeSecret::expose_secret)
}
