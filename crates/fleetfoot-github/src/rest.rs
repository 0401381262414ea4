//! The few calls of GitHub's public REST API that the scale set service has no answer for.

use crate::config_url::Scope;
use crate::connection::Connection;
use crate::error::{ErrorKind, GithubError, Result, Subject, refused};
use crate::wire;

const PAGE_SIZE: usize = 100;
const LISTS_MAX: usize = 3;
/// More than GitHub lets register in one scope.
const PAGES_MAX: usize = 1_000;

/// A runner as the REST API lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerStatus {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it has a job.
    pub busy: bool,
}

impl Connection {
    /// All runners of the scope: a complete list or an error.
    ///
    /// Runners come and go while its pages are fetched, which can push one from a page that is
    /// still to come to one that was already read; such a list is short, and fetched again.
    pub async fn list_runners(&self) -> Result<Vec<RunnerStatus>> {
        const OPERATION: &str = "list the runners";
        for _ in 0..LISTS_MAX {
            let (runners, total) = self.list_once(OPERATION).await?;
            if runners.len() >= total {
                return Ok(runners);
            }
        }
        Err(GithubError::new(OPERATION, ErrorKind::Unusable, "some were missing each time"))
    }

    async fn list_once(&self, operation: &'static str) -> Result<(Vec<RunnerStatus>, usize)> {
        let base = format!("{}/actions/runners", self.url().scope().rest_path());
        let mut runners: Vec<RunnerStatus> = Vec::new();
        for page in 1..=PAGES_MAX {
            let path = format!("{base}?per_page={PAGE_SIZE}&page={page}");
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.runners.list.before");
            let answer = self.admin().rest(operation, &path).await?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.runners.list.after");
            if !answer.is_success() {
                let error = refused(operation, &answer, Subject::Other);
                return Err(name_permission(error, self.url().scope()));
            }
            let listed: wire::RestRunners = wire::read(operation, &answer)?;
            let is_last = listed.runners.len() < PAGE_SIZE;
            runners.extend(listed.runners.into_iter().map(Into::into));
            if is_last {
                return Ok((distinct_by_id(runners), listed.total_count));
            }
        }
        Err(GithubError::new(operation, ErrorKind::Unusable, "it does not end"))
    }

    /// Whether public repositories may use a runner group. Best effort: a token that manages
    /// runners may still not be allowed to look.
    pub(crate) async fn allows_public_repositories(&self, group: &str) -> Option<bool> {
        const OPERATION: &str = "get the runner group's visibility";
        let scope = self.url().scope();
        if matches!(scope, Scope::Repository { .. }) {
            return None;
        }
        let path = format!("{}/actions/runner-groups?per_page=100", scope.rest_path());
        let answer = self.admin().rest(OPERATION, &path).await.ok()?;
        if !answer.is_success() {
            return None;
        }
        let groups: wire::RestGroups = wire::read(OPERATION, &answer).ok()?;
        groups
            .runner_groups
            .into_iter()
            .find(|known| known.name.eq_ignore_ascii_case(group))?
            .allows_public_repositories
    }
}

fn distinct_by_id(mut runners: Vec<RunnerStatus>) -> Vec<RunnerStatus> {
    runners.sort_by_key(|runner| runner.id);
    runners.dedup_by_key(|runner| runner.id);
    runners
}

fn name_permission(error: GithubError, scope: &Scope) -> GithubError {
    let unnamed = ErrorKind::Forbidden { permission: None };
    if *error.kind() != unnamed && *error.kind() != ErrorKind::NotFound {
        return error;
    }
    let kind = ErrorKind::Forbidden { permission: Some(scope.permission().to_owned()) };
    GithubError::new(error.operation(), kind, format!("for {scope}"))
}

impl From<wire::RestRunner> for RunnerStatus {
    fn from(body: wire::RestRunner) -> Self {
        let online = body.status.eq_ignore_ascii_case("online");
        Self { id: body.id, name: body.name, online, busy: body.busy }
    }
}
