//! Scale sets and runner groups.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::config::{Flavor, Settings};
use crate::model::{JobState, Label, Statistics};

use super::State;
use super::messages::{Item, Message};
use super::sessions::Session;

/// The group every scope has.
pub(crate) const DEFAULT_GROUP: &str = "Default";

#[derive(Debug)]
pub(crate) struct ScaleSet {
    pub(crate) id: i64,
    pub(crate) tenant: i64,
    pub(crate) name: String,
    pub(crate) group_id: i64,
    pub(crate) labels: Vec<Label>,
    pub(crate) disable_update: bool,
    pub(crate) created_us: u64,
    pub(crate) flavor: Flavor,
    pub(crate) session: Option<Session>,
    /// What the last poll of the open session advertised.
    pub(crate) capacity: Option<u32>,
    pub(crate) waiting: VecDeque<u64>,
    pub(crate) available: Vec<u64>,
    pub(crate) assigned: VecDeque<u64>,
    /// Jobs offered to a runner or running.
    pub(crate) active: u64,
    /// Runners with a poll in flight and no job.
    pub(crate) idle: VecDeque<i64>,
    pub(crate) registered: u64,
    pub(crate) online: u64,
    pub(crate) busy: u64,
    pub(crate) outbox: VecDeque<Item>,
    pub(crate) unacknowledged: Option<Message>,
    pub(crate) next_message: i64,
    pub(crate) acknowledged: u64,
    pub(crate) wake: Arc<Notify>,
}

impl ScaleSet {
    pub(crate) fn assigned_total(&self) -> u64 {
        self.assigned.len() as u64 + self.active
    }

    /// Whether a job with these wishes may come here.
    pub(crate) fn takes(&self, wants: Option<&str>, labels: &[String]) -> bool {
        if let Some(wants) = wants {
            return self.name == wants;
        }
        !labels.is_empty()
            && labels.iter().all(|want| {
                self.name.eq_ignore_ascii_case(want)
                    || self.labels.iter().any(|label| label.name.eq_ignore_ascii_case(want))
            })
    }

    /// The statistics as the service states them, lies included.
    pub(crate) fn stated(&self, settings: &Settings) -> Statistics {
        let mut statistics = self.statistics();
        if let Some(lie) = settings.stated_assigned_jobs.get(&self.name) {
            statistics.total_assigned_jobs = *lie;
        }
        statistics
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            total_available_jobs: self.available.len() as u64,
            total_acquired_jobs: self.assigned.len() as u64,
            total_assigned_jobs: self.assigned_total(),
            total_running_jobs: self.active,
            total_registered_runners: self.registered,
            total_busy_runners: self.busy,
            total_idle_runners: self.online.saturating_sub(self.busy),
        }
    }
}

/// What a create or an update states; `None` leaves as it is.
#[derive(Debug, Default)]
pub(crate) struct SetChange {
    pub(crate) name: Option<String>,
    pub(crate) group_id: Option<i64>,
    pub(crate) labels: Option<Vec<Label>>,
    pub(crate) disable_update: Option<bool>,
}

impl State {
    /// The groups of a scope: id, name, public. `Default` is 1.
    pub(crate) fn groups(&self, scope: &str) -> Vec<(i64, String, bool)> {
        let mut groups = vec![(1, DEFAULT_GROUP.to_owned(), false)];
        let mut id = 1;
        for group in &self.settings.groups {
            id += 1;
            let here = group.scope.as_ref().is_none_or(|only| only.eq_ignore_ascii_case(scope));
            if !here {
                continue;
            }
            if group.name.eq_ignore_ascii_case(DEFAULT_GROUP) {
                groups[0].2 = group.allows_public_repositories;
            } else {
                groups.push((id, group.name.clone(), group.allows_public_repositories));
            }
        }
        groups
    }

    pub(crate) fn group_name(&self, scope: &str, id: i64) -> Option<String> {
        self.groups(scope).into_iter().find(|(known, _, _)| *known == id).map(|(_, name, _)| name)
    }

