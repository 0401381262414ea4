//! The contract, fulfilled with machines of libvirt.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentInfo, EnvironmentSpec, EnvironmentState,
    ErrorKind, EventStream, Exit, Finding, Handle, InstanceName, JitConfig, Listing, PoolName,
    Provisioner, Reach,
};
use tokio::sync::OnceCell;

use crate::agent;
use crate::check;
use crate::domain::{Evidence, decided};
use crate::ending;
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::flush;
use crate::legacy;
use crate::machine;
use crate::pool::{JitDelivery, LibvirtPool};
use crate::record::{Record, Stage};
use crate::remove;
use crate::rpc::{CallError, Connection, ListFlags};
use crate::seed;
use crate::still;
use crate::template::Templates;
use crate::watch::{Hub, names};
use crate::wire::Domain;

const LIST: &str = "list domains";
const LOGS: &str = "read logs";

/// Machines for one pool.
#[derive(Debug)]
pub struct LibvirtProvisioner {
    engine: Arc<LibvirtEngine>,
    pool: Arc<LibvirtPool>,
    hub: Arc<Hub>,
    templates: Arc<Templates>,
    /// What `auto` came to.
    accelerated: OnceCell<bool>,
}

impl LibvirtProvisioner {
    /// A provisioner for one pool at a daemon that other pools may use, too.
    #[must_use]
    pub fn new(engine: Arc<LibvirtEngine>, pool: LibvirtPool) -> Self {
        let hub = engine.hub();
        let templates = Arc::default();
        Self { engine, pool: Arc::new(pool), hub, templates, accelerated: OnceCell::new() }
    }

    /// Whether the hardware runs the machines; where that is `auto`, one is booted to see.
    async fn accelerated(&self) -> Result<bool, BackendError> {
        if let Some(decided) = decided(self.pool.domain_type) {
            return Ok(decided);
        }
        let known = self.accelerated.get_or_try_init(|| check::decide(&self.engine, &self.pool));
        known.await.copied()
    }

