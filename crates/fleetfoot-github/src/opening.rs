//! Opening message sessions, and who may do so when.

use std::time::Duration;

use reqwest::Method;
use tokio::sync::Semaphore;

use crate::admin::{Call, bounded};
use crate::connection::{Connection, SETS};
use crate::error::{Result, Subject, refused};
use crate::http::Lane;
use crate::news::{NewSession, SessionBody};
use crate::session::Session;
use crate::wire;

/// Sessions that are being opened at once; two thousand at a start take turns.
const OPENING_MAX: usize = 32;
/// Waiting for a turn included.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// The service gives the id; a request has none, as GitHub's own client sends it.
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

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
        let body = wire::write(OPERATION, &NewSession { session_id: NO_ID, owner_name: owner })?;
        let opened: SessionBody = bounded(OPERATION, OPEN_MAX, async {
            let _turn = self.inner.opening.acquire().await;
            let call = Call {
                operation: OPERATION,
                lane: Lane::Control,
                method: Method::POST,
                path: format!("{SETS}/{set_id}/sessions"),
                query: &[],
                body: Some(body),
            };
            // Makes the way in before the point: what follows is the session itself.
            self.admin().reach(OPERATION).await?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.session.open.before");
            let answer = self.admin().call(call).await;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.session.open.after");
            let answer = answer?;
            if !answer.is_success() {
                return Err(refused(OPERATION, &answer, Subject::ScaleSet));
            }
            wire::read(OPERATION, &answer)
        })
        .await?;
        let id = opened.session_id.clone();
        let session = Session::new(self, set_id, opened);
        if session.is_err() && !id.is_empty() {
            // It cannot be used, but it would be in the way of the next one.
            let _ = self.delete_session(set_id, &id).await;
        }
        session
    }
}
