//! What a target becomes: a pool whose provisioner is the shoes plugin.
//!
//! | Target | Pool |
//! | --- | --- |
//! | gets jobs | served |
//! | `suspend`, or a limit of 0 | drained, its session closed; the scale set stays |
//! | `deleted`, or its mode is `webhook` | drained; then its scale set is deleted, if we made it |
//!
//! A target that says no mode of its own has the one that `SCALESET_ENABLED` says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetfoot_controller::{PoolSettings, ScaleSetEnd, SessionSettings};
use fleetfoot_core::host::Footprint;
use fleetfoot_core::{Naming, PoolName, PoolSpec, PoolState, ResourceType, Span};
use fleetfoot_github::{Connection, LabelKind};
use fleetfoot_myshoes::environment::{ScaleSet, Switch};
use fleetfoot_myshoes::names;
use fleetfoot_myshoes::target::{Mode, Status};
use fleetfoot_provisioner_shoes::script::Script;
use fleetfoot_provisioner_shoes::{PluginHost, ShoesPool, ShoesProvisioner};
use fleetfoot_store::{RunnerRows, Store, TargetRow};
use tokio::sync::watch;

use super::Environment;
use super::github::Github;

/// Plugins wait for their clouds: three minutes for a machine, five for its end.
const CREATE: Span = Span::minutes(10);
const BOOT: Span = Span::minutes(10);
const STOP: Span = Span::minutes(6);

/// Longer names do not name a pool.
const NAME_MAX: usize = 64;

/// Makes pools of targets, again and again: what does not change is the very same provisioner.
#[derive(Debug)]
pub struct Pools {
    github: Arc<Github>,
    host: Arc<PluginHost>,
    script: watch::Receiver<Option<Arc<Script>>>,
    scale_set: ScaleSet,
    extra_labels: Vec<String>,
    runner_user: String,
    github_url: String,
    calls: usize,
    made: BTreeMap<PoolName, (Recipe, Arc<ShoesProvisioner>)>,
    /// Pools that could not be put together at the last look: said once.
    set_aside: BTreeMap<PoolName, String>,
}

/// What the targets come to.
#[derive(Debug, Default)]
pub struct Served {
    /// Pools, those that are only drained included.
    pub pools: Vec<PoolSettings>,
    /// Pools that targets want and that are not among them, or only to be drained; with the reason.
    pub set_aside: BTreeMap<PoolName, String>,
}

/// Why a target whose mode says so has no scale set.
const WEBHOOK: &str = "its mode is webhook, which this version does not serve: it gets no scale set, say \"mode\":\"scaleset\" for one";

/// The same of one that says none.
const SWITCHED_OFF: &str = "SCALESET_ENABLED is false, so its mode is webhook, which this version does not serve: it gets no scale set, say \"mode\":\"scaleset\" for one";

/// Everything of a target that its provisioner is made from.
type Recipe = (ResourceType, String);

impl Pools {
    /// No target is known yet.
    #[must_use]
    pub fn new(
        environment: &Environment,
        github: Arc<Github>,
        host: Arc<PluginHost>,
        script: watch::Receiver<Option<Arc<Script>>>,
    ) -> Self {
        Self {
            github,
            host,
            script,
            scale_set: environment.settings.scale_set.clone(),
            extra_labels: environment.own.extra_labels.clone(),
            runner_user: environment.settings.runner_user.clone(),
            github_url: environment.settings.github_url.clone(),
            calls: usize::try_from(environment.settings.max_connections).unwrap_or(usize::MAX),
            made: BTreeMap::new(),
            set_aside: BTreeMap::new(),
        }
    }

