//! What may be done to a target, and the words of each refusal.

use fleetfoot_core::ResourceType;
use uuid::Uuid;

use crate::body::{Said, TargetBody};
use crate::names;
use crate::target::{Mode, Status, Target};

/// A refusal: its status of HTTP and its words, which clients know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    /// 400, 404 or 500.
    pub status: u16,
    /// What the answer says.
    pub words: String,
}

impl Refusal {
    fn of(status: u16, words: &str) -> Self {
        Self { status, words: words.to_owned() }
    }
}

/// Every failure that a client may see whose words do not depend on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The body is no JSON.
    Decode,
    /// Scope or size is missing at a creation.
    Missing,
    /// GitHub does not say where the App is installed.
    Purge,
    /// The App is not installed there.
    NotInstalled,
    /// There is no client for the App.
    Client,
    /// The App gets no token.
    Token,
    /// GitHub has no such repository or organization.
    Scope,
    /// There is no client with that token.
    ScopeToken,
    /// The runners of the scope cannot be listed.
    Runners,
    /// The row cannot be made.
    Create,
    /// The deleted row cannot be put back.
    Recreate,
    /// Nor its size.
    RecreateSize,
    /// The row cannot be looked up.
    LookUp,
    /// Nor read back.
    Get,
    /// Nor read.
    Read,
    /// There is none.
    NotFound,
    /// The path has no id.
    Id,
    /// The path's id has no target.
    IdNotFound,
    /// The row cannot be changed.
    Update,
    /// The row cannot be deleted.
    Delete,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let (status, words) = match failure {
            Failure::Decode => (400, "json decode error"),
            Failure::Missing => (400, "scope, resource_type must be set"),
            Failure::Purge => (500, "failed to purge installation cache"),
            Failure::NotInstalled => {
                (400, "failed to check to install GitHub Apps. Are you installed?")
            }
            Failure::Client => (500, "failed to client GitHub Apps"),
            Failure::Token => (500, "failed to generate GitHub Apps token"),
            Failure::Scope => (400, "github scope is invalid (maybe, repository is not found)"),
            Failure::ScopeToken => (400, "invalid github token in input scope"),
            Failure::Runners => {
                (400, "failed to get list of registered runners (maybe, invalid scope or token?)")
            }
            Failure::Create => (500, "datastore create error"),
            Failure::Recreate => (500, "datastore recreate error"),
            Failure::RecreateSize => (500, "update resource type error"),
            Failure::LookUp => (500, "datastore error"),
            Failure::Get => (500, "datastore get error"),
            Failure::Read => (500, "datastore read error"),
            // The original says 500; the words stay.
            Failure::NotFound => (404, "datastore read error"),
            Failure::Id => (400, "incorrect target id"),
            Failure::IdNotFound => (400, "incorrect target id (not found)"),
            Failure::Update => (500, "datastore update error"),
            Failure::Delete => (500, "datastore delete error"),
        };
        Self::of(status, words)
    }
}

/// What a creation comes to, once GitHub knows the scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// A new row.
    Insert,
    /// The deleted one again, under its own id.
    Undelete(Uuid, Change),
}

/// What changes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The size, if it changes.
    pub resource_type: Option<ResourceType>,
    /// The provider's URL.
    pub provider_url: ProviderUrl,
    /// What brings its jobs.
    pub mode: Said<Mode>,
    /// Its own limit.
    pub max_runners: Said<u32>,
}

/// What becomes of a provider's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderUrl {
    /// It stays.
    Keep,
    /// It goes.
    Clear,
    /// It is this one.
    Set(String),
}

impl ProviderUrl {
    fn of(sent: Option<&str>) -> Self {
        match sent {
            None => Self::Keep,
            Some("") => Self::Clear,
            Some(url) => Self::Set(url.to_owned()),
        }
    }
}

/// Before anybody is asked: the body has what it needs.
///
/// # Errors
///
/// If it does not.
pub fn create(body: &TargetBody) -> Result<(), Refusal> {
    if body.scope.is_empty() || !body.resource_type.is_known() {
        return Err(Failure::Missing.into());
    }
    Ok(())
}

/// The path at GitHub that shows whether the scope is there.
///
/// # Errors
///
/// If it has more than one slash.
pub fn scope_path(scope: &str) -> Result<String, Refusal> {
    match scope.matches('/').count() {
        0 => Ok(format!("/orgs/{scope}")),
        1 => Ok(format!("/repos/{scope}")),
        _ => Err(Failure::Scope.into()),
    }
}

/// What a creation comes to, with the row that has the scope by now.
///
/// # Errors
///
/// If the scope is taken.
pub fn creation(body: &TargetBody, known: Option<&Target>) -> Result<Creation, Refusal> {
    match known {
        None => Ok(Creation::Insert),
        Some(target) if target.status == Status::Deleted => {
            let change = Change {
                resource_type: Some(body.resource_type),
                provider_url: ProviderUrl::of(body.provider_url.as_deref()),
                mode: body.mode,
                max_runners: body.max_runners,
            };
            Ok(Creation::Undelete(target.id, change))
        }
        // In the spelling of the request: the look-up ignores case.
        Some(target) => Err(Refusal {
            status: 400,
            words: format!(
                "{} is already registered, current status is {}.",
                body.scope, target.status
            ),
        }),
    }
}

