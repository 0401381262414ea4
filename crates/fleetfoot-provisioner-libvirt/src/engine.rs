//! One libvirt daemon: its address, its connections, and what several pools share of it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fleetfoot_provisioner::InstallationId;
use uuid::Uuid;

use crate::domain::{Evidence, NAMESPACE};
use crate::locks::Locks;
use crate::record::Records;
use crate::rpc::{Address, CallError, Connection, ListFlags};
use crate::watch::Hub;
use crate::wire::Domain;
use crate::xml::tags;

/// What the original opens, and what a system daemon serves.
const URI: &str = "qemu:///system";

/// Conversations that must not wait for each other: an agent that hangs keeps its connection's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Lists, looks, the end of machines.
    Calls,
    /// Making machines, waiting for their agents, launching.
    Make,
    /// Asking agents whether runners still run.
    Poll,
}

/// A daemon, shared by all pools of one installation that use it.
pub struct LibvirtEngine {
    address: Address,
    connection: String,
    installation: InstallationId,
    lanes: [tokio::sync::Mutex<Option<Arc<Connection>>>; 3],
    pub(crate) records: Records,
    pub(crate) locks: Locks,
    /// One template at a time is made or removed.
    pub(crate) template: tokio::sync::Mutex<()>,
    hub: Mutex<Weak<Hub>>,
    /// Machines that were suspended and go on, for their credentials are being asked for.
    awake: Mutex<HashSet<Uuid>>,
    /// What domains say of themselves; it never changes while they live.
    evidence: Mutex<HashMap<Uuid, Option<Evidence>>>,
}

impl fmt::Debug for LibvirtEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LibvirtEngine({})", self.address)
    }
}

impl LibvirtEngine {
    /// Speaks with nobody yet: a daemon that is down now may be up later. `records` is a directory of this
    /// installation's own.
    pub fn open(
        address: Address,
        records: &Path,
        installation: InstallationId,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            connection: format!("libvirt:{address}"),
            address,
            installation,
            lanes: Default::default(),
            records: Records::open(records)?,
            locks: Locks::default(),
            template: tokio::sync::Mutex::default(),
            hub: Mutex::default(),
            awake: Mutex::default(),
            evidence: Mutex::default(),
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whose machines these are.
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    pub(crate) fn connection_name(&self) -> &str {
        &self.connection
    }

    /// The one watcher of this daemon.
    pub(crate) fn hub(self: &Arc<Self>) -> Arc<Hub> {
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hub.upgrade() {
            return hub;
        }
        let made = Hub::new(Arc::clone(self));
        *hub = Arc::downgrade(&made);
        made
    }

    /// A connection that works as far as anybody knows; a broken one is replaced.
    pub(crate) async fn talk(&self, lane: Lane) -> Result<Arc<Connection>, CallError> {
        let mut slot = match lane {
            Lane::Calls => self.lanes[0].lock().await,
            Lane::Make => self.lanes[1].lock().await,
            Lane::Poll => self.lanes[2].lock().await,
        };
        if let Some(open) = slot.as_ref().filter(|open| !open.is_broken()) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(Connection::open(&self.address, URI).await?);
        *slot = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Who the daemon is: this host's own id where the socket is this host's, since libvirt makes a new host
    /// UUID at each start on hosts whose firmware has none.
    pub(crate) async fn identity(&self, talk: &Connection) -> Result<String, CallError> {
        if self.address.socket().is_some()
            && let Ok(id) = std::fs::read_to_string("/etc/machine-id")
            && !id.trim().is_empty()
        {
            return Ok(format!("libvirt:{}:{URI}:{}", id.trim(), self.address));
        }
        let capabilities = talk.capabilities().await?;
        let uuid = tags(&capabilities)
            .into_iter()
            .find(|tag| tag.is_at(&["capabilities", "host", "uuid"]))
            .map(|tag| tag.text)
            .unwrap_or_default();
        Ok(format!("libvirt:{uuid}:{URI}"))
    }

    /// Machines that go on already. Who adds or looks has the machine's lock.
    pub(crate) fn awake(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.awake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_evidence(&self) -> MutexGuard<'_, HashMap<Uuid, Option<Evidence>>> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a domain says of itself.
    pub(crate) async fn evidence(
        &self,
        talk: &Connection,
        domain: &Domain,
    ) -> Result<Option<Evidence>, CallError> {
        if let Some(known) = self.known_evidence().get(&domain.uuid) {
            return Ok(known.clone());
        }
        let read = talk.metadata(domain, NAMESPACE).await?;
        let read = read.as_deref().and_then(Evidence::read);
        self.known_evidence().insert(domain.uuid, read.clone());
        Ok(read)
    }

    /// Every domain there is, with what it says of itself.
    pub(crate) async fn domains(
        &self,
        talk: &Connection,
        flags: ListFlags,
    ) -> Result<Vec<(Domain, Option<Evidence>)>, CallError> {
        let domains = talk.domains(flags).await?;
        if flags == ListFlags::ALL {
            self.known_evidence()
                .retain(|uuid, _| domains.iter().any(|domain| domain.uuid == *uuid));
        }
        let mut all = Vec::with_capacity(domains.len());
        for domain in domains {
            let evidence = self.evidence(talk, &domain).await?;
            all.push((domain, evidence));
        }
        Ok(all)
    }
}
