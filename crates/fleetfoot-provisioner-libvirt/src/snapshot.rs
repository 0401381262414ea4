//! Machines from the memory of a booted one.
//!
//! ```text
//! boot a template ─▶ quiet ─▶ saved: disk and memory, never run again          (once for each image and settings)
//! clone: disk on the template's ─▶ head rewritten ─▶ FIFO ─▶ restored ─▶ its own numbers, clock, address ─▶ Made
//! ```
//!
//! A template never has a credential: none is asked for before a machine is made. It is made anew when the image
//! or the settings change, and what nobody stands on any more is removed. If anything fails here, the pool boots.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_provisioner::{BackendError, ErrorKind, InstallationId, InstanceName, PoolName};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::time::Instant;
use uuid::Uuid;

use crate::agent;
use crate::domain::{Machine, domain_xml};
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::machine;
use crate::overlay;
use crate::pool::{Arch, LibvirtPool, WarmMode};
use crate::record::{Record, Stage, absent_is_fine, uuid_text};
use crate::reseed::{self, Own};
use crate::saved::{FIXED_LEN, Head, head_len};
use crate::xml::tags;

const OPERATION: &str = "make a machine from memory";
/// Who the template belongs to in its own description; clones say the installation there.
const TEMPLATE_POOL: &str = "fleetfoot-template";
/// The key of one that `check` makes and throws away.
const TRIAL: &str = "trial";
/// After a failure the pool boots for so long before another template is tried.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// A saved machine that others are made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Template {
    /// What it was made from.
    key: String,
    name: String,
    #[serde(with = "uuid_text")]
    uuid: Uuid,
    /// Its word for whose it is.
    owner: String,
    pub(crate) disk: PathBuf,
    memory: PathBuf,
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
    if pool.is_windows() {
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

fn error(words: impl Into<String>) -> BackendError {
    BackendError::new(OPERATION, ErrorKind::Instance, words)
}

fn file(path: &Path) -> impl Fn(io::Error) -> BackendError {
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
        if pool.warm_mode != WarmMode::Snapshot || refusal(pool).is_some() {
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

    fn remove(&self) {
        for path in [&self.memory, &self.disk] {
            if let Err(error) = absent_is_fine(std::fs::remove_file(path)) {
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
async fn drop_template(engine: &LibvirtEngine, template: &Template) {
    if let Ok(talk) = engine.talk(Lane::Calls).await {
        let _ = talk.destroy(&machine::domain(&record_of(template))).await;
    }
    template.remove();
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
async fn make(
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

fn record_of(template: &Template) -> Record {
    Record {
        name: template.name.clone(),
        pool: TEMPLATE_POOL.to_owned(),
        uuid: template.uuid,
        overlay: template.disk.clone(),
        template: None,
        wrapped: false,
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
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(OPERATION, true))?;
    let quiet = agent::shell(&talk, &domain, reseed::PREPARE).await;
    quiet.map_err(failure::agent(OPERATION, true))?;
    let memory = template.memory.display().to_string();
    talk.save(&domain, &memory).await.map_err(failure::call("save domain", true))?;
    read_head(&template.memory).await?;
    Ok(())
}

async fn read_head(path: &Path) -> Result<Head, BackendError> {
    let failed = file(path);
    let mut saved = tokio::fs::File::open(path).await.map_err(&failed)?;
    let mut bytes = vec![0; FIXED_LEN];
    saved.read_exact(&mut bytes).await.map_err(&failed)?;
    let length = head_len(&bytes).map_err(|cause| error(cause.to_string()))?;
    bytes.resize(length, 0);
    saved.read_exact(&mut bytes[FIXED_LEN..]).await.map_err(&failed)?;
    Head::parse(bytes).map_err(|cause| error(cause.to_string()))
}

/// Makes a template and a clone of it, and throws both away: whether it can be had here, for `check`.
pub(crate) async fn trial(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    accelerated: bool,
) -> Result<(), BackendError> {
    let odd = |cause: fleetfoot_provisioner::NameError| error(cause.to_string());
    let _one = engine.template.lock().await;
    let template = make(engine, pool, accelerated, TRIAL.to_owned()).await?;
    let uuid = Uuid::new_v4();
    let owner = InstallationId::new(&format!("trial.{}", std::process::id())).map_err(odd)?;
    let pool_name = PoolName::new("fleetfoot-trial").map_err(odd)?;
    let name = InstanceName::of_pool(&pool_name, uuid.as_fields().0);
    let overlay = overlay::path(&pool.overlay_dir, &name);
    let (machine_pool, installation) = (&pool_name, &owner);
    let machine = Machine {
        name: &name,
        pool: machine_pool,
        installation,
        uuid,
        overlay: &overlay,
        accelerated,
    };
    let record = Record {
        name: name.as_str().to_owned(),
        uuid,
        overlay: overlay.clone(),
        ..record_of(&template)
    };
    let cloned = clone(engine, pool, &machine, &record, &template).await;
    if let Ok(talk) = engine.talk(Lane::Calls).await {
        let _ = talk.destroy(&machine::domain(&record)).await;
    }
    let _ = absent_is_fine(std::fs::remove_file(&overlay));
    drop_template(engine, &template).await;
    cloned
}

/// The description of a clone, out of the template's as libvirt saved it: every address and device stays.
fn clone_xml(
    saved: &str,
    template: &Template,
    machine: &Machine<'_>,
    mac: Option<(&str, &str)>,
) -> String {
    let mut xml = without_backing(saved)
        .replace(&template.owner, machine.installation.as_str())
        .replace(&template.name, machine.name.as_str())
        .replace(TEMPLATE_POOL, machine.pool.as_str())
        .replace(&template.uuid.to_string(), &machine.uuid.to_string());
    if let Some((from, to)) = mac {
        xml = xml.replace(from, to);
    }
    xml
}

/// Without what libvirt knew of the disk's chain: the clone's has one link more, and libvirt looks for itself.
fn without_backing(xml: &str) -> String {
    let (begin, end) = ("<backingStore", "</backingStore>");
    let mut kept = xml.to_owned();
    while let Some(from) = kept.find(begin) {
        let Some(rest) = kept.get(from..) else { break };
        let closes =
            rest.find('>').is_some_and(|at| rest.get(..at).is_some_and(|it| it.ends_with('/')));
        // The chain is nested: the last end is the outermost one's.
        let length =
            if closes { rest.find('>').map(|at| at + 1) } else { last_end(rest, begin, end) };
        let Some(length) = length else { break };
        kept.replace_range(from..from + length, "");
    }
    kept
}

fn last_end(text: &str, begin: &str, end: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0_usize);
    loop {
        let rest = text.get(at..)?;
        let (open, close) = (rest.find(begin), rest.find(end)?);
        match open {
            Some(open) if open < close => {
                let tag_end = rest.get(open..)?.find('>')? + open;
                depth += usize::from(!rest.get(..tag_end)?.ends_with('/'));
                at += tag_end + 1;
            }
            Some(_) | None => {
                depth = depth.saturating_sub(1);
                at += close + end.len();
                if depth == 0 {
                    return Some(at);
                }
            }
        }
    }
}

/// A clone: its disk, its domain out of the template's memory, and what makes it its own machine. Runs at the end.
pub(crate) async fn clone(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    machine: &Machine<'_>,
    record: &Record,
    template: &Template,
) -> Result<(), BackendError> {
    let head = read_head(&template.memory).await?;
    let woke_with = tags(&head.xml)
        .into_iter()
        .find(|tag| tag.is_at(&["domain", "devices", "interface", "mac"]))
        .and_then(|tag| tag.attribute("address").map(str::to_owned));
    let own_mac = reseed::random_mac();
    let mac = woke_with.as_deref().map(|from| (from, own_mac.as_str()));
    let xml = clone_xml(&head.xml, template, machine, mac);
    let new_head = head.rewritten(&xml).map_err(|cause| error(cause.to_string()))?;
    overlay::create(&template.disk, machine.overlay).await.map_err(error)?;
    restore(engine, machine.overlay, &template.memory, &head, &new_head).await?;
    machine::boot(engine, pool, record).await?;
    let domain = machine::domain(record);
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(OPERATION, true))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    talk.set_time(&domain, now).await.map_err(failure::call("set the clock", true))?;
    let own = Own { mac, machine_id: Uuid::new_v4() };
    let (script, input) = reseed::fix_up(&own, &reseed::entropy());
    let (code, said) = agent::shell_with(&talk, &domain, &script, &input)
        .await
        .map_err(failure::agent(OPERATION, true))?;
    if code == 0 && said.contains(reseed::DONE) {
        return Ok(());
    }
    Err(error(format!(
        "a clone could not be made a machine of its own (status {code}): {}",
        said.trim()
    )))
}

/// Hands the new head and the old memory to libvirt through a pipe: nothing is copied, and clones start side by
/// side. If libvirt does not read, the pipe goes with this call.
async fn restore(
    engine: &LibvirtEngine,
    overlay: &Path,
    memory: &Path,
    head: &Head,
    new_head: &[u8],
) -> Result<(), BackendError> {
    let fifo = overlay.with_extension("fifo");
    let failed = file(&fifo);
    absent_is_fine(std::fs::remove_file(&fifo)).map_err(&failed)?;
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .map_err(|cause| failed(cause.into()))?;
    let restored = async {
        let talk = engine.talk(Lane::Make).await.map_err(failure::call("restore domain", false))?;
        let mut saved = tokio::fs::File::open(memory).await.map_err(file(memory))?;
        let begins = u64::try_from(head.len()).unwrap_or(u64::MAX);
        saved.seek(io::SeekFrom::Start(begins)).await.map_err(file(memory))?;
        // For both directions: opening does not wait for libvirt.
        let open = pipe::OpenOptions::new().read_write(true).open_sender(&fifo);
        let mut sender = open.map_err(&failed)?;
        let path = fifo.display().to_string();
        let pour = async move {
            sender.write_all(new_head).await?;
            let mut buffered = tokio::io::BufReader::with_capacity(1 << 20, saved);
            tokio::io::copy_buf(&mut buffered, &mut sender).await?;
            Ok::<(), io::Error>(())
        };
        let call =
            async { talk.restore(&path).await.map_err(failure::call("restore domain", true)) };
        tokio::pin!(pour, call);
        tokio::select! {
            biased;
            answer = &mut call => answer,
            poured = &mut pour => {
                poured.map_err(&failed)?;
                call.await
            }
        }
    };
    let restored = restored.await;
    let _ = std::fs::remove_file(&fifo);
    restored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_described_as_its_own_and_no_disk_chain_is_told() {
        let uuid = Uuid::from_u128(7);
        let template = Template {
            key: "k".into(),
            name: "fleetfoot-template-00000007".into(),
            uuid,
            owner: "template.7".into(),
            disk: "/d/fleetfoot-template-00000007.qcow2".into(),
            memory: "/d/m".into(),
        };
        let saved = format!(
            "<domain><name>fleetfoot-template-00000007</name><uuid>{uuid}</uuid><metadata><fleetfoot:instance \
             installation=\"template.7\" name=\"fleetfoot-template-00000007\" pool=\"fleetfoot-template\"/></metadata>\
             <disk><source file='/d/fleetfoot-template-00000007.qcow2'/><backingStore type='file'><source file='/b'/>\
             <backingStore/></backingStore><target dev='vda'/></disk><disk><backingStore/><target dev='vdb'/></disk>\
             <mac address='52:54:00:00:00:01'/><address type='pci'/></domain>"
        );
        let machine = Machine {
            name: &InstanceName::new("linux-0123abcd").unwrap(),
            pool: &PoolName::new("linux").unwrap(),
            installation: &InstallationId::new("me").unwrap(),
            uuid: Uuid::from_u128(8),
            overlay: Path::new("/d/linux-0123abcd.qcow2"),
            accelerated: false,
        };
        let mac = Some(("52:54:00:00:00:01", "52:54:00:00:00:02"));
        let xml = clone_xml(&saved, &template, &machine, mac);
        assert_eq!(
            xml,
            format!(
                "<domain><name>linux-0123abcd</name><uuid>{}</uuid><metadata><fleetfoot:instance installation=\"me\" \
                 name=\"linux-0123abcd\" pool=\"linux\"/></metadata><disk><source file='/d/linux-0123abcd.qcow2'/>\
                 <target dev='vda'/></disk><disk><target dev='vdb'/></disk><mac address='52:54:00:00:00:02'/>\
                 <address type='pci'/></domain>",
                machine.uuid
            )
        );
        for odd in
            ["<backingStore", "<backingStore><a>", "<backingStore><backingStore></backingStore>"]
        {
            let _ = without_backing(odd);
        }
    }

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