    /// The pools of these targets. One that cannot be put together is left as it is and tried at the next look. Names
    /// that are `taken` already are no target's.
    pub async fn of(
        &mut self,
        targets: &[TargetRow],
        store: &Store,
        taken: &BTreeSet<PoolName>,
    ) -> Served {
        let mut served = Served::default();
        let mut rows = BTreeMap::new();
        let present = store.pools();
        for (name, target) in named(targets, &self.scale_set.name_prefix) {
            let state = present.get(&name).map(Arc::as_ref);
            let receives = Status::of(&target.status).can_receive();
            if taken.contains(&name) {
                if receives {
                    let reason = "a pool of the configuration has its name".to_owned();
                    served.set_aside.insert(name, reason);
                }
                continue;
            }
            let is_webhook = self.mode(target) == Mode::Webhook;
            if receives && is_webhook {
                let reason = if own_mode(target).is_some() { WEBHOOK } else { SWITCHED_OFF };
                if self.set_aside.get(&name).map(String::as_str) != Some(reason) {
                    let scope = &target.scope;
                    tracing::warn!("[scaleset] target {scope} gets no machines: {reason}");
                }
                served.set_aside.insert(name.clone(), reason.to_owned());
            }
            let is_served = receives && !is_webhook && self.limit(target) > 0;
            if !is_served && state.is_none() {
                continue;
            }
            match self.connection(target, state).await {
                Ok((connection, reference)) => {
                    rows.insert(name.clone(), self.rows(target));
                    served.pools.push(self.pool(name, target, connection, reference, !is_served));
                }
                Err(reason) => {
                    if self.set_aside.get(&name) != Some(&reason) {
                        let scope = &target.scope;
                        tracing::error!(
                            "[scaleset] failed to start listener for target {scope}: {reason}"
                        );
                    }
                    served.set_aside.insert(name, reason);
                }
            }
        }
        self.set_aside.clone_from(&served.set_aside);
        if let Err(error) = store.keep_runner_rows(rows).await {
            tracing::error!(error = %crate::chain(&error), "runner rows are as they were");
        }
        let kept: BTreeSet<&PoolName> = served.pools.iter().map(|pool| &pool.name).collect();
        self.made.retain(|name, _| kept.contains(name));
        let scopes = targets.iter().map(|target| target.scope.as_str()).collect();
        self.github.keep(&scopes);
        served
    }

    /// Machines at most: the target's own limit, or the one for all.
    fn limit(&self, target: &TargetRow) -> u32 {
        target.own.max_runners.unwrap_or(self.scale_set.max_runners)
    }

    /// What brings its jobs: the target's own word, or the switch for all.
    fn mode(&self, target: &TargetRow) -> Mode {
        own_mode(target).unwrap_or(match self.scale_set.switch {
            Switch::On => Mode::ScaleSet,
            Switch::Off | Switch::Unsaid => Mode::Webhook,
        })
    }

    /// Each target with its pool's name.
    #[must_use]
    pub fn named(&self, targets: &[TargetRow]) -> Vec<(PoolName, TargetRow)> {
        let named = named(targets, &self.scale_set.name_prefix);
        named.into_iter().map(|(name, target)| (name, target.clone())).collect()
    }

    /// The way to a target's scope, and where its credential comes from. While GitHub does not say where the App is
    /// installed, a pool that is known goes on with what it had.
    async fn connection(
        &self,
        target: &TargetRow,
        state: Option<&PoolState>,
    ) -> Result<(Connection, String), String> {
        let scope = target.scope.as_str();
        let last = state.and_then(|state| installation_of(&state.pool.credential_reference));
        let installation = match (self.github.installation(scope).await, last) {
            (Ok(Some(found)), _) => found.id,
            (Ok(None) | Err(_), Some(last)) => last,
            (Ok(None), None) => return Err(self.github.not_installed(scope)),
            (Err(error), None) => return Err(error.to_string()),
        };
        let connection =
            self.github.connection(scope, installation).map_err(|error| error.to_string())?;
        Ok((connection, reference(installation)))
    }

