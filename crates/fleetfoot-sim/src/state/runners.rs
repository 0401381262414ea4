//! A runner: registered, connected, waiting, busy, gone after its one job.

use std::sync::Arc;

use tokio::sync::Notify;

use super::State;
use super::timers::Due;

#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) id: i64,
    pub(crate) tenant: i64,
    pub(crate) set: Option<i64>,
    pub(crate) group_id: i64,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) online: bool,
    pub(crate) job: Option<u64>,
    credential: String,
    token: Option<String>,
    in_flight: u64,
    quiet: u64,
    /// Connected by the box itself.
    pub(crate) auto: bool,
    pub(crate) registered_us: u64,
    pub(crate) connected_us: Option<u64>,
    pub(crate) wake: Arc<Notify>,
}

/// What a new runner is.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) tenant: i64,
    pub(crate) set: Option<i64>,
    pub(crate) group_id: i64,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegisterError {
    /// The name is taken.
    Exists,
}

/// What a runner that connects is told.
#[derive(Debug)]
pub(crate) enum Connect {
    Welcome {
        token: String,
        name: String,
    },
    /// Used, removed or never made.
    Refused,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    NotFound,
    Busy,
}

impl State {
    /// Registers an offline runner: its number and its one-use credential.
    pub(crate) fn register(&mut self, new: Register) -> Result<(i64, String), RegisterError> {
        let key = (new.tenant, new.name.clone());
        if self.runner_names.contains_key(&key) {
            return Err(RegisterError::Exists);
        }
        let id = self.take_id();
        let credential = self.secret("jit");
        let auto_boot = self.settings.auto_runner_boot_ms;
        self.runner_names.insert(key, id);
        self.jit_credentials.insert(credential.clone(), id);
        self.runners.insert(
            id,
            Runner {
                id,
                tenant: new.tenant,
                set: new.set,
                group_id: new.group_id,
                name: new.name,
                labels: new.labels,
                online: false,
                job: None,
                credential: credential.clone(),
                token: None,
                in_flight: 0,
                quiet: 0,
                auto: auto_boot.is_some(),
                registered_us: self.now_us(),
                connected_us: None,
                wake: Arc::new(Notify::new()),
            },
        );
        if let Some(set) = new.set.and_then(|set| self.sets.get_mut(&set)) {
            set.registered += 1;
        }
        self.totals.runners += 1;
        self.totals.runners_registered_total += 1;
        if let Some(boot) = auto_boot {
            self.timers.after(boot, Due::AutoConnect { runner: id });
        }
        self.touch();
        Ok((id, credential))
    }

    /// A runner of somebody else.
    pub(crate) fn register_foreign(&mut self, tenant: i64, name: &str) -> bool {
        let new =
            Register { tenant, set: None, group_id: 1, name: name.to_owned(), labels: Vec::new() };
        self.register(new).is_ok()
    }

    /// The runner behind a token or a credential.
    pub(crate) fn runner_presenting(&self, token: &str, credential: Option<&str>) -> Option<i64> {
        let by_credential = credential.and_then(|credential| self.jit_credentials.get(credential));
        self.runner_tokens.get(token).or(by_credential).copied()
    }

    pub(crate) fn runner_by_name(&self, tenant: i64, name: &str) -> Option<i64> {
        self.runner_names.get(&(tenant, name.to_owned())).copied()
    }

    /// A runner presents the credential of its JIT config, which is spent by that.
    pub(crate) fn connect(&mut self, credential: &str) -> Connect {
        let now = self.now_us();
        let Some(id) = self.jit_credentials.remove(credential) else { return Connect::Refused };
        let token = self.secret("runner");
        let Some(runner) = self.runners.get_mut(&id) else { return Connect::Refused };
        runner.token = Some(token.clone());
        runner.connected_us = Some(now);
        let name = runner.name.clone();
        self.runner_tokens.insert(token.clone(), id);
        self.set_online(id, true);
        self.rest(id);
        self.touch();
        Connect::Welcome { token, name }
    }

    /// A call of a connected runner begins; `None` if the runner is not (any more) known.
    pub(crate) fn runner_entered(&mut self, token: &str) -> Option<i64> {
        let id = *self.runner_tokens.get(token)?;
        let runner = self.runners.get_mut(&id)?;
        runner.in_flight += 1;
        runner.quiet += 1;
        self.set_online(id, true);
        Some(id)
    }

