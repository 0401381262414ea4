//! One configuration URL with one credential: the calls.

use std::fmt;
use std::sync::Arc;

use reqwest::Method;
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use crate::admin::{Admin, Call};
use crate::budget::{Budget, BudgetState};
use crate::config_url::ConfigUrl;
use crate::credentials::Credentials;
use crate::error::{ErrorKind, GithubError, Result, Subject, refused};
use crate::http::{Answer, Http, Lane, RateLimit};
use crate::message::Statistics;
use crate::nouns::{Jit, LabelKind, Removal, Runner, RunnerGroup, ScaleSet, ScaleSetSpec, labels};
use crate::opening;
use crate::wire;

pub(crate) const SETS: &str = "_apis/runtime/runnerscalesets";
const GROUPS: &str = "_apis/runtime/runnergroups/";
const RUNNERS: &str = "_apis/distributedtask/pools/0/agents";

/// The way to one organization, repository or enterprise with one credential. Cheap to clone;
/// clones share tokens, limits and connections, so all pools of the pair should share one.
#[derive(Clone)]
pub struct Connection {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    url: ConfigUrl,
    pub(crate) admin: Admin,
    budget: Arc<Budget>,
    pub(crate) opening: Semaphore,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.inner.url.as_str()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Checks the credential as far as that goes without a request. Sends nothing.
    pub fn new(http: &Http, url: &ConfigUrl, credentials: &Credentials) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                url: url.clone(),
                admin: Admin::new(http, url, credentials)?,
                budget: http.shared().budget(&format!("{} {}", url.api("/"), credentials.limits())),
                opening: opening::turns(),
            }),
        })
    }

    /// The very same one, or a clone of it: what was opened over one may go on over the other.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Its configuration URL.
    #[must_use]
    pub fn url(&self) -> &ConfigUrl {
        &self.inner.url
    }

    pub(crate) fn admin(&self) -> &Admin {
        &self.inner.admin
    }

    /// What the credential may still ask for, as far as GitHub has told.
    #[must_use]
    pub fn budget(&self) -> BudgetState {
        self.inner.budget.state()
    }

    /// What GitHub last said of the calls to its REST API that are left; nothing where it has no limit.
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.admin().rate_limit()
    }

    /// Seconds by which this machine's clock is ahead of GitHub's, once an answer has told.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        self.admin().clock.ahead_seconds()
    }

    /// Finds a runner group by its name, and who may use it.
    pub async fn runner_group(&self, name: &str) -> Result<Option<RunnerGroup>> {
        let Some(group) = self.find_group(name).await? else { return Ok(None) };
        let allows_public_repositories = self.allows_public_repositories(&group.name).await;
        Ok(Some(RunnerGroup {
            id: group.id,
            name: group.name,
            is_default: group.is_default_group,
            allows_public_repositories,
        }))
    }

    /// The number of the runner group of this name.
    pub async fn runner_group_id(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.find_group(name).await?.map(|group| group.id))
    }

    async fn find_group(&self, name: &str) -> Result<Option<wire::Group>> {
        const OPERATION: &str = "get the runner group";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner_group.look_up.before");
        let answer = self.get(OPERATION, GROUPS, &[("groupName", name)]).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner_group.look_up.after");
        if answer.status == 404 {
            return Ok(None);
        }
        let groups: wire::List<wire::Group> =
            wire::read(OPERATION, &success(OPERATION, answer, Subject::Other)?)?;
        only_one(OPERATION, groups)
    }

    /// Finds a scale set by its group and name.
    pub async fn scale_set(&self, group_id: i64, name: &str) -> Result<Option<ScaleSet>> {
        const OPERATION: &str = "get the scale set";
        let group = group_id.to_string();
        let query = [("runnerGroupId", group.as_str()), ("name", name)];
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.look_up.before");
        let answer = self.get(OPERATION, SETS, &query).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.look_up.after");
        let sets: wire::List<wire::ScaleSetBody> =
            wire::read(OPERATION, &success(OPERATION, answer, Subject::Other)?)?;
        Ok(only_one(OPERATION, sets)?.map(Into::into))
    }

    /// Creates a scale set, with its labels and runner updates disabled. If another was
    /// faster, that one is returned.
    pub async fn create_scale_set(&self, spec: &ScaleSetSpec) -> Result<ScaleSet> {
        self.create_or_find_scale_set(spec).await.map(|(set, _)| set)
    }

    /// The same, and whether this call made it.
    pub async fn create_or_find_scale_set(&self, spec: &ScaleSetSpec) -> Result<(ScaleSet, bool)> {
        const OPERATION: &str = "create the scale set";
        let name_as_label = std::slice::from_ref(&spec.name);
        let names = if spec.labels.is_empty() { name_as_label } else { &spec.labels };
        let body = wire::NewScaleSet {
            name: &spec.name,
            runner_group_id: spec.group_id,
            labels: labels(names, spec.label_kind),
            runner_setting: wire::RunnerSetting { disable_update: true },
        };
        let body = wire::write(OPERATION, &body)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.create.before");
        let answer =
            self.send(OPERATION, Lane::Control, Method::POST, SETS.to_owned(), Some(body)).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.create.after");
        if matches!(answer.status, 400 | 409)
            && let Some(existing) = self.scale_set(spec.group_id, &spec.name).await?
        {
            return Ok((existing, false));
        }
        let set: wire::ScaleSetBody =
            wire::read(OPERATION, &success(OPERATION, answer, Subject::Other)?)?;
        Ok((set.into(), true))
    }

    /// Replaces the labels of a scale set and sends everything else back as received.
    pub async fn update_scale_set_labels(
        &self,
        id: i64,
        names: &[String],
        kind: LabelKind,
    ) -> Result<ScaleSet> {
        const OPERATION: &str = "update the scale set's labels";
        let path = format!("{SETS}/{id}");
        let answer = self.get(OPERATION, &path, &[]).await?;
        let mut set: serde_json::Value =
            wire::read(OPERATION, &success(OPERATION, answer, Subject::ScaleSet)?)?;
        set["labels"] = serde_json::json!(labels(names, kind));
        let body = wire::write(OPERATION, &set)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.update.before");
        let answer = self.send(OPERATION, Lane::Control, Method::PATCH, path, Some(body)).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.update.after");
        let set: wire::ScaleSetBody =
            wire::read(OPERATION, &success(OPERATION, answer, Subject::ScaleSet)?)?;
        Ok(set.into())
    }

    /// What a scale set counts now, where GitHub says it; nothing for one that is gone.
    pub async fn scale_set_statistics(&self, id: i64) -> Result<Option<Statistics>> {
        const OPERATION: &str = "get the scale set";
        let answer = self.get(OPERATION, &format!("{SETS}/{id}"), &[]).await?;
        match success(OPERATION, answer, Subject::ScaleSet) {
            Ok(answer) => {
                Ok(wire::read::<wire::CountedSet>(OPERATION, &answer)?.statistics.map(Into::into))
            }
            Err(error) if *error.kind() == ErrorKind::ScaleSetGone => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a scale set; one that is gone is fine.
    pub async fn delete_scale_set(&self, id: i64) -> Result<()> {
        const OPERATION: &str = "delete the scale set";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.delete.before");
        let answer = self.delete(OPERATION, Lane::Control, format!("{SETS}/{id}")).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scale_set.delete.after");
        gone(OPERATION, answer, Subject::ScaleSet)
    }

    /// Deletes a session by its saved id, so that a new one can be opened; one that is gone is
    /// fine, and so is one whose scale set is gone.
    pub async fn delete_session(&self, set_id: i64, session_id: &str) -> Result<()> {
        const OPERATION: &str = "delete a message session";
        // The id becomes a part of a path.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if session_id.is_empty() || !session_id.chars().all(is_plain) {
            let detail = "the session id has unexpected characters";
            return Err(GithubError::new(OPERATION, ErrorKind::Settings, detail));
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.session.delete.before");
        let answer = self
            .delete(OPERATION, Lane::Control, format!("{SETS}/{set_id}/sessions/{session_id}"))
            .await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.session.delete.after");
        gone(OPERATION, answer, Subject::Session)
    }

    /// Registers a runner and gets its JIT config. At most one request reaches GitHub (two if it
    /// refused the first one's token): a config whose answer was lost cannot be had again.
    pub async fn jit_config(&self, set_id: i64, runner_name: &str) -> Result<Jit> {
        const OPERATION: &str = "get a JIT config";
        let body = wire::write(OPERATION, &wire::NewJit { name: runner_name, work_folder: "" })?;
        let path = format!("{SETS}/{set_id}/generatejitconfig");
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.jit_config.before");
        let answer = {
            let _place = self.inner.budget.take(OPERATION).await?;
            self.send(OPERATION, Lane::Runners, Method::POST, path, Some(body)).await?
        };
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.jit_config.after");
        let answer = success(OPERATION, answer, Subject::ScaleSet).inspect_err(|error| {
            if let Some(retry_after) = error.retry_after() {
                self.inner.budget.limited(retry_after);
            }
        })?;
        self.inner.budget.note(&answer);
        let jit: wire::JitBody = wire::read(OPERATION, &answer)?;
        match jit.runner {
            Some(runner) if !jit.config.expose_secret().is_empty() => {
                Ok(Jit { runner_id: runner.id, config: jit.config })
            }
            _ => {
                let detail = "the JIT config or its runner is missing";
                Err(GithubError::new(OPERATION, ErrorKind::Unusable, detail))
            }
        }
    }

    /// Looks a runner up by its number.
    pub async fn runner_by_id(&self, id: i64) -> Result<Option<Runner>> {
        const OPERATION: &str = "look up a runner";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner.look_up_by_id.before");
        let answer = self.get(OPERATION, &format!("{RUNNERS}/{id}"), &[]).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner.look_up_by_id.after");
        match success(OPERATION, answer, Subject::Other) {
            Ok(answer) => Ok(Some(wire::read::<wire::RunnerBody>(OPERATION, &answer)?.into())),
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks a runner up by its exact name.
    pub async fn runner_by_name(&self, name: &str) -> Result<Option<Runner>> {
        const OPERATION: &str = "look up a runner";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner.look_up_by_name.before");
        let answer = self.get(OPERATION, RUNNERS, &[("agentName", name)]).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner.look_up_by_name.after");
        let runners: wire::List<wire::RunnerBody> =
            wire::read(OPERATION, &success(OPERATION, answer, Subject::Other)?)?;
        let exact = runners.value.into_iter().find(|runner| runner.name.eq_ignore_ascii_case(name));
        Ok(exact.map(Into::into))
    }

    /// Removes a runner's registration, unless it has a job.
    pub async fn remove_runner(&self, id: i64) -> Result<Removal> {
        const OPERATION: &str = "remove a runner";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner.remove.before");
        let answer = self.delete(OPERATION, Lane::Runners, format!("{RUNNERS}/{id}")).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.runner.remove.after");
        if answer.status == 422 {
            return Ok(Removal::Busy);
        }
        // Only this says that it is gone: another success is a proxy's word, not GitHub's (seed 898).
        if answer.status == 204 {
            return Ok(Removal::Gone);
        }
        let error = match success(OPERATION, answer, Subject::Other) {
            Ok(answer) => {
                let detail = format!("status {} instead of 204", answer.status);
                return Err(GithubError::new(OPERATION, ErrorKind::Unusable, detail));
            }
            Err(error) => error,
        };
        if *error.kind() == ErrorKind::RunnerBusy {
            return Ok(Removal::Busy);
        }
        if *error.kind() == ErrorKind::NotFound {
            return Ok(Removal::Gone);
        }
        Err(error)
    }

    async fn get(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer> {
        self.admin()
            .call_again(|| Call {
                operation,
                lane: Lane::Control,
                method: Method::GET,
                path: path.to_owned(),
                query,
                body: None,
            })
            .await
    }

    async fn delete(&self, operation: &'static str, lane: Lane, path: String) -> Result<Answer> {
        self.admin()
            .call_again(|| Call {
                operation,
                lane,
                method: Method::DELETE,
                path: path.clone(),
                query: &[],
                body: None,
            })
            .await
    }

    async fn send(
        &self,
        operation: &'static str,
        lane: Lane,
        method: Method,
        path: String,
        body: Option<Vec<u8>>,
    ) -> Result<Answer> {
        self.admin().call(Call { operation, lane, method, path, query: &[], body }).await
    }
}

fn success(operation: &'static str, answer: Answer, subject: Subject) -> Result<Answer> {
    if answer.is_success() { Ok(answer) } else { Err(refused(operation, &answer, subject)) }
}

/// The end of a deletion: gone is gone, whoever did it.
fn gone(operation: &'static str, answer: Answer, subject: Subject) -> Result<()> {
    let Err(error) = success(operation, answer, subject) else {
        return Ok(());
    };
    let is_gone = matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::SessionGone | ErrorKind::ScaleSetGone
    );
    if is_gone { Ok(()) } else { Err(error) }
}

fn only_one<T>(operation: &'static str, list: wire::List<T>) -> Result<Option<T>> {
    if list.value.len() > 1 {
        let detail = format!("{} of that name", list.value.len());
        return Err(GithubError::new(operation, ErrorKind::Unusable, detail));
    }
    Ok(list.value.into_iter().next())
}