    pub(crate) fn find_set(&self, tenant: i64, group: Option<i64>, name: &str) -> Option<i64> {
        self.candidates(tenant, Some(name)).into_iter().find(|id| {
            self.sets.get(id).is_some_and(|set| group.is_none_or(|group| set.group_id == group))
        })
    }

    /// Scale sets a job may fit, in order of creation.
    pub(crate) fn candidates(&self, tenant: i64, wants: Option<&str>) -> Vec<i64> {
        match wants {
            Some(name) => {
                self.set_names.get(&(tenant, name.to_owned())).cloned().unwrap_or_default()
            }
            None => self.tenants.get(&tenant).map(|tenant| tenant.sets.clone()).unwrap_or_default(),
        }
    }

    /// Makes a scale set; `None` if the name is taken in its group.
    pub(crate) fn create_set(&mut self, tenant: i64, change: SetChange) -> Option<i64> {
        let name = change.name.unwrap_or_default();
        let group_id = change.group_id.unwrap_or(1);
        if self.find_set(tenant, Some(group_id), &name).is_some() {
            return None;
        }
        let id = self.take_id();
        let labels = change
            .labels
            .filter(|labels| !labels.is_empty() && !self.settings.labels_dropped)
            .unwrap_or_else(|| vec![Label { name: name.clone(), label_type: "System".to_owned() }]);
        let flavor = self.flavor(self.scope_of(tenant));
        let set = ScaleSet {
            id,
            tenant,
            name: name.clone(),
            group_id,
            labels,
            disable_update: change.disable_update.unwrap_or(false),
            created_us: self.now_us(),
            flavor,
            session: None,
            capacity: None,
            waiting: VecDeque::new(),
            available: Vec::new(),
            assigned: VecDeque::new(),
            active: 0,
            idle: VecDeque::new(),
            registered: 0,
            online: 0,
            busy: 0,
            outbox: VecDeque::new(),
            unacknowledged: None,
            next_message: 1,
            acknowledged: 0,
            wake: Arc::new(Notify::new()),
        };
        self.sets.insert(id, set);
        self.set_names.entry((tenant, name)).or_default().push(id);
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.sets.push(id);
        }
        self.totals.scale_sets += 1;
        self.house_homeless(tenant);
        self.touch();
        Some(id)
    }

    /// Changes a scale set; false if it is not there.
    pub(crate) fn update_set(&mut self, id: i64, change: SetChange) -> bool {
        let Some(set) = self.sets.get_mut(&id) else { return false };
        let tenant = set.tenant;
        if let Some(group_id) = change.group_id {
            set.group_id = group_id;
        }
        if let Some(labels) = change.labels.filter(|_| !self.settings.labels_dropped) {
            set.labels = labels;
        }
        if let Some(disable_update) = change.disable_update {
            set.disable_update = disable_update;
        }
        if let Some(name) = change.name
            && name != set.name
        {
            let old = std::mem::replace(&mut set.name, name.clone());
            if let Some(ids) = self.set_names.get_mut(&(tenant, old)) {
                ids.retain(|other| *other != id);
            }
            self.set_names.entry((tenant, name)).or_default().push(id);
        }
        self.house_homeless(tenant);
        self.touch();
        true
    }

    /// Removes a scale set. What waited for it waits for another; what runs goes on.
    pub(crate) fn remove_set(&mut self, id: i64, why: &str) -> bool {
        self.end_session(id, why);
        let Some(set) = self.sets.get(&id) else { return false };
        let waiting: Vec<u64> =
            set.waiting.iter().chain(&set.available).chain(&set.assigned).copied().collect();
        for job in &waiting {
            self.unplace(*job);
        }
        let Some(set) = self.sets.remove(&id) else { return false };
        if let Some(ids) = self.set_names.get_mut(&(set.tenant, set.name.clone())) {
            ids.retain(|other| *other != id);
        }
        if let Some(tenant) = self.tenants.get_mut(&set.tenant) {
            tenant.sets.retain(|other| *other != id);
        }
        self.totals.scale_sets -= 1;
        for job in waiting {
            if self.jobs.get(&job).is_some_and(|job| job.state != JobState::Completed) {
                self.requeue(job);
            }
        }
        set.wake.notify_waiters();
        self.touch();
        true
    }
}