    fn pool(
        &mut self,
        name: PoolName,
        target: &TargetRow,
        connection: Connection,
        credential_reference: String,
        removed: bool,
    ) -> PoolSettings {
        let set = names::scale_set(&self.scale_set.name_prefix, &target.scope);
        let mut labels = vec!["self-hosted".to_owned(), set.clone()];
        labels.extend(self.extra_labels.iter().cloned());
        let provisioner = self.provisioner(&name, target);
        let max_runners = if removed { 0 } else { self.limit(target) };
        PoolSettings {
            provisioner,
            scale_set_name: Some(set),
            naming: Naming::Myshoes,
            spec: spec(max_runners),
            labels,
            label_kind: LabelKind::System,
            // The default one is looked up by its name, too, as the original does.
            runner_group: Some(self.scale_set.runner_group.clone()),
            session: session(target),
            connection,
            credential_reference,
            backend_concurrency: self.calls,
            footprint: Footprint::default(),
            removed,
            scale_set_end: scale_set_end(target, self.mode(target)),
            takeover: false,
            digest: format!("{} {}", target.resource_type, max_runners),
            runner: None,
            name,
        }
    }

    /// What the plugin is told, besides sizes.
    fn plugin_labels(&self, target: &TargetRow) -> Vec<String> {
        let two = ["scaleset".to_owned(), target.scope.clone()];
        two.into_iter().chain(self.extra_labels.iter().cloned()).collect()
    }

    fn rows(&self, target: &TargetRow) -> RunnerRows {
        RunnerRows {
            target: target.id.clone(),
            resource_type: target.resource_type,
            runner_user: self.runner_user.clone(),
            provider_url: target.provider_url.clone(),
            repository_url: format!("{}/{}", self.github_url, target.scope),
            labels: self.plugin_labels(target),
        }
    }

    fn provisioner(&mut self, name: &PoolName, target: &TargetRow) -> Arc<ShoesProvisioner> {
        let recipe = (target.resource_type, target.scope.clone());
        if let Some((of, made)) = self.made.get(name)
            && *of == recipe
        {
            return made.clone();
        }
        let labels = self.plugin_labels(target);
        let pool =
            ShoesPool { resource_type: target.resource_type, labels, script: self.script.clone() };
        let made = Arc::new(ShoesProvisioner::new(self.host.clone(), pool));
        self.made.insert(name.clone(), (recipe, made.clone()));
        made
    }
}

/// As the original has it: who serves it, and what its listener is started again for.
fn session(target: &TargetRow) -> SessionSettings {
    let TargetRow { resource_type, provider_url, status, .. } = target;
    SessionSettings {
        owner: Some(format!("myshoes-manager-{}", crate::daemon::session_owner())),
        key: format!("{resource_type} {status} {}", provider_url.as_deref().unwrap_or_default()),
    }
}

/// The mode that a target says.
fn own_mode(target: &TargetRow) -> Option<Mode> {
    target.own.mode.as_deref().and_then(Mode::of)
}

/// What becomes of its scale set while it is not served.
fn scale_set_end(target: &TargetRow, mode: Mode) -> ScaleSetEnd {
    // In webhook mode nobody would serve the jobs that GitHub gives to it.
    let goes = Status::of(&target.status) == Status::Deleted || mode == Mode::Webhook;
    if goes { ScaleSetEnd::Goes } else { ScaleSetEnd::StaysForNow }
}

fn spec(max_runners: u32) -> PoolSpec {
    PoolSpec {
        max_runners,
        create_timeout: CREATE,
        start_timeout: CREATE,
        boot_timeout: BOOT,
        stop_timeout: STOP,
        // As the original tells GitHub.
        advertise_limit: true,
        ..PoolSpec::default()
    }
}

const REFERENCE: &str = "installation ";

/// Where a credential comes from, in words that lead back to it.
fn reference(installation: i64) -> String {
    format!("{REFERENCE}{installation}")
}

fn installation_of(reference: &str) -> Option<i64> {
    reference.strip_prefix(REFERENCE)?.parse().ok()
}

