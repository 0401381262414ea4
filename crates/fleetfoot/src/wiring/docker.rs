//! A pool of containers: the configuration's words in the backend's.

use std::path::PathBuf;

use fleetfoot_provisioner_docker::{BindMount, DockerPool, InstanceProxy, JitDelivery, PullPolicy};

use crate::config::{self, DockerConfig, RunnerConfig};

pub(super) fn pool(
    docker: &DockerConfig,
    runner: &RunnerConfig,
    kept_runner: Option<PathBuf>,
) -> DockerPool {
    let mount = |mount: &config::BindMount| BindMount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        read_only: mount.read_only,
    };
    DockerPool {
        runner_cmd: docker.runner_cmd.clone(),
        mounts: docker.mounts.iter().map(mount).collect(),
        env: docker.env.clone(),
        user: docker.user.clone(),
        network: docker.network.clone(),
        cpus_millis: docker.cpus.map(|cpus| u64::from(cpus.millis)),
        memory: docker.memory,
        pids: docker.pids,
        tmpfs: docker
            .tmpfs
            .iter()
            .map(|tmpfs| (tmpfs.path.clone(), tmpfs.options.clone()))
            .collect(),
        shm_size: docker.shm_size,
        runtime: docker.runtime.clone(),
        cap_drop: docker.cap_drop.clone(),
        security_opt: docker.security_opt.clone(),
        log_max_size: docker.log_max_size,
        pull: match docker.pull {
            config::PullPolicy::Missing => PullPolicy::Missing,
            config::PullPolicy::Always => PullPolicy::Always,
            config::PullPolicy::Never => PullPolicy::Never,
        },
        registry_auth: docker.registry_auth.clone(),
        jit: match docker.jit {
            config::JitDelivery::Env => JitDelivery::Environment,
            config::JitDelivery::Argument => JitDelivery::Argument,
        },
        proxy: runner.proxy.as_ref().map(proxy),
        ca_file: runner.ca_file.clone(),
        kept_runner,
        waits: runner.warm > 0,
        ..DockerPool::new(docker.image.clone())
    }
}

fn proxy(proxy: &config::InstanceProxy) -> InstanceProxy {
    let (http, https, no_proxy) = super::backends::proxy_values(proxy);
    InstanceProxy { http, https, no_proxy }
}
