//! From queued jobs to scale sets, from scale sets to runners, and back when nobody comes.

use std::sync::Arc;

use crate::config::Flavor;
use crate::model::JobState;

use super::State;
use super::messages::Item;
use super::timers::Due;

impl State {
    /// Finds a place for a job that is queued: a scale set, a runner without one, or none yet.
    pub(crate) fn place(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (tenant, facts, wants) = (job.tenant, Arc::clone(&job.facts), job.wants.clone());
        let sets = self.candidates(tenant, wants.as_deref());
        let mut excluded = false;
        for set_id in sets {
            let Some(set) = self.sets.get_mut(&set_id) else { continue };
            if !set.takes(wants.as_deref(), &facts.labels) {
                continue;
            }
            // Advertising nothing takes the set out of the choice for good.
            if set.session.is_some() && set.capacity == Some(0) {
                excluded = true;
                continue;
            }
            set.waiting.push_back(id);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.set = Some(set_id);
            }
            self.assign(set_id);
            return;
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.excluded = excluded;
        }
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.homeless.push_back(id);
        }
        self.match_loose(tenant);
    }

    /// A scale set came: jobs that waited for one like it move in.
    pub(crate) fn house_homeless(&mut self, tenant: i64) {
        let Some(tenant) = self.tenants.get_mut(&tenant) else { return };
        for id in std::mem::take(&mut tenant.homeless) {
            if self.jobs.get(&id).is_some_and(|job| job.excluded) {
                if let Some(job) = self.jobs.get(&id)
                    && let Some(tenant) = self.tenants.get_mut(&job.tenant)
                {
                    tenant.homeless.push_back(id);
                }
            } else {
                self.place(id);
            }
        }
    }

    /// Assigns waiting jobs as far as the advertised capacity goes (GHES: offers them all).
    pub(crate) fn assign(&mut self, set_id: i64) {
        let now = self.now_us();
        let withdraw_after = self.settings.withdraw_after_ms;
        loop {
            let Some(set) = self.sets.get_mut(&set_id) else { return };
            if set.session.is_none() {
                break;
            }
            let ghes = set.flavor == Flavor::Ghes;
            let room =
                set.capacity.is_some_and(|capacity| set.assigned_total() < u64::from(capacity));
            if !ghes && !room {
                break;
            }
            let Some(id) = set.waiting.pop_front() else { break };
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.assignment += 1;
            let (facts, assignment) = (Arc::clone(&job.facts), job.assignment);
            self.totals.jobs_waiting -= 1;
            if ghes {
                job.state = JobState::Available;
                set.available.push(id);
                self.totals.jobs_waiting += 1;
                self.timers.after(withdraw_after, Due::Reoffer { job: id, assignment });
                self.tell(set_id, Item::available(id, facts, now), true);
            } else {
                job.state = JobState::Assigned;
                job.assigned_us = Some(now);
                set.assigned.push_back(id);
                self.totals.jobs_assigned += 1;
                self.timers.after(withdraw_after, Due::Withdraw { job: id, assignment });
                self.tell(set_id, Item::assigned(id, facts, now), true);
            }
        }
        self.offer(set_id);
    }

    /// GHES: a client acquires an offered job. False if somebody has it already.
    pub(crate) fn acquire(&mut self, set_id: i64, request_id: i64) -> bool {
        let now = self.now_us();
        let Some(id) = u64::try_from(request_id - 10_000).ok() else { return false };
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        if job.state != JobState::Available || job.set != Some(set_id) {
            return false;
        }
        let Some(set) = self.sets.get_mut(&set_id) else { return false };
        job.state = JobState::Assigned;
        job.assigned_us = Some(now);
        job.assignment += 1;
        set.available.retain(|other| *other != id);
        set.assigned.push_back(id);
        self.totals.jobs_waiting -= 1;
        self.totals.jobs_assigned += 1;
        let due = Due::Withdraw { job: id, assignment: job.assignment };
        let facts = Arc::clone(&job.facts);
        self.timers.after(self.settings.withdraw_after_ms, due);
        self.tell(set_id, Item::assigned(id, facts, now), true);
        self.offer(set_id);
        self.touch();
        true
    }

    /// Hands assigned jobs to idle runners.
    pub(crate) fn offer(&mut self, set_id: i64) {
        loop {
            let Some(set) = self.sets.get_mut(&set_id) else { return };
            if set.assigned.is_empty() {
                return;
            }
            let Some(runner) = set.idle.pop_front() else { return };
            let Some(job) = set.assigned.pop_front() else { return };
            self.hand_over(job, runner);
        }
    }

    /// Hands homeless jobs to runners that belong to no scale set, by label.
    pub(crate) fn match_loose(&mut self, tenant_id: i64) {
        let Some(tenant) = self.tenants.get_mut(&tenant_id) else { return };
        if tenant.loose.is_empty() || tenant.homeless.is_empty() {
            return;
        }
        let runners = std::mem::take(&mut tenant.loose);
        for runner_id in runners {
            let labels = self.runners.get(&runner_id).map(|runner| runner.labels.clone());
            let Some(tenant) = self.tenants.get_mut(&tenant_id) else { return };
            let fits = |id: &u64| {
                self.jobs.get(id).is_some_and(|job| {
                    labels.as_ref().is_some_and(|labels| {
                        job.facts
                            .labels
                            .iter()
                            .all(|want| labels.iter().any(|label| label.eq_ignore_ascii_case(want)))
                    })
                })
            };
            match tenant.homeless.iter().position(fits) {
                Some(at) => {
                    if let Some(id) = tenant.homeless.remove(at) {
                        self.totals.jobs_waiting -= 1;
                        self.totals.jobs_assigned += 1;
                        self.hand_over(id, runner_id);
                    }
                }
                None => tenant.loose.push_back(runner_id),
            }
        }
    }

    /// Nobody took an assigned job in time.
    pub(crate) fn withdraw(&mut self, id: u64, assignment: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.state != JobState::Assigned || job.assignment != assignment {
            return;
        }
        if job.withdrawals >= self.settings.withdrawals_max {
            self.end_job(id, "canceled", true);
            self.touch();
            return;
        }
        job.withdrawals += 1;
        self.totals.withdrawals += 1;
        let (set, facts) = (job.set, Arc::clone(&job.facts));
        let now = self.now_us();
        self.unplace(id);
        if let Some(set) = set {
            self.tell(set, Item::completed(id, facts, "canceled", None, None, now), true);
        }
        self.requeue(id);
        self.touch();
    }

    /// Back to the queue, unassigned.
    pub(crate) fn requeue(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.state = JobState::Queued;
        job.set = None;
        job.runner = None;
        job.runner_name = None;
        job.assignment += 1;
        self.totals.jobs_waiting += 1;
        self.place(id);
    }

    /// GHES: an offer that nobody acquired is made again.
    pub(crate) fn reoffer(&mut self, id: u64, assignment: u64) {
        let now = self.now_us();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.state != JobState::Available || job.assignment != assignment {
            return;
        }
        let (set, facts) = (job.set, Arc::clone(&job.facts));
        // Nobody fetched the last offer: one is enough, however long that lasts.
        if let Some(set) = set.filter(|set| !self.has_offer(*set, id)) {
            self.tell(set, Item::available(id, facts, now), true);
        }
        self.timers.after(self.settings.withdraw_after_ms, Due::Reoffer { job: id, assignment });
    }

    /// Takes a job out of every count and queue it is in.
    pub(crate) fn unplace(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let set = job.set.and_then(|set| self.sets.get_mut(&set));
        match job.state {
            JobState::Queued => {
                self.totals.jobs_waiting -= 1;
                if let Some(set) = set {
                    set.waiting.retain(|other| *other != id);
                } else if let Some(tenant) = self.tenants.get_mut(&job.tenant) {
                    tenant.homeless.retain(|other| *other != id);
                }
            }
            JobState::Available => {
                self.totals.jobs_waiting -= 1;
                if let Some(set) = set {
                    set.available.retain(|other| *other != id);
                }
            }
            JobState::Assigned => {
                self.totals.jobs_assigned -= 1;
                if let Some(set) = set {
                    set.assigned.retain(|other| *other != id);
                }
            }
            JobState::Offered | JobState::Running => {
                self.totals.jobs_running -= 1;
                if let Some(set) = set {
                    set.active -= 1;
                }
            }
            JobState::Completed => {}
        }
    }
}