/// Each target with its pool's name, which is its scale set's; of two that share one (`a/b-c` and `a-b/c`) the
/// younger has a name of its own, as has one whose name is too long. No target's row ever goes, so a name stays.
fn named<'a>(targets: &'a [TargetRow], prefix: &str) -> Vec<(PoolName, &'a TargetRow)> {
    let mut oldest: Vec<&TargetRow> = targets.iter().collect();
    oldest.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    let mut taken = BTreeSet::new();
    let mut out = Vec::new();
    for target in oldest {
        let set = names::scale_set(prefix, &target.scope);
        let plain = PoolName::new(&set).ok().filter(|name| !taken.contains(name));
        let id = target.id.split('-').next().unwrap_or_default();
        let own = || {
            let room = NAME_MAX - id.len() - 1;
            let plain = |it: &char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
            let begin: String = set.chars().filter(plain).take(room).collect();
            PoolName::new(&format!("{begin}-{id}")).ok()
        };
        let Some(name) = plain.or_else(own) else {
            tracing::error!(scope = target.scope, "scope cannot name a scale set");
            continue;
        };
        taken.insert(name.clone());
        out.push((name, target));
    }
    out
}

#[cfg(test)]
mod tests {
    use fleetfoot_core::Timestamp;

    use fleetfoot_store::TargetSettings;

    use super::*;

    fn target(id: &str, scope: &str, at: i64) -> TargetRow {
        TargetRow {
            id: format!("{id}-98d8-4d2b-8a1c-0d2b44b2b0a1"),
            scope: scope.to_owned(),
            token_expired_at: Timestamp(0),
            resource_type: ResourceType::Nano,
            provider_url: None,
            status: "active".to_owned(),
            status_description: None,
            created_at: Timestamp(at),
            updated_at: Timestamp(at),
            own: TargetSettings::default(),
        }
    }

    #[test]
    fn pools_are_named_by_their_scale_sets_and_never_twice() {
        let long = "o".repeat(80);
        let targets = [
            target("3d3ab4cd", "a-b/c", 2),
            target("4d3ab4cd", "a/b-c", 1),
            target("5d3ab4cd", &long, 3),
        ];
        let named = named(&targets, "myshoes");
        let names: Vec<_> =
            named.iter().map(|(name, of)| (name.as_str(), of.scope.as_str())).collect();
        assert_eq!(names[0], ("myshoes-a-b-c", "a/b-c"));
        assert_eq!(names[1], ("myshoes-a-b-c-3d3ab4cd", "a-b/c"));
        assert_eq!(names[2].0.len(), 64);
        assert!(names[2].0.ends_with("o-5d3ab4cd"), "{}", names[2].0);
    }

    #[test]
    fn what_is_said_of_a_target_decides_what_becomes_of_its_scale_set() {
        let of = |status: &str, mode: Option<&str>| {
            let own = TargetSettings { mode: mode.map(str::to_owned), max_runners: None };
            let target =
                TargetRow { status: status.to_owned(), own, ..target("3d3ab4cd", "acme", 1) };
            scale_set_end(&target, own_mode(&target).unwrap_or(Mode::ScaleSet))
        };
        for (status, mode, end) in [
            ("active", None, ScaleSetEnd::StaysForNow),
            ("suspend", Some("scaleset"), ScaleSetEnd::StaysForNow),
            ("active", Some("odd"), ScaleSetEnd::StaysForNow),
            ("active", Some("webhook"), ScaleSetEnd::Goes),
            ("deleted", None, ScaleSetEnd::Goes),
        ] {
            assert_eq!(of(status, mode), end, "{status} {mode:?}");
        }
    }

    #[test]
    fn a_reference_leads_back_to_its_installation() {
        assert_eq!(installation_of(&reference(77)), Some(77));
        assert_eq!(installation_of("--token"), None);
    }
}
