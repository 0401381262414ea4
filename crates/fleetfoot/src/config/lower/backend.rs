//! Lowering of backends.

use super::super::Flavor;
use super::super::findings::Class;
use super::super::shape::{Placed, Table};
use super::super::types::{
    Backend, BindMount, DockerConfig, JitDelivery, ProcessConfig, PullPolicy, RunnerSource,
    Sandbox, SimulatedConfig, TartConfig, TartMount, Tmpfs, WantedRelease,
};
use super::{Lowering, join};

/// Where the original's images for virtual machines keep the runner.
pub(super) const MACHINE_RUNNER: &str = "/actions-runner/run.sh";

impl Lowering<'_> {
    pub(super) fn backend(
        &mut self,
        name: &Placed<String>,
        runner: &Table,
        path: &str,
    ) -> Option<Backend> {
        let (kind, table) = self.chosen(name, runner, path)?;
        let path = join(path, kind);
        match kind {
            "docker" => self.docker(table, &path).map(Box::new).map(Backend::Docker),
            "process" => self.process(table, &path).map(Backend::Process),
            "libvirt" => self.libvirt(table, &path).map(Box::new).map(Backend::Libvirt),
            "tart" => self.tart(table, &path).map(Backend::Tart),
            _ => Some(Backend::Simulated(SimulatedConfig {
                create_time: table.duration("create_time").unwrap_or_default(),
                delete_time: table.duration("delete_time").unwrap_or_default(),
                late_binding: table.boolean("late_binding").unwrap_or(false),
                socket: table.path("socket"),
            })),
        }
    }

    fn docker(&mut self, table: &Table, path: &str) -> Option<DockerConfig> {
        let image = self.required(table, path, "image");
        let mounts = self.binds(table, path);
        self.engine_address(table, path);
        let shm_size = self.memory(table, path, "shm_size", 1);
        Some(DockerConfig {
            runner_cmd: self.command(table, path, "./run.sh"),
            mounts,
            env: self.env(table, path),
            user: table.owned("user"),
            network: table.owned("network"),
            cpus: table.cpus("cpus"),
            memory: self.memory(table, path, "memory", 6 << 20),
            pids: self.count(table, path, "pids", 1),
            tmpfs: self.tmpfs(table, path),
            shm_size,
            runtime: table.owned("runtime"),
            cap_drop: table.texts("cap_drop"),
            security_opt: table.texts("security_opt"),
            log_max_size: self.memory(table, path, "log_max_size", 1024),
            pull: match table.text("pull") {
                Some("always") => PullPolicy::Always,
                Some("never") => PullPolicy::Never,
                _ => PullPolicy::Missing,
            },
            registry_auth: table.path("registry_auth"),
            host: table.owned("host"),
            jit: match (table.text("jit"), self.options.flavor) {
                (Some("argument"), _) => JitDelivery::Argument,
                (Some(_), _) | (None, Flavor::Native) => JitDelivery::Env,
                (None, Flavor::Outrunner) => JitDelivery::Argument,
            },
            runner_release: self.release(table, path),
            image: image?,
        })
    }

    /// A release of the runner by its version, or `latest`.
    fn release(&mut self, table: &Table, path: &str) -> Option<WantedRelease> {
        let text = table.text("runner_release")?;
        if text == "latest" {
            return Some(WantedRelease::Latest);
        }
        let version = text.strip_prefix('v').unwrap_or(text);
        let parts: Vec<&str> = version.split('.').collect();
        let number = |part: &&str| {
            !part.is_empty() && part.len() < 8 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if parts.len() == 3 && parts.iter().all(number) {
            return Some(WantedRelease::Exact(version.to_owned()));
        }
        let message = format!("`{text}` is not a release of the runner");
        self.unusable(table, path, "runner_release", message);
        self.findings.suggest("write latest, or a version such as 2.336.0");
        None
    }

    pub(super) fn command(&mut self, table: &Table, path: &str, default: &str) -> String {
        let command = table.owned("runner_cmd").unwrap_or_else(|| default.to_owned());
        if command.contains(char::is_whitespace) {
            let position = table.position_of("runner_cmd");
            let message = "`runner_cmd` is one word: it is not split and there is no shell";
            self.findings
                .warning(Class::Value, join(path, "runner_cmd"), position, message)
                .suggest("put arguments into a script of the image");
        }
        command
    }

    fn binds(&mut self, table: &Table, path: &str) -> Vec<BindMount> {
        let mut out = Vec::new();
        for (index, mount) in table.tables("mounts").iter().enumerate() {
            let path = join(path, &format!("mounts[{index}]"));
            let source = self.required(mount, &path, "source");
            let target = self.required(mount, &path, "target");
            let (Some(source), Some(target)) = (source, target) else {
                continue;
            };
            for (key, value) in [("source", &source), ("target", &target)] {
                if !value.starts_with('/') {
                    self.unusable(mount, &path, key, format!("`{value}` is not an absolute path"));
                }
            }
            let read_only = mount.boolean("read_only").unwrap_or(false);
            out.push(BindMount { source, target, read_only });
        }
        out
    }

    fn tmpfs(&mut self, table: &Table, path: &str) -> Vec<Tmpfs> {
        let mut out = Vec::new();
        for item in table.list("tmpfs") {
            let (target, options) = item.value.split_once(':').unwrap_or((&item.value, ""));
            if target.starts_with('/') {
                out.push(Tmpfs { path: target.to_owned(), options: options.to_owned() });
            } else {
                let message = format!("`{target}` is not an absolute path");
                let position = Some(item.position);
                self.findings.error(Class::Value, join(path, "tmpfs"), position, message);
            }
        }
        out
    }

    fn engine_address(&mut self, table: &Table, path: &str) {
        let Some(host) = table.text("host") else {
            return;
        };
        if !["unix:///", "tcp://", "http://", "https://"].iter().any(|form| host.starts_with(form))
        {
            self.unusable(table, path, "host", format!("`{host}` is not an address of an engine"));
            let hint = if host.starts_with('/') {
                format!("write unix://{host}")
            } else {
                "write for example unix:///var/run/docker.sock".to_owned()
            };
            self.findings.suggest(hint);
        }
    }

    fn memory(&mut self, table: &Table, path: &str, key: &str, min: u64) -> Option<u64> {
        let size = table.size(key)?;
        if size < min {
            let message = format!("{size} bytes is less than any engine accepts");
            self.unusable(table, path, key, message);
            self.findings.suggest(format!("write a unit, such as {size}MiB or {size}GiB"));
        }
        Some(size)
    }

    fn process(&mut self, table: &Table, path: &str) -> Option<ProcessConfig> {
        let source = self.source(table, path);
        let uid_range = self.uid_range(table, path);
        Some(ProcessConfig {
            runner_cmd: self.command(table, path, "./run.sh"),
            sandbox: match table.text("sandbox") {
                Some("bubblewrap") => Sandbox::Bubblewrap,
                _ => Sandbox::None,
            },
            uid_range,
            cpus: table.cpus("cpus"),
            memory: self.memory(table, path, "memory", 1 << 20),
            pids: self.count(table, path, "pids", 1),
            env: self.env(table, path),
            source: source?,
        })
    }

    fn source(&mut self, table: &Table, path: &str) -> Option<RunnerSource> {
        let release = self.release(table, path).map(RunnerSource::Release);
        if table.text("runner_release").is_some() {
            for key in ["runner_dir", "runner_archive"] {
                if let Some(position) = table.key_position(key) {
                    let message = format!("both `runner_release` and `{key}` are given");
                    self.findings
                        .error(Class::Conflict, path, Some(position), message)
                        .suggest("keep one of the two");
                }
            }
            return release;
        }
        match (table.path("runner_dir"), table.path("runner_archive")) {
            (Some(directory), None) => Some(RunnerSource::Directory(directory)),
            (None, Some(archive)) => Some(RunnerSource::Archive(archive)),
            (Some(_), Some(_)) => {
                let message = "both `runner_dir` and `runner_archive` are given";
                let position = table.key_position("runner_archive");
                self.findings
                    .error(Class::Conflict, path, position, message)
                    .suggest("keep one of the two");
                None
            }
            (None, None) => {
                let message = "`runner_release`, `runner_dir` or `runner_archive` is required";
                self.findings
                    .error(Class::Value, path, Some(table.position), message)
                    .suggest("write `runner_release: latest`, and fleetfoot fetches the runner");
                None
            }
        }
    }

    fn uid_range(&mut self, table: &Table, path: &str) -> Option<(u32, u32)> {
        let text = table.text("uid_range")?;
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let first: u32 = first.trim().parse().ok()?;
            let last: u32 = last.trim().parse().ok()?;
            (first > 0 && first <= last && last < u32::MAX).then_some((first, last))
        });
        if parsed.is_none() {
            self.unusable(table, path, "uid_range", format!("`{text}` is not a range of user ids"));
            self.findings.suggest("write for example 20000-20063; root is not allowed");
        }
        parsed
    }

    fn tart(&mut self, table: &Table, path: &str) -> Option<TartConfig> {
        let image = self.required(table, path, "image");
        let mut mounts = Vec::new();
        for (index, mount) in table.tables("mounts").iter().enumerate() {
            let path = join(path, &format!("mounts[{index}]"));
            let name = self.required(mount, &path, "name");
            let source = self.required(mount, &path, "source");
            if let (Some(name), Some(source)) = (name, source) {
                let read_only = mount.boolean("read_only").unwrap_or(false);
                mounts.push(TartMount { name, source, read_only });
            }
        }
        let (cpus, memory_mib) = self.machine(table, path);
        Some(TartConfig {
            runner_cmd: self.command(table, path, MACHINE_RUNNER),
            cpus,
            memory_mib,
            mounts,
            jit_argument: match table.text("jit") {
                Some(jit) => jit == "argument",
                None => self.options.flavor == Flavor::Outrunner,
            },
            image: image?,
        })
    }

    /// Processors and MiB of a virtual machine; 0 and absent are the original's defaults.
    pub(super) fn machine(&mut self, table: &Table, path: &str) -> (u32, u64) {
        let cpus = self.count(table, path, "cpus", 0).filter(|cpus| *cpus > 0);
        let memory = self.count(table, path, "memory", 0).filter(|memory| *memory > 0);
        (cpus.unwrap_or(4), u64::from(memory.unwrap_or(8192)))
    }
}
