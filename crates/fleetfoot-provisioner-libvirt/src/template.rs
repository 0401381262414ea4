//! Templates: booted machines that are saved, and that machines of a pool are made from.
//!
//! Each is noted in a file beside the records before anything of it is made. It is made anew when what it was made
//! from changes, and goes when no machine stands on it; what a process that is gone left half made goes, too.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fleetfoot_provisioner::{BackendError, ErrorKind, InstallationId, InstanceName, PoolName};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::agent;
use crate::domain::{Machine, domain_xml};
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::machine;
use crate::overlay;
use crate::pool::{Arch, JitDelivery, LibvirtPool, WarmMode};
use crate::record::{Record, Stage, uuid_text};
use crate::remove::remove_file;
use crate::reseed;
use crate::rpc::Address;
use crate::snapshot;
use crate::still;

pub(crate) const OPERATION: &str = "make a machine from memory";
/// Who the template belongs to in its own description; clones say the installation there.
pub(crate) const TEMPLATE_POOL: &str = "fleetfoot-template";
/// The key of one that `check` makes and throws away.
pub(crate) const TRIAL: &str = "trial";
/// A guest that is not quiet by then is saved as it is.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// After a failure the pool boots for so long before another template is tried.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// A saved machine that others are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Template {
    /// What it was made from.
    pub(crate) key: String,
    pub(crate) name: String,
    #[serde(with = "uuid_text")]
    pub(crate) uuid: Uuid,
    /// Its word for whose it is.
    pub(crate) owner: String,
    pub(crate) disk: PathBuf,
    pub(crate) memory: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    template: Option<Arc<Template>>,
    /// The key that failed, and when.
    failed: Option<(String, Instant)>,
}

/// The templates of one pool's settings.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    state: tokio::sync::Mutex<State>,
}

/// Why a pool's machines cannot be made from memory, whatever the host.
pub(crate) fn refusal(pool: &LibvirtPool) -> Option<&'static str> {
    if pool.jit == JitDelivery::Seed {
        Some("with `jit: seed` a machine has its JIT config when it boots")
    } else if pool.is_windows() {
        Some("a Windows guest cannot be given random numbers of its own")
    } else if pool.arch != Arch::X86_64 {
        Some("the program that makes a clone's random numbers its own is for x86_64 only")
    } else if !pool.mounts.is_empty() {
        Some("virtiofs mounts cannot be saved with a machine")
    } else if pool.disks.iter().any(|disk| !disk.read_only) {
        Some("several machines would write to one disk of `disks`")
    } else {
        None
    }
}

/// The same at this daemon.
pub(crate) fn refusal_at(engine: &LibvirtEngine, pool: &LibvirtPool) -> Option<&'static str> {
    match engine.address() {
        Address::Unix(_) => refusal(pool),
        Address::Remote(_) => Some("memory goes to libvirt through a pipe of this host"),
    }
}

pub(crate) fn error(words: impl Into<String>) -> BackendError {
    BackendError::new(OPERATION, ErrorKind::Instance, words)
}

pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> BackendError {
    move |cause| error(format!("{}: {cause}", path.display()))
}

/// What a template is made from: another of these is another template.
fn key(pool: &LibvirtPool, accelerated: bool, version: u64) -> Result<String, BackendError> {
    let image = std::fs::metadata(&pool.image).map_err(file(&pool.image))?;
    let modified = image.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(format!("{pool:?} {accelerated} {version} {} {modified:?}", image.len()))
}

impl Templates {
    /// The template, made if there is none; `None` if the pool boots.
    pub(crate) async fn get(
        &self,
        engine: &Arc<LibvirtEngine>,
        pool: &Arc<LibvirtPool>,
        accelerated: bool,
    ) -> Option<Arc<Template>> {
        if pool.warm_mode != WarmMode::Snapshot || refusal_at(engine, pool).is_some() {
            return None;
        }
        let mut state = self.state.lock().await;
        match find(&mut state, engine, pool, accelerated).await {
            Ok(template) => template,
            Err(error) => {
                tracing::warn!(image = %pool.image.display(), %error, "no template of a booted machine, machines boot");
                None
            }
        }
    }

    /// A clone of the template could not be made: machines boot for a while.
    pub(crate) async fn failed(&self, template: &Template) {
        let mut state = self.state.lock().await;
        state.failed = Some((template.key.clone(), Instant::now()));
        state.template = None;
    }
}

async fn find(
    state: &mut State,
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    accelerated: bool,
) -> Result<Option<Arc<Template>>, BackendError> {
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(OPERATION, false))?;
    let version = talk.version().await.map_err(failure::call(OPERATION, false))?;
    let key = key(pool, accelerated, version)?;
    if let Some((failed, at)) = &state.failed
        && *failed == key
        && at.elapsed() < RETRY_AFTER
    {
        return Ok(None);
    }
    if let Some(template) = state.template.as_ref().filter(|it| it.key == key) {
        return Ok(Some(Arc::clone(template)));
    }
    state.template = None;
    let _one = engine.template.lock().await;
    clear(engine, &key).await;
    let known = kept(engine).into_iter().find(|it| it.key == key && it.is_whole());
    let template = match known {
        Some(template) => template,
        None => match make(engine, pool, accelerated, key.clone()).await {
            Ok(template) => template,
            Err(error) => {
                state.failed = Some((key, Instant::now()));
                return Err(error);
            }
        },
    };
    let template = Arc::new(template);
    state.template = Some(Arc::clone(&template));
    Ok(Some(template))
}