    /// A call of a runner is over, answered or not.
    pub(crate) fn runner_left(&mut self, id: i64) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        runner.in_flight = runner.in_flight.saturating_sub(1);
        runner.quiet += 1;
        if runner.in_flight == 0 {
            self.rest(id);
        }
    }

    /// From now on the silence of a runner is measured.
    fn rest(&mut self, id: i64) {
        let Some(runner) = self.runners.get(&id) else { return };
        let delay = match runner.job {
            Some(_) => self.settings.runner_lost_after_ms,
            None => self.settings.runner_offline_after_ms,
        };
        self.timers.after(delay, Due::RunnerQuiet { runner: id, quiet: runner.quiet });
    }

    /// A runner waits for a job.
    pub(crate) fn runner_waits(&mut self, id: i64) {
        let Some(runner) = self.runners.get(&id).filter(|runner| runner.job.is_none()) else {
            return;
        };
        match runner.set {
            Some(set_id) => {
                let Some(set) = self.sets.get_mut(&set_id) else { return };
                if !set.idle.contains(&id) {
                    set.idle.push_back(id);
                }
                self.offer(set_id);
            }
            None => {
                let tenant_id = runner.tenant;
                let Some(tenant) = self.tenants.get_mut(&tenant_id) else { return };
                if !tenant.loose.contains(&id) {
                    tenant.loose.push_back(id);
                }
                self.match_loose(tenant_id);
            }
        }
        self.touch();
    }

    /// A runner no longer waits: its poll was answered or its connection ended.
    pub(crate) fn runner_stopped_waiting(&mut self, id: i64) {
        let Some(runner) = self.runners.get(&id) else { return };
        if let Some(set) = runner.set.and_then(|set| self.sets.get_mut(&set)) {
            set.idle.retain(|other| *other != id);
        } else if let Some(tenant) = self.tenants.get_mut(&runner.tenant) {
            tenant.loose.retain(|other| *other != id);
        }
    }

    /// An idle runner says goodbye. Its registration stays.
    pub(crate) fn leave(&mut self, id: i64) {
        self.runner_stopped_waiting(id);
        if let Some(runner) = self.runners.get_mut(&id)
            && let Some(token) = runner.token.take()
        {
            self.runner_tokens.remove(&token);
        }
        self.set_online(id, false);
        self.touch();
    }

    /// Removes a runner, unless it has a job.
    pub(crate) fn remove_runner(&mut self, tenant: i64, id: i64) -> Removal {
        let Some(runner) = self.runners.get(&id).filter(|runner| runner.tenant == tenant) else {
            return Removal::NotFound;
        };
        if runner.job.is_some() {
            return Removal::Busy;
        }
        self.forget_runner(id);
        self.touch();
        Removal::Removed
    }

    /// Whether a job can be offered to this runner at this moment.
    pub(crate) fn is_idle(&self, id: i64) -> bool {
        self.runners.get(&id).is_some_and(|runner| runner.online && runner.job.is_none())
    }

    pub(crate) fn forget_runner(&mut self, id: i64) {
        self.runner_stopped_waiting(id);
        self.set_online(id, false);
        let Some(runner) = self.runners.remove(&id) else { return };
        self.runner_names.remove(&(runner.tenant, runner.name));
        self.jit_credentials.remove(&runner.credential);
        if let Some(token) = runner.token {
            self.runner_tokens.remove(&token);
        }
        self.totals.runners -= 1;
        self.totals.runners_busy -= u64::from(runner.job.is_some());
        if let Some(set) = runner.set.and_then(|set| self.sets.get_mut(&set)) {
            set.registered -= 1;
            set.busy -= u64::from(runner.job.is_some());
        }
        runner.wake.notify_waiters();
    }

    fn set_online(&mut self, id: i64, online: bool) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        if runner.online == online {
            return;
        }
        runner.online = online;
        let set = runner.set.and_then(|set| self.sets.get_mut(&set));
        if online {
            self.totals.runners_online += 1;
            if let Some(set) = set {
                set.online += 1;
            }
        } else {
            self.totals.runners_online -= 1;
            if let Some(set) = set {
                set.online -= 1;
            }
        }
    }

    pub(crate) fn runner_quiet(&mut self, id: i64, quiet: u64) {
        let Some(runner) = self.runners.get(&id) else { return };
        if runner.quiet != quiet || runner.in_flight > 0 || runner.auto {
            return;
        }
        match runner.job {
            None => self.set_online(id, false),
            Some(job) => self.lose(id, job),
        }
        self.touch();
    }

    pub(crate) fn is_auto(&self, id: i64) -> bool {
        self.runners.get(&id).is_some_and(|runner| runner.auto)
    }

    /// The box plays this runner from now on.
    pub(crate) fn play(&mut self, id: i64) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.auto = true;
            self.auto_connect(id);
        }
    }

    pub(crate) fn auto_connect(&mut self, id: i64) {
        let Some(runner) = self.runners.get(&id) else { return };
        if let Connect::Welcome { .. } = self.connect(&runner.credential.clone()) {
            self.runner_waits(id);
        }
    }
}