/// What an update changes. Its status is not looked at: a deleted target is updated and stays deleted.
///
/// # Errors
///
/// If the scope is another one, byte for byte.
pub fn update(body: &TargetBody, target: &Target) -> Result<Change, Refusal> {
    if body.scope != target.scope {
        return Err(Refusal::of(400, "invalid input: can't updatable fields (Scope)"));
    }
    Ok(Change {
        resource_type: body.resource_type.is_known().then_some(body.resource_type),
        provider_url: ProviderUrl::of(body.provider_url.as_deref()),
        mode: body.mode,
        max_runners: body.max_runners,
    })
}

/// Whether it may be deleted.
///
/// # Errors
///
/// If it has a runner or is deleted already.
pub fn delete(target: &Target) -> Result<(), Refusal> {
    match target.status {
        Status::Running => {
            Err(Refusal::of(400, "target has running runner now, please stop all runner"))
        }
        Status::Deleted => Err(Refusal::of(400, "target is already deleted")),
        Status::Active | Status::Suspend | Status::Error | Status::Other(_) => Ok(()),
    }
}

/// The id in a path, in any of the forms that are taken.
///
/// # Errors
///
/// If it is none.
pub fn id(text: &str) -> Result<Uuid, Refusal> {
    names::uuid(text).ok_or_else(|| Failure::Id.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::target;

    fn body(scope: &str, size: ResourceType, provider_url: Option<&str>) -> TargetBody {
        let provider_url = provider_url.map(str::to_owned);
        let scope = scope.to_owned();
        TargetBody { scope, resource_type: size, provider_url, ..TargetBody::default() }
    }

    fn change(size: Option<ResourceType>, provider_url: ProviderUrl) -> Change {
        let (mode, max_runners) = (Said::Nothing, Said::Nothing);
        Change { resource_type: size, provider_url, mode, max_runners }
    }

    fn words<T: std::fmt::Debug>(refused: Result<T, Refusal>) -> (u16, String) {
        let refusal = refused.unwrap_err();
        (refusal.status, refusal.words)
    }

    #[test]
    fn a_creation_needs_scope_and_size() {
        assert_eq!(create(&body("acme", ResourceType::Nano, None)), Ok(()));
        for missing in
            [body("", ResourceType::Nano, None), body("acme", ResourceType::Unknown, None)]
        {
            let expected = (400, "scope, resource_type must be set".to_owned());
            assert_eq!(words(create(&missing)), expected);
        }
    }

    #[test]
    fn a_scope_is_an_organization_or_a_repository() {
        assert_eq!(scope_path("acme").unwrap(), "/orgs/acme");
        assert_eq!(scope_path("acme/repo").unwrap(), "/repos/acme/repo");
        let expected = (400, "github scope is invalid (maybe, repository is not found)".to_owned());
        assert_eq!(words(scope_path("a/b/c")), expected);
    }

    #[test]
    fn a_scope_is_registered_once_and_comes_back_under_its_id() {
        let sent = body("Acme", ResourceType::Large, Some(""));
        assert_eq!(creation(&sent, None), Ok(Creation::Insert));
        for status in ["active", "running", "suspend", "error"] {
            let known = target("acme", Status::of(status));
            let expected = format!("Acme is already registered, current status is {status}.");
            assert_eq!(words(creation(&sent, Some(&known))), (400, expected));
        }
        let known = target("acme", Status::Deleted);
        let change = change(Some(ResourceType::Large), ProviderUrl::Clear);
        assert_eq!(creation(&sent, Some(&known)), Ok(Creation::Undelete(known.id, change)));
    }

    #[test]
    fn an_update_changes_what_it_says_and_never_the_scope() {
        let known = target("acme", Status::Deleted);
        let changed = |size, url| update(&body("acme", size, url), &known).unwrap();
        assert_eq!(changed(ResourceType::Unknown, None), change(None, ProviderUrl::Keep));
        let all = change(Some(ResourceType::Micro), ProviderUrl::Set("u".to_owned()));
        assert_eq!(changed(ResourceType::Micro, Some("u")), all);
        for scope in ["", "Acme", "acme/repo"] {
            let refused = words(update(&body(scope, ResourceType::Nano, None), &known));
            assert_eq!(refused, (400, "invalid input: can't updatable fields (Scope)".to_owned()));
        }
    }

    #[test]
    fn what_runs_or_is_deleted_is_not_deleted() {
        for status in ["active", "suspend", "error", "odd"] {
            assert_eq!(delete(&target("acme", Status::of(status))), Ok(()), "{status}");
        }
        let refused = words(delete(&target("acme", Status::Running)));
        assert_eq!(refused.1, "target has running runner now, please stop all runner");
        let refused = words(delete(&target("acme", Status::Deleted)));
        assert_eq!(refused, (400, "target is already deleted".to_owned()));
    }

    #[test]
    fn ids_are_taken_in_any_form() {
        for text in [
            "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1",
            "3D3AB4CD-98D8-4D2B-8A1C-0D2B44B2B0A1",
            "3d3ab4cd98d84d2b8a1c0d2b44b2b0a1",
            "{3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1}",
            "urn:uuid:3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1",
        ] {
            assert_eq!(id(text).unwrap().to_string(), "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1");
        }
        for text in ["", "not-a-uuid", "URN:UUID:3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1"] {
            assert_eq!(words(id(text)), (400, "incorrect target id".to_owned()), "{text}");
        }
    }
}
