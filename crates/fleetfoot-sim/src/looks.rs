//! Single facts of a box, for who checks a client in the same process: the whole state would be copied each time.

use crate::github_box::GithubBox;
use crate::model::JobState;

impl GithubBox {
    /// The message that a scale set's session was sent and has not acknowledged: its number, and the jobs of which it
    /// says that they are assigned.
    #[must_use]
    pub fn told_assigned(&self, scope: &str, scale_set: &str) -> Option<(i64, Vec<u64>)> {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let set = state.find_set(tenant, None, scale_set).and_then(|id| state.sets.get(&id))?;
        let sent = set.unacknowledged.as_ref()?;
        Some((sent.id, sent.assigned.clone()))
    }

    /// How many of these jobs are with no scale set now: their assignment was taken back, or they are over.
    #[must_use]
    pub fn count_unassigned(&self, jobs: &[u64]) -> usize {
        let state = self.shared.lock();
        let assigned = |id: &&u64| {
            state.jobs.get(id).is_some_and(|job| {
                matches!(job.state, JobState::Assigned | JobState::Offered | JobState::Running)
            })
        };
        jobs.len() - jobs.iter().filter(assigned).count()
    }

    /// The message that was sent last, and that nobody acknowledged yet, has as many items as fit.
    #[must_use]
    pub fn sent_full(&self, scope: &str, scale_set: &str) -> bool {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let set = state.find_set(tenant, None, scale_set).and_then(|id| state.sets.get(&id));
        set.and_then(|set| set.unacknowledged.as_ref()).is_some_and(|sent| sent.is_full)
    }

    /// The first job that is not over and that asked for one of the scale sets that `wanted` names.
    #[must_use]
    pub fn open_job(&self, wanted: impl Fn(&str) -> bool) -> Option<crate::model::Job> {
        let state = self.shared.lock();
        let is_it = |job: &&crate::state::Job| {
            job.completed_us.is_none() && job.wants.as_deref().is_some_and(&wanted)
        };
        state.jobs.values().find(is_it).map(|job| state.view_job(job))
    }

    /// The time on its clock, microseconds since 1970.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.shared.lock().now_us()
    }

    /// The jobs that are not over, and those that are since then; far fewer than all of a long history.
    #[must_use]
    pub fn jobs_since(&self, completed_us: u64) -> Vec<crate::model::Job> {
        let state = self.shared.lock();
        let all = state.jobs.values();
        let since = all.filter(|job| job.completed_us.is_none_or(|at| at > completed_us));
        since.map(|job| state.view_job(job)).collect()
    }
}
