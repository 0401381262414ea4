//! A pool of machines, out of its settings; daemons each once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetfoot_provisioner::InstallationId;
use fleetfoot_provisioner_libvirt::{
    Address, LibvirtEngine, LibvirtPool, LibvirtProvisioner, Share,
};

use crate::config::LibvirtConfig;

/// Machines that boot at once. A call lasts as long as a boot, so fewer would make a burst wait.
pub(super) const CALLS: usize = 32;

/// Daemons by their addresses.
#[derive(Debug, Default)]
pub(super) struct Daemons {
    engines: BTreeMap<Address, Arc<LibvirtEngine>>,
}

impl Daemons {
    /// A provisioner for one pool. What is remembered of its machines is in `state`.
    pub(super) fn provisioner(
        &mut self,
        libvirt: &LibvirtConfig,
        state: &Path,
        installation: &InstallationId,
    ) -> Result<Arc<LibvirtProvisioner>, String> {
        let address = spelled_once(&libvirt.address);
        let engine = match self.engines.get(&address) {
            Some(engine) => Arc::clone(engine),
            None => {
                let records = state.join(records_of(&address));
                let engine =
                    LibvirtEngine::open(address.clone(), &records, installation.clone())
                        .map_err(|error| format!("cannot use {}: {error}", records.display()))?;
                self.engines.insert(address, Arc::clone(&engine));
                engine
            }
        };
        Ok(Arc::new(LibvirtProvisioner::new(engine, pool(libvirt))))
    }

    /// Forgets daemons that none of these addresses leads to.
    pub(super) fn keep<'a>(&mut self, addresses: impl Iterator<Item = &'a Address>) {
        let addresses: Vec<_> = addresses.map(spelled_once).collect();
        self.engines.retain(|address, _| addresses.contains(address));
    }
}

fn spelled_once(address: &Address) -> Address {
    match address {
        Address::Unix(socket) => Address::Unix(resolved(socket)),
        Address::Remote(_) => address.clone(),
    }
}

/// One spelling of a socket's path: `/var/run` is `/run`, and two spellings would be two daemons.
fn resolved(socket: &Path) -> PathBuf {
    if let Ok(path) = socket.canonicalize() {
        return path;
    }
    let parent = socket.parent().and_then(|parent| parent.canonicalize().ok());
    match (parent, socket.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => match socket.strip_prefix("/var/run") {
            Ok(rest) => Path::new("/run").join(rest),
            Err(_) => socket.to_owned(),
        },
    }
}

/// Machines of another daemon are not this one's: each has a directory of its own.
fn records_of(address: &Address) -> String {
    let text = address.to_string();
    let plain = |it: char| if it.is_ascii_alphanumeric() { it } else { '-' };
    text.trim_start_matches('/').chars().map(plain).collect()
}

fn pool(libvirt: &LibvirtConfig) -> LibvirtPool {
    let mut pool = LibvirtPool::new(&libvirt.path);
    let first = libvirt.mount.iter().map(|source| Share { source: source.clone(), tag: None });
    pool.runner_cmd.clone_from(&libvirt.runner_cmd);
    pool.cpus = libvirt.cpus;
    pool.memory_mib = libvirt.memory_mib;
    pool.mounts = first.chain(libvirt.mounts.iter().cloned()).collect();
    pool.domain_type = libvirt.domain_type;
    pool.firmware = libvirt.firmware;
    pool.machine.clone_from(&libvirt.machine);
    pool.arch = libvirt.arch;
    pool.bus = libvirt.bus;
    pool.network = libvirt.network.clone();
    if let Some(directory) = &libvirt.overlay_dir {
        pool.overlay_dir.clone_from(directory);
    }
    pool.disks.clone_from(&libvirt.disks);
    pool.direct_boot.clone_from(&libvirt.direct_boot);
    pool.jit = libvirt.jit;
    pool.agent_max = libvirt.agent_timeout;
    pool.warm_mode = libvirt.warm_mode;
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_are_one_daemon() {
        let one = resolved(Path::new("/var/run/nothing-there/libvirt-sock"));
        assert_eq!(one, Path::new("/run/nothing-there/libvirt-sock"));
        assert_eq!(records_of(&Address::Unix(one)), "run-nothing-there-libvirt-sock");
        let other = Address::parse("qemu+ssh://kvm/system").unwrap();
        assert_eq!(spelled_once(&other), other);
        assert_eq!(records_of(&other), "qemu-ssh---kvm-system");
    }
}
