//! What a `tart` section means to the Tart backend.

use fleetfoot_provisioner_tart::{HostError, JitDelivery, TartHost, TartMount, TartPool};

use crate::config::{self, Flavor, TartConfig};

use super::Surroundings;

/// The shared part: records of machines lie beside those of processes.
pub(super) fn host(surroundings: &Surroundings) -> Result<TartHost, HostError> {
    let Surroundings { instances, installation, program, flavor } = surroundings;
    let program_name = match flavor {
        Flavor::Native => "fleetfoot",
        Flavor::Outrunner => "outrunner",
    };
    let root = instances.with_file_name("tart");
    TartHost::open(&root, installation.clone(), program.clone(), program_name)
}

/// The settings of one pool.
pub(super) fn pool(tart: &TartConfig) -> TartPool {
    let mount = |mount: &config::TartMount| TartMount {
        name: mount.name.clone(),
        source: mount.source.clone(),
        read_only: mount.read_only,
    };
    TartPool {
        image: tart.image.clone(),
        runner_cmd: tart.runner_cmd.clone(),
        cpus: tart.cpus,
        memory_mib: tart.memory_mib,
        mounts: tart.mounts.iter().map(mount).collect(),
        jit: if tart.jit_argument { JitDelivery::Argument } else { JitDelivery::Stdin },
    }
}