impl Template {
    fn is_whole(&self) -> bool {
        self.disk.is_file() && self.memory.is_file()
    }

    async fn remove(&self) {
        for path in [&self.memory, &self.disk] {
            if let Err(error) = remove_file(path).await {
                tracing::warn!(path = %path.display(), %error, "part of a template could not be removed");
            }
        }
    }
}

fn notes(engine: &LibvirtEngine) -> PathBuf {
    engine.records.directory().join("templates")
}

fn note(engine: &LibvirtEngine, name: &str) -> PathBuf {
    notes(engine).join(format!("{name}.json"))
}

/// The templates that this or an earlier process made and wrote down.
fn kept(engine: &LibvirtEngine) -> Vec<Template> {
    let entries = std::fs::read_dir(notes(engine)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
        .collect()
}

/// Removes what a process that is gone left half made, and templates of this image that no machine stands on any
/// more.
async fn clear(engine: &LibvirtEngine, key: &str) {
    let Ok(records) = engine.records.all() else { return };
    for template in kept(engine) {
        let used = |record: &Record| record.template.as_deref() == Some(template.disk.as_path());
        let replaced = template.key != key && template.pool_part() == pool_part(key);
        let half = !template.is_whole() || template.key == TRIAL;
        if (replaced || (half && template.is_abandoned())) && !records.iter().any(used) {
            drop_template(engine, &template).await;
        }
    }
}

/// Nothing of it stays.
pub(crate) async fn drop_template(engine: &LibvirtEngine, template: &Template) {
    if let Ok(talk) = engine.talk(Lane::Calls).await {
        let _ = talk.destroy(&machine::domain(&record_of(template))).await;
    }
    template.remove().await;
    let _ = std::fs::remove_file(note(engine, &template.name));
}

/// The image's path leads the key: templates of one image follow each other.
fn pool_part(key: &str) -> &str {
    key.split(',').next().unwrap_or_default()
}

impl Template {
    fn pool_part(&self) -> &str {
        pool_part(&self.key)
    }

    /// The process that began it is gone, or is this one, which makes one at a time.
    fn is_abandoned(&self) -> bool {
        let pid = self.owner.split('.').nth(1).unwrap_or_default();
        pid == std::process::id().to_string() || !Path::new("/proc").join(pid).exists()
    }
}

/// Boots a machine, makes it quiet and saves it. What was begun is noted before, so that a crash leaves nothing.
pub(crate) async fn make(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    accelerated: bool,
    key: String,
) -> Result<Template, BackendError> {
    let odd = |cause: fleetfoot_provisioner::NameError| error(cause.to_string());
    let begun = Instant::now();
    let uuid = Uuid::new_v4();
    let owner = format!("template.{}.{}", std::process::id(), uuid.simple());
    let installation = InstallationId::new(&owner).map_err(odd)?;
    let pool_name = PoolName::new(TEMPLATE_POOL).map_err(odd)?;
    let name = InstanceName::of_pool(&pool_name, uuid.as_fields().0);
    let disk = overlay::path(&pool.overlay_dir, &name);
    let memory = disk.with_extension("memory");
    let template = Template { key, name: name.as_str().to_owned(), uuid, owner, disk, memory };
    let path = note(engine, &template.name);
    std::fs::create_dir_all(notes(engine)).map_err(file(&path))?;
    let bytes = serde_json::to_vec(&template).map_err(|cause| error(cause.to_string()))?;
    std::fs::write(&path, bytes).map_err(file(&path))?;
    let machine = Machine {
        name: &name,
        pool: &pool_name,
        installation: &installation,
        uuid,
        overlay: &template.disk,
        accelerated,
    };
    let saved = save(engine, pool, &machine, &template).await;
    if saved.is_err() {
        drop_template(engine, &template).await;
    }
    saved?;
    let duration_ms = begun.elapsed().as_millis();
    tracing::info!(image = %pool.image.display(), duration_ms, "template of a booted machine saved");
    Ok(template)
}

pub(crate) fn record_of(template: &Template) -> Record {
    Record {
        name: template.name.clone(),
        pool: TEMPLATE_POOL.to_owned(),
        uuid: template.uuid,
        overlay: template.disk.clone(),
        template: None,
        wrapped: false,
        shares: false,
        suspends: false,
        stage: Stage::Making,
    }
}

async fn save(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    machine: &Machine<'_>,
    template: &Template,
) -> Result<(), BackendError> {
    let record = record_of(template);
    machine::make_from(engine, &pool.image, machine, &domain_xml(pool, machine)).await?;
    machine::boot(engine, pool, &record).await?;
    let domain = machine::domain(&record);
    // What is saved in the middle of its boot goes on with it in every clone.
    let quiet = still::quiet(engine, &domain, QUIET_MAX).await;
    quiet.map_err(failure::call(OPERATION, true))?;
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(OPERATION, true))?;
    let quiet = agent::shell(&talk, &domain, reseed::PREPARE).await;
    quiet.map_err(failure::agent(OPERATION, true))?;
    let memory = template.memory.display().to_string();
    talk.save(&domain, &memory).await.map_err(failure::call("save domain", true))?;
    snapshot::read_head(&template.memory).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn what_cannot_be_saved_is_told() {
        let mut pool = LibvirtPool::new("/base.qcow2");
        assert_eq!(refusal(&pool), None);
        pool.arch = Arch::Aarch64;
        assert!(refusal(&pool).is_some());
        pool.arch = Arch::X86_64;
        pool.runner_cmd = r"C:\run.cmd".into();
        assert!(refusal(&pool).is_some());
    }
}
