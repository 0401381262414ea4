//! Targets: made, shown, changed, deleted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use fleetfoot_myshoes::body::{self, TargetBody};
use fleetfoot_myshoes::rules::{self, Change, Creation, Failure, ProviderUrl, Refusal};
use fleetfoot_myshoes::target::{Mode, Status, Target, listed};
use fleetfoot_store::{NewTarget, TargetKey, TargetRow, TargetSettings, TargetWrite, TargetsError};
use uuid::Uuid;

use super::MyshoesState;
use super::answer::{self, Answer};
use crate::error::chain;

/// A body comes within this.
const BODY_BOUND: Duration = Duration::from_secs(30);

/// The bytes of a body, if it came whole and in time.
pub(super) struct Sent(pub(super) Option<Bytes>);

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Infallible> {
        let read = tokio::time::timeout(BODY_BOUND, Bytes::from_request(request, state)).await;
        Ok(Self(read.ok().and_then(Result::ok)))
    }
}

/// What stands in the path for an id, if it is text at all.
type Named = Result<Path<String>, PathRejection>;

type Answered = Result<Answer, Refusal>;

fn sent(answered: Answered) -> Answer {
    answered.unwrap_or_else(|refusal| answer::refused(&refusal))
}

/// What is no text is no id, and is refused as one.
fn named(id: Named) -> String {
    id.map(|Path(id)| id).unwrap_or_default()
}

/// `POST /target`
pub(super) async fn create(State(state): State<MyshoesState>, body: Sent) -> Answer {
    sent(created(&state, body).await)
}

/// `GET /target`
pub(super) async fn list(State(state): State<MyshoesState>) -> Answer {
    match state.store.targets().await {
        Ok(rows) => {
            let targets = listed(rows.iter().filter_map(target).collect());
            answer::json(StatusCode::OK, body::of_targets(&targets))
        }
        Err(error) => answer::refused(&store_failed(Failure::Read, &error)),
    }
}

/// `GET /target/:id`
pub(super) async fn show(State(state): State<MyshoesState>, id: Named) -> Answer {
    sent(shown(&state, &named(id)).await)
}

/// `POST /target/:id`
pub(super) async fn update(State(state): State<MyshoesState>, id: Named, body: Sent) -> Answer {
    sent(updated(&state, &named(id), body).await)
}

/// `DELETE /target/:id`
pub(super) async fn delete(State(state): State<MyshoesState>, id: Named) -> Answer {
    sent(deleted(&state, &named(id)).await)
}

async fn created(state: &MyshoesState, body: Sent) -> Answered {
    let body = decoded(body)?;
    rules::create(&body)?;
    let token = state.scopes.admit(&body.scope).await?;
    let own = TargetSettings {
        mode: body.mode.after(None).map(|mode| mode.word().to_owned()),
        max_runners: body.max_runners.after(None),
    };
    let new = NewTarget {
        id: Uuid::new_v4().to_string(),
        scope: body.scope.clone(),
        ghe_domain: state.ghe_domain.clone(),
        resource_type: body.resource_type,
        provider_url: body.provider_url.clone().filter(|url| !url.is_empty()),
        token: token.clone(),
    };
    let key = TargetKey::Scope(body.scope.clone());
    let comes_back = Arc::new(AtomicBool::new(false));
    let told = comes_back.clone();
    let decided = state.store.change_target(key, move |row| {
        let known = row.and_then(target);
        match rules::creation(&body, known.as_ref()) {
            Err(refusal) => (Vec::new(), Err(refusal)),
            Ok(Creation::Insert) => {
                let id = new.id.clone();
                let mut writes = vec![TargetWrite::Insert(new)];
                if own != TargetSettings::default() {
                    writes.push(TargetWrite::Own(id.clone(), own));
                }
                (writes, Ok(id))
            }
            Ok(Creation::Undelete(id, change)) => {
                told.store(true, Ordering::Relaxed);
                let id = id.to_string();
                let active = TargetWrite::Status(id.clone(), "active", Some(String::new()));
                let mut writes = vec![active];
                writes.extend(row.map(|row| changes(row, change)).unwrap_or_default());
                writes.extend(token.map(|token| TargetWrite::Token(id.clone(), token)));
                (writes, Ok(id))
            }
        }
    });
    let id = decided.await.map_err(|error| {
        store_failed(creation_failed(comes_back.load(Ordering::Relaxed), &error), &error)
    })??;
    let target = read(state, &id, Failure::Get).await?.ok_or(Failure::Get)?;
    Ok(answer::json(StatusCode::CREATED, body::of_target(&target)))
}

async fn shown(state: &MyshoesState, id: &str) -> Answered {
    let id = rules::id(id)?.to_string();
    let target = read(state, &id, Failure::Read).await?.ok_or(Failure::NotFound)?;
    Ok(answer::json(StatusCode::OK, body::of_target(&target)))
}

