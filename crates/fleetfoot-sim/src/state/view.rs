//! The state as the control API tells it.

use crate::model::{BoxState, Job, Runner, ScaleSet, Summary};
use crate::request::{Expire, ExpireRequest};

use super::{State, jobs, runners, sets};

impl State {
    pub(crate) fn view(&self) -> BoxState {
        BoxState {
            now_us: self.now_us(),
            jobs: self.jobs.values().map(|job| self.view_job(job)).collect(),
            runners: self.runners.values().map(|runner| self.view_runner(runner)).collect(),
            scale_sets: self.sets.values().map(|set| self.view_set(set)).collect(),
            jit_calls: self.jit_calls.iter().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            requests: self.requests.clone(),
            summary: self.summary(),
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        self.totals
    }

    pub(crate) fn view_job(&self, job: &jobs::Job) -> Job {
        Job {
            id: job.id,
            job_id: job.facts.job_id.clone(),
            name: job.facts.name.clone(),
            scope: self.scope_of(job.tenant).to_owned(),
            scale_set: job.wants.clone(),
            labels: job.facts.labels.clone(),
            state: job.state,
            scale_set_id: job.set,
            runner: job.runner_name.clone(),
            result: job.result.clone(),
            starts: job.starts,
            withdrawals: job.withdrawals,
            excluded: job.excluded,
            lost: job.lost,
            duration_ms: job.facts.duration_ms,
            queued_us: job.facts.queued_us,
            assigned_us: job.assigned_us,
            delivered_us: job.delivered_us,
            runner_registered_us: job.runner_registered_us,
            runner_connected_us: job.runner_connected_us,
            offered_us: job.offered_us,
            started_us: job.started_us,
            completed_us: job.completed_us,
        }
    }

    pub(crate) fn view_runner(&self, runner: &runners::Runner) -> Runner {
        Runner {
            id: runner.id,
            name: runner.name.clone(),
            scope: self.scope_of(runner.tenant).to_owned(),
            scale_set_id: runner.set,
            labels: runner.labels.clone(),
            online: runner.online,
            busy: runner.job.is_some(),
            job: runner.job,
            registered_us: runner.registered_us,
            connected_us: runner.connected_us,
        }
    }

    pub(crate) fn view_set(&self, set: &sets::ScaleSet) -> ScaleSet {
        ScaleSet {
            id: set.id,
            scope: self.scope_of(set.tenant).to_owned(),
            name: set.name.clone(),
            runner_group_id: set.group_id,
            labels: set.labels.clone(),
            disable_update: set.disable_update,
            capacity: set.capacity,
            session_id: set.session.as_ref().map(|session| session.id.clone()),
            statistics: set.statistics(),
            undelivered: set.outbox.len(),
            unacknowledged: set.unacknowledged.as_ref().map(|message| message.id),
            acknowledged: set.acknowledged,
        }
    }

    /// Expires what is asked for; false if the scale set is not there.
    pub(crate) fn expire(&mut self, request: &ExpireRequest) -> bool {
        let tenant = request.scope.as_ref().map(|scope| self.tenant(scope));
        let sets: Vec<i64> = self
            .sets
            .values()
            .filter(|set| {
                tenant.is_none_or(|tenant| set.tenant == tenant)
                    && request.scale_set.as_ref().is_none_or(|name| set.name == *name)
            })
            .map(|set| set.id)
            .collect();
        match request.what {
            Expire::AdminTokens => self.tokens.expire_admin(tenant),
            Expire::RegistrationTokens => self.tokens.expire_registration(),
            Expire::InstallationTokens => self.tokens.expire_installation(),
            Expire::QueueTokens => sets.iter().for_each(|set| self.expire_queue_token(*set)),
            Expire::Sessions => sets.iter().for_each(|set| self.end_session(*set, "expired")),
        }
        request.scale_set.is_none() || !sets.is_empty()
    }
}
