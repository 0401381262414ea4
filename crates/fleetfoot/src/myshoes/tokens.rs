//! Installation tokens in the original's own table, where its operator wants them to be there
//! (`MYSHOES_STORE_TOKENS`): each is replaced before it ends, as the original does. We never read one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::Span;
use fleetfoot_myshoes::target::Status;
use fleetfoot_server::wall_clock;
use fleetfoot_store::{Store, StoredToken, TargetKey, TargetRow, TargetWrite, TargetsError};

use super::github::{self, Github};

/// Between looks at the stored ones.
const LOOK: Duration = Duration::from_secs(5 * 60);

/// One that ends within this is replaced.
const MARGIN: Span = Span::minutes(10);

/// Keeps them fresh for ever.
pub(super) async fn keep(github: Arc<Github>, store: Store) -> Infallible {
    if !github.stores_tokens() {
        return std::future::pending().await;
    }
    loop {
        match store.has_tables_of_myshoes().await {
            Ok(true) => look(&github, &store).await,
            Ok(false) => {
                tracing::warn!(
                    "MYSHOES_STORE_TOKENS: there are no tables of myshoes here, no token is written"
                );
                return std::future::pending().await;
            }
            Err(error) => failed(&error),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn failed(error: &TargetsError) {
    tracing::error!("failed to look at stored tokens: {}", crate::chain(error));
}

async fn look(github: &Github, store: &Store) {
    let targets = match store.targets().await {
        Ok(targets) => targets,
        Err(error) => return failed(&error),
    };
    let soon = wall_clock() + MARGIN;
    let ends =
        |row: &&TargetRow| Status::of(&row.status).can_receive() && row.token_expired_at <= soon;
    for target in targets.iter().filter(ends) {
        let scope = target.scope.as_str();
        match fresh(github, scope).await {
            Ok(token) => replace(store, target, token).await,
            Err(reason) => tracing::error!(scope, reason, "failed to get a token to be stored"),
        }
    }
}

async fn fresh(github: &Github, scope: &str) -> Result<StoredToken, String> {
    let found = github.installation(scope).await.map_err(|error| error.to_string())?;
    let found = found.ok_or_else(|| github.not_installed(scope))?;
    let connection = github.connection(scope, found.id).map_err(|error| error.to_string())?;
    github::stored_token(&connection).await.map_err(|error| error.chain())
}

async fn replace(store: &Store, target: &TargetRow, token: StoredToken) {
    let (id, key) = (target.id.clone(), TargetKey::Id(target.id.clone()));
    let write = move |_: Option<&TargetRow>| (vec![TargetWrite::Token(id, token)], ());
    let Err(error) = store.change_target(key.clone(), write).await else { return };
    let (scope, error) = (target.scope.as_str(), crate::chain(&error));
    tracing::error!(scope, error, "failed to store a token");
    let refused = |row: Option<&TargetRow>| {
        let row = row.filter(|row| Status::of(&row.status).can_receive());
        let reason = Some("can not update token".to_owned());
        (
            row.map(|row| TargetWrite::Status(row.id.clone(), "error", reason))
                .into_iter()
                .collect(),
            (),
        )
    };
    if let Err(error) = store.change_target(key, refused).await {
        failed(&error);
    }
}