async fn updated(state: &MyshoesState, id: &str, body: Sent) -> Answered {
    let id = rules::id(id)?.to_string();
    let body = decoded(body)?;
    let key = TargetKey::Id(id.clone());
    let decided = state.store.change_target(key, move |row| {
        let known = row.and_then(|row| Some((row, target(row)?)));
        let change = known
            .ok_or_else(|| Refusal::from(Failure::IdNotFound))
            .and_then(|(row, target)| Ok((row, rules::update(&body, &target)?)));
        match change {
            Ok((row, change)) => (changes(row, change), Ok(())),
            Err(refusal) => (Vec::new(), Err(refusal)),
        }
    });
    decided
        .await
        .map_err(|error| store_failed(change_failed(Failure::Update, &error), &error))??;
    let target = read(state, &id, Failure::Get).await?.ok_or(Failure::Get)?;
    Ok(answer::json(StatusCode::OK, body::of_target(&target)))
}

async fn deleted(state: &MyshoesState, id: &str) -> Answered {
    let id = rules::id(id)?.to_string();
    let key = TargetKey::Id(id.clone());
    let decided = state.store.change_target(key, move |row| {
        let decision = row
            .and_then(target)
            .ok_or_else(|| Refusal::from(Failure::IdNotFound))
            .and_then(|target| rules::delete(&target));
        match decision {
            Ok(()) => (vec![TargetWrite::StatusOnly(id, "deleted")], Ok(())),
            Err(refusal) => (Vec::new(), Err(refusal)),
        }
    });
    decided
        .await
        .map_err(|error| store_failed(change_failed(Failure::Delete, &error), &error))??;
    Ok(answer::deleted())
}

/// A body that is too long or too slow is none.
fn decoded(body: Sent) -> Result<TargetBody, Refusal> {
    let bytes = body.0.ok_or(Failure::Decode)?;
    body::target(&bytes).map_err(|_| Failure::Decode.into())
}

async fn read(state: &MyshoesState, id: &str, failure: Failure) -> Result<Option<Target>, Refusal> {
    let row = state.store.target(TargetKey::Id(id.to_owned())).await;
    let row = row.map_err(|error| store_failed(failure, &error))?;
    Ok(row.as_ref().and_then(target))
}

fn changes(row: &TargetRow, change: Change) -> Vec<TargetWrite> {
    let id = &row.id;
    let size = change.resource_type.map(|size| TargetWrite::ResourceType(id.to_owned(), size));
    let url = match change.provider_url {
        ProviderUrl::Keep => None,
        ProviderUrl::Clear => Some(None),
        ProviderUrl::Set(url) => Some(Some(url)),
    };
    let url = url.map(|url| TargetWrite::ProviderUrl(id.to_owned(), url));
    let known = row.own.mode.as_deref().and_then(Mode::of);
    let own = TargetSettings {
        mode: change.mode.after(known).map(|mode| mode.word().to_owned()),
        max_runners: change.max_runners.after(row.own.max_runners),
    };
    let own = (own != row.own).then(|| TargetWrite::Own(id.to_owned(), own));
    size.into_iter().chain(url).chain(own).collect()
}

/// A row as a target; one whose id is no uuid, which somebody made by hand, is none.
#[must_use]
fn target(row: &TargetRow) -> Option<Target> {
    Some(Target {
        id: row.id.parse().ok()?,
        scope: row.scope.clone(),
        token_expired_at: row.token_expired_at,
        resource_type: row.resource_type,
        provider_url: row.provider_url.clone(),
        status: Status::of(&row.status),
        status_description: row.status_description.clone(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        mode: row.own.mode.as_deref().and_then(Mode::of),
        max_runners: row.own.max_runners,
    })
}

/// At which of its steps the original would have given up on a creation.
fn creation_failed(comes_back: bool, error: &TargetsError) -> Failure {
    match (comes_back, error) {
        (_, TargetsError::Store(_)) => Failure::LookUp,
        (false, TargetsError::Write(_) | TargetsError::TooLong) => Failure::Create,
        (true, TargetsError::Write(_)) => Failure::Recreate,
        // Its status is written first, what it says of itself second.
        (true, TargetsError::TooLong) => Failure::RecreateSize,
    }
}

/// A row that cannot be read is not there, for who wants to change it.
fn change_failed(written: Failure, error: &TargetsError) -> Failure {
    match error {
        TargetsError::Store(_) => Failure::IdNotFound,
        TargetsError::Write(_) | TargetsError::TooLong => written,
    }
}

/// The chain goes to the log, the client gets its words.
fn store_failed(failure: Failure, error: &TargetsError) -> Refusal {
    tracing::error!(error = %chain(error), "store failed a request");
    failure.into()
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::body::Body;
    use hyper::body::Frame;

    use super::*;

    /// A body that never comes.
    struct Never;

    impl hyper::body::Body for Never {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_none() {
        let Ok(sent) = Sent::from_request(Request::new(Body::new(Never)), &()).await;
        assert!(sent.0.is_none());
        let Ok(sent) = Sent::from_request(Request::new(Body::from("{}")), &()).await;
        assert_eq!(sent.0.as_deref(), Some(&b"{}"[..]));
    }
}