    async fn records(&self) -> Result<Vec<Record>, BackendError> {
        let engine = Arc::clone(&self.engine);
        let failed = |words: String| {
            BackendError::new("read records of machines", ErrorKind::Backend, words)
        };
        let read = tokio::task::spawn_blocking(move || engine.records.all()).await;
        read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// Ends what lives although it is over, so that it is off before it is told: a clone whose making was cut off,
    /// which will never be a whole machine, and one whose end was written down while it lived, as older versions did.
    async fn switch_off(
        &self,
        talk: &Connection,
        records: &[Record],
        domains: &mut [(Domain, Option<Evidence>)],
    ) -> Result<(), CallError> {
        for (domain, _) in domains.iter_mut().filter(|(domain, _)| domain.is_active()) {
            let record = records.iter().find(|it| it.uuid == domain.uuid && is_over(it));
            let Some(name) = record.and_then(Record::instance) else { continue };
            // Somebody who makes it has the lock, and had it when the stage was written.
            let Some(_guard) = self.engine.locks.try_lock(&name) else { continue };
            if self.engine.records.read(&name).ok().flatten().is_some_and(|now| is_over(&now)) {
                talk.destroy(domain).await?;
                tracing::info!(instance = %name, "machine that was over is switched off");
                domain.id = -1;
            }
        }
        Ok(())
    }

    /// Where a recorded machine is.
    fn info(
        &self,
        record: &Record,
        domains: &[(Domain, Option<Evidence>)],
    ) -> Option<EnvironmentInfo> {
        let name = record.instance()?;
        let lives = domains.iter().any(|(it, _)| it.uuid == record.uuid && it.is_active());
        let state = match (&record.stage, lives) {
            (Stage::Making, false) => self.making(&name)?,
            (Stage::Making | Stage::Made, true) => EnvironmentState::Created,
            // One whose runner has ended is not over before it is off.
            (
                Stage::Launching
                | Stage::Launched { .. }
                | Stage::Ending { .. }
                | Stage::Ended { .. },
                true,
            ) => EnvironmentState::Running,
            (Stage::Ending { .. } | Stage::Ended { .. }, false) => {
                EnvironmentState::Ended(record.exit()?)
            }
            (Stage::Made | Stage::Launching | Stage::Launched { .. }, false) => {
                // Read before the domains were listed: it may have been removed, or its end seen, since.
                let now = self.engine.records.read(&name).ok()??;
                EnvironmentState::Ended(now.exit().unwrap_or_else(|| Exit {
                    code: None,
                    out_of_memory: false,
                    message: Some("the machine is gone".to_owned()),
                }))
            }
        };
        let handle = Handle(record.uuid.to_string());
        Some(EnvironmentInfo { name, pool: record.pool(), handle, state })
    }

    /// Where a machine is that was being made, and was not there yet when the domains were listed. Its lock is looked
    /// at first: whoever makes it writes the next stage down before he lets go of it.
    fn making(&self, name: &InstanceName) -> Option<EnvironmentState> {
        if self.engine.locks.is_held(name) {
            return Some(EnvironmentState::Created);
        }
        let now = self.engine.records.read(name).ok()??;
        Some(match now.stage {
            // Whoever began to make it is gone.
            Stage::Making => EnvironmentState::Ended(Exit {
                code: None,
                out_of_memory: false,
                message: Some("the making of the machine was cut off".to_owned()),
            }),
            Stage::Made => EnvironmentState::Created,
            Stage::Launching | Stage::Launched { .. } | Stage::Ending { .. } => {
                EnvironmentState::Running
            }
            Stage::Ended { .. } => EnvironmentState::Ended(now.exit()?),
        })
    }
}

/// No job will ever run in it, as far as its record knows.
fn is_over(record: &Record) -> bool {
    match record.stage {
        Stage::Making => record.template.is_some(),
        Stage::Ended { .. } => true,
        Stage::Made | Stage::Launching | Stage::Launched { .. } | Stage::Ending { .. } => false,
    }
}

/// A domain that says whose it is, and of which nothing else is known.
fn unrecorded(domain: &Domain, evidence: &Evidence) -> EnvironmentInfo {
    let gone = Exit { code: None, out_of_memory: false, message: None };
    let state = if domain.is_active() {
        // It may have a job: whoever wants to remove it asks GitHub first.
        EnvironmentState::Running
    } else {
        EnvironmentState::Ended(gone)
    };
    EnvironmentInfo {
        name: evidence.name.clone(),
        pool: evidence.pool.clone(),
        handle: Handle(domain.uuid.to_string()),
        state,
    }
}

#[async_trait]
impl Provisioner for LibvirtProvisioner {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            idempotent_create: true,
            list: true,
            watch: true,
            logs: agent::is_wrapped(&self.pool),
            late_binding: self.pool.jit != JitDelivery::Seed,
            reach: Reach::Host,
            ends_with_host: false,
        }
    }

    fn connection(&self) -> &str {
        self.engine.connection_name()
    }

    async fn create(
        &self,
        spec: &EnvironmentSpec,
        jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError> {
        let refused = |message| failure::instance("create domain", &spec.name, message);
        let jit = match (self.pool.jit, jit) {
            (JitDelivery::Seed, Some(jit)) => Some(jit),
            (JitDelivery::Seed, None) => {
                return Err(refused("a machine with a seed takes the JIT config when it is made"));
            }
            (JitDelivery::Input | JitDelivery::Argument, Some(_)) => {
                return Err(refused("machines take the JIT config at launch"));
            }
            (JitDelivery::Input | JitDelivery::Argument, None) => None,
        };
        self.hub.follow();
        let accelerated = self.accelerated().await.map_err(|error| error.about(&spec.name))?;
        let (engine, pool) = (&self.engine, &self.pool);
        let uuid = match jit {
            Some(jit) => seed::create(engine, pool, spec, accelerated, jit).await?,
            None => machine::create(engine, pool, &self.templates, spec, accelerated).await?,
        };
        tracing::info!(pool = %spec.pool, instance = %spec.name, domain = %uuid, "machine booted");
        Ok(Handle(uuid.to_string()))
    }

    fn rouse(&self, name: &InstanceName) {
        still::rouse(&self.engine, name);
    }

    async fn launch(
        &self,
        spec: &EnvironmentSpec,
        _: &Handle,
        jit: &JitConfig,
    ) -> Result<(), BackendError> {
        if self.pool.jit == JitDelivery::Seed {
            let message = "a machine with a seed starts its runner by itself";
            return Err(failure::instance("launch runner", &spec.name, message));
        }
        self.hub.follow();
        let pid = machine::launch(&self.engine, &self.pool, &spec.name, jit).await?;
        tracing::info!(pool = %spec.pool, instance = %spec.name, pid, "runner started in machine");
        Ok(())
    }

    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        flush::flush(&self.engine, name).await;
        let deletion = remove::delete(&self.engine, name).await?;
        tracing::debug!(instance = %name, ?deletion, "machine removed");
        Ok(deletion)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        self.hub.follow();
        let failed = failure::call(LIST, false);
        // First what we remember, then what is there: what is made in between is not taken for gone.
        let records = self.records().await?;
        let talk = self.engine.talk(Lane::Calls).await.map_err(&failed)?;
        let identity = self.engine.identity(&talk).await.map_err(&failed)?;
        let mut domains = self.engine.domains(&talk, ListFlags::ALL).await.map_err(&failed)?;
        self.switch_off(&talk, &records, &mut domains).await.map_err(&failed)?;
        let mut environments: Vec<_> =
            records.iter().filter_map(|record| self.info(record, &domains)).collect();
        let known = names(&records);
        for (domain, evidence) in &domains {
            let Some(evidence) = evidence else { continue };
            let ours = evidence.installation == self.engine.installation().as_str();
            if ours && evidence.name.as_str() == domain.name && !known.contains(&*domain.name) {
                // Made since the records were read, or its record is lost.
                let record = self.engine.records.read(&evidence.name);
                match record.map_err(failure::file(LIST, &evidence.name))? {
                    Some(record) => environments.extend(self.info(&record, &domains)),
                    None => environments.push(unrecorded(domain, evidence)),
                }
            }
        }
        Ok(Listing { identity, environments })
    }

    async fn others(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        let failed = failure::call(LIST, false);
        let talk = self.engine.talk(Lane::Calls).await.map_err(&failed)?;
        let domains = self.engine.domains(&talk, ListFlags::ALL).await.map_err(&failed)?;
        let own = self.engine.installation().as_str();
        let foreign = domains.iter().filter_map(|(domain, evidence)| {
            let evidence = evidence.as_ref().filter(|it| it.installation != own)?;
            Some(unrecorded(domain, evidence))
        });
        Ok(foreign.collect())
    }

    async fn watch(&self) -> Result<EventStream, BackendError> {
        let talk = self.engine.talk(Lane::Calls).await;
        talk.map_err(failure::call("watch domains", false))?;
        Ok(self.hub.watch().await)
    }

    async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, BackendError> {
        let record = self.engine.records.read(name).map_err(failure::file(LOGS, name))?;
        let Some(record) = record else {
            return Err(failure::instance(LOGS, name, "no such machine"));
        };
        if !record.wrapped {
            let message =
                "with `jit: argument` and in Windows guests nobody keeps the runner's output";
            return Err(failure::instance(LOGS, name, message));
        }
        let kept = self.engine.records.kept_output(name).map_err(failure::file(LOGS, name))?;
        if let Some(output) = kept {
            return Ok(ending::tail(&output, lines));
        }
        let talk = self.engine.talk(Lane::Calls).await.map_err(failure::call(LOGS, false))?;
        let tail = agent::tail(&talk, &machine::domain(&record), lines).await;
        tail.map_err(|error| failure::agent(LOGS, false)(error).about(name))
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.engine, &self.pool).await
    }

    async fn prepare(&self) -> Result<(), BackendError> {
        let accelerated = self.accelerated().await?;
        self.templates.get(&self.engine, &self.pool, accelerated).await;
        Ok(())
    }

    async fn legacy(&self, pool: &PoolName) -> Result<Vec<EnvironmentInfo>, BackendError> {
        legacy::list(&self.engine, pool).await
    }

    async fn delete_legacy(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        legacy::delete(&self.engine, name).await
    }

    fn storage_directory(&self) -> Option<PathBuf> {
        Some(self.pool.overlay_dir.clone())
    }
}
