//! Machines from the memory of a booted one.
//!
//! ```text
//! boot a template ─▶ quiet ─▶ saved: disk and memory, never run again          (once for each image and settings)
//! clone: disk on the template's ─▶ head rewritten ─▶ FIFO ─▶ restored ─▶ its own numbers, clock, address ─▶ Made
//! ```
//!
//! A template never has a credential: none is asked for before a machine is made. If anything fails here, the pool
//! boots.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fleetfoot_provisioner::{BackendError, InstallationId, InstanceName, PoolName};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::agent;
use crate::domain::Machine;
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::fifo;
use crate::machine;
use crate::overlay;
use crate::pool::LibvirtPool;
use crate::record::{Record, absent_is_fine};
use crate::remove::remove_file;
use crate::reseed::{self, Own};
use crate::saved::{FIXED_LEN, Head, head_len};
use crate::template::{
    OPERATION, TEMPLATE_POOL, TRIAL, Template, drop_template, error, file, make, record_of,
};
use crate::xml::tags;

pub(crate) async fn read_head(path: &Path) -> Result<Head, BackendError> {
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
    let _ = remove_file(&overlay).await;
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
    fifo::make(&fifo).map_err(&failed)?;
    let restored = async {
        let talk = engine.talk(Lane::Make).await.map_err(failure::call("restore domain", false))?;
        let mut saved = tokio::fs::File::open(memory).await.map_err(file(memory))?;
        let begins = u64::try_from(head.len()).unwrap_or(u64::MAX);
        saved.seek(io::SeekFrom::Start(begins)).await.map_err(file(memory))?;
        // Opening does not wait for libvirt.
        let mut sender = fifo::open(&fifo).map_err(&failed)?;
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
}
