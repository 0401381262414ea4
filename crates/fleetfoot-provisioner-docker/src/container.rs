//! How a pool's containers look: its settings, and the engine's own description made of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleetfoot_provisioner::{EnvironmentSpec, InstallationId, JitConfig};
use serde_json::{Value, json};

/// Label of the original: this is a runner's container.
pub const LABEL_OUTRUNNER: &str = "outrunner";
/// Label of the original: the runner's name.
pub const LABEL_OUTRUNNER_NAME: &str = "outrunner.name";
/// The installation that owns a container: with [`LABEL_INSTANCE`] the evidence of ownership.
pub const LABEL_INSTALLATION: &str = "fleetfoot.installation";
/// The exact name of the instance.
pub const LABEL_INSTANCE: &str = "fleetfoot.instance";
/// The pool of the instance.
pub const LABEL_POOL: &str = "fleetfoot.pool";

/// The runner gets 30 s to cancel a job; whoever stops a container by hand should give it that.
const STOP_TIMEOUT_S: u32 = 40;
pub(crate) const JIT_VARIABLE: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";
/// Where the CA file appears: the place that `update-ca-certificates` reads.
const CA_TARGET: &str = "/usr/local/share/ca-certificates/fleetfoot.crt";
/// Where a kept runner appears.
const RUNNER_TARGET: &str = "/opt/fleetfoot-runner";
/// Copies it to where its user may write, and becomes the runner's command.
const COPY_RUNNER: &str = "d=\"${HOME:-/tmp}/actions-runner\"; \
    mkdir -p \"$d\" 2>/dev/null || { d=/tmp/actions-runner; mkdir -p \"$d\"; }; \
    cp -RP /opt/fleetfoot-runner/. \"$d\"; cd \"$d\"; exec \"$@\"";

/// A directory or file of the host inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is absent: at start, or when a start finds it missing.
    #[default]
    Missing,
    /// At every start of the program and every change of the configuration.
    Always,
    /// Not at all.
    Never,
}

/// How the one-use credential goes into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JitDelivery {
    /// As the variable `ACTIONS_RUNNER_INPUT_JITCONFIG`: only root and the runner's own user id can read it.
    #[default]
    Environment,
    /// As `--jitconfig JIT`, as the original does: every user of the host can read it in the process list.
    Argument,
}

/// Proxy variables for what runs in a container, in both spellings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceProxy {
    /// Value of `http_proxy`.
    pub http: Option<String>,
    /// Value of `https_proxy`.
    pub https: Option<String>,
    /// Value of `no_proxy`.
    pub no_proxy: Option<String>,
}

/// The settings of one pool's containers. Everything but the image is optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerPool {
    /// Image reference.
    pub image: String,
    /// The runner's program inside the image.
    pub runner_cmd: String,
    /// Bind mounts.
    pub mounts: Vec<BindMount>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// User of the runner; the image's without it.
    pub user: Option<String>,
    /// Network; the engine's default without it.
    pub network: Option<String>,
    /// Thousandths of a processor.
    pub cpus_millis: Option<u64>,
    /// Bytes of memory, swap not included: there is none beyond it.
    pub memory: Option<u64>,
    /// Most processes.
    pub pids: Option<u32>,
    /// Directories in memory: path and mount options.
    pub tmpfs: BTreeMap<String, String>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Runtime of the engine (`runsc`, `sysbox-runc`, …).
    pub runtime: Option<String>,
    /// Capabilities to take away.
    pub cap_drop: Vec<String>,
    /// Security options.
    pub security_opt: Vec<String>,
    /// Bytes of output that the engine keeps.
    pub log_max_size: Option<u64>,
    /// When to pull.
    pub pull: PullPolicy,
    /// File with registry credentials, in the form of Docker's `config.json`, which is read without it.
    pub registry_auth: Option<PathBuf>,
    /// How the JIT config goes in.
    pub jit: JitDelivery,
    /// Let the engine put a small init in front. Off: runner images bring what they need, and Podman
    /// answers 500 without catatonit.
    pub init: bool,
    /// Seconds between asking what still runs to end and ending it.
    pub stop_grace_s: u32,
    /// Proxy variables.
    pub proxy: Option<InstanceProxy>,
    /// A CA file of the host that the runner shall trust.
    pub ca_file: Option<PathBuf>,
    /// An unpacked runner of the host, or a link to one, for images without a runner. It is mounted to be read only;
    /// each container copies it, for a runner writes into its own directory.
    pub kept_runner: Option<PathBuf>,
    /// Containers are created before there is a job, wait without a credential, and are started for one. Those of
    /// an image without `/bin/sh` are made anew for it.
    pub waits: bool,
}

impl DockerPool {
    /// The original's settings for an image.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            runner_cmd: "./run.sh".to_owned(),
            mounts: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            network: None,
            cpus_millis: None,
            memory: None,
            pids: None,
            tmpfs: BTreeMap::new(),
            shm_size: None,
            runtime: None,
            cap_drop: Vec::new(),
            security_opt: Vec::new(),
            log_max_size: None,
            pull: PullPolicy::default(),
            registry_auth: None,
            jit: JitDelivery::default(),
            init: false,
            stop_grace_s: 10,
            proxy: None,
            ca_file: None,
            kept_runner: None,
            waits: false,
        }
    }

    /// The body of `POST /containers/create`. With a JIT config in it, it is not for logs.
    pub(crate) fn body(
        &self,
        spec: &EnvironmentSpec,
        installation: &InstallationId,
        jit: Option<&JitConfig>,
    ) -> Value {
        let command = match (self.jit, jit) {
            (JitDelivery::Argument, Some(jit)) => {
                json!([self.runner_cmd, "--jitconfig", jit.expose()])
            }
            (JitDelivery::Environment, _) | (JitDelivery::Argument, None) => {
                json!([self.runner_cmd])
            }
        };
        let mut body = json!({
            "Image": self.image,
            "Cmd": command,
            "Env": self.variables(jit),
            "Labels": {
                LABEL_OUTRUNNER: "true",
                LABEL_OUTRUNNER_NAME: spec.name.as_str(),
                LABEL_INSTALLATION: installation.as_str(),
                LABEL_INSTANCE: spec.name.as_str(),
                LABEL_POOL: spec.pool.as_str(),
            },
            "StopTimeout": STOP_TIMEOUT_S,
            "HostConfig": self.host_config(),
        });
        if let Some(user) = &self.user {
            body["User"] = json!(user);
        }
        if self.kept_runner.is_some() {
            body["Entrypoint"] = json!(["/bin/sh", "-ec", COPY_RUNNER, "fleetfoot"]);
        }
        body
    }

    fn variables(&self, jit: Option<&JitConfig>) -> Vec<String> {
        let mut variables = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            variables.insert(name.to_owned(), value.to_owned());
        };
        set("RUNNER_MANUALLY_TRAP_SIG", "1");
        set("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1");
        if let Some(proxy) = &self.proxy {
            for (name, value) in [
                ("http_proxy", &proxy.http),
                ("https_proxy", &proxy.https),
                ("no_proxy", &proxy.no_proxy),
            ] {
                if let Some(value) = value {
                    set(name, value);
                    set(&name.to_uppercase(), value);
                }
            }
        }
        if self.ca_file.is_some() {
            set("NODE_EXTRA_CA_CERTS", CA_TARGET);
            set("RUNNER_UPDATE_CA_CERTS", "1");
        }
        if self.kept_runner.is_some() {
            // Such images mostly run as root, and the container is the wall.
            set("RUNNER_ALLOW_RUNASROOT", "1");
        }
        for (name, value) in &self.env {
            set(name, value);
        }
        if let (JitDelivery::Environment, Some(jit)) = (self.jit, jit) {
            set(JIT_VARIABLE, jit.expose());
        }
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn host_config(&self) -> Value {
        let mut mounts: Vec<Value> = self.mounts.iter().map(BindMount::json).collect();
        if let Some(file) = &self.ca_file {
            let source = file.display().to_string();
            mounts.push(BindMount { source, target: CA_TARGET.to_owned(), read_only: true }.json());
        }
        if let Some(place) = &self.kept_runner {
            // Followed here: a container keeps the release that it began with.
            let release = std::fs::canonicalize(place).unwrap_or_else(|_| place.clone());
            let source = release.display().to_string();
            mounts.push(
                BindMount { source, target: RUNNER_TARGET.to_owned(), read_only: true }.json(),
            );
        }
        let mut host =
            json!({ "AutoRemove": false, "RestartPolicy": { "Name": "no" }, "Mounts": mounts });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                host[name] = value;
            }
        };
        set("Init", self.init.then_some(Value::Bool(true)));
        set("NetworkMode", self.network.as_ref().map(|network| json!(network)));
        set("NanoCpus", self.cpus_millis.map(|millis| json!(millis * 1_000_000)));
        set("Memory", self.memory.map(|bytes| json!(bytes)));
        set("MemorySwap", self.memory.map(|bytes| json!(bytes)));
        set("PidsLimit", self.pids.map(|pids| json!(pids)));
        set("Tmpfs", (!self.tmpfs.is_empty()).then(|| json!(self.tmpfs)));
        set("ShmSize", self.shm_size.map(|bytes| json!(bytes)));
        set("Runtime", self.runtime.as_ref().map(|runtime| json!(runtime)));
        set("CapDrop", (!self.cap_drop.is_empty()).then(|| json!(self.cap_drop)));
        set("SecurityOpt", (!self.security_opt.is_empty()).then(|| json!(self.security_opt)));
        let log = |bytes: u64| json!({ "Type": "json-file", "Config": { "max-size": bytes.to_string(), "max-file": "1" } });
        set("LogConfig", self.log_max_size.map(log));
        host
    }
}

impl BindMount {
    fn json(&self) -> Value {
        json!({ "Type": "bind", "Source": self.source, "Target": self.target, "ReadOnly": self.read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleetfoot_provisioner::{InstanceName, PoolName};

    fn body(pool: &DockerPool) -> Value {
        let installation = InstallationId::new("me").unwrap();
        let spec = EnvironmentSpec {
            name: InstanceName::new("linux-0badcafe").unwrap(),
            pool: PoolName::new("linux").unwrap(),
            installation: installation.clone(),
        };
        pool.body(&spec, &installation, Some(&JitConfig::new("J".to_owned().into())))
    }

    #[test]
    fn a_container_is_described_as_the_original_does_but_for_its_removal() {
        let mut pool = DockerPool::new("image");
        pool.jit = JitDelivery::Argument;
        pool.mounts = vec![
            BindMount { source: "/a".to_owned(), target: "/b".to_owned(), read_only: true },
            BindMount { source: "/c".to_owned(), target: "/d".to_owned(), read_only: false },
        ];
        let made = body(&pool);
        assert_eq!(made["Cmd"], json!(["./run.sh", "--jitconfig", "J"]));
        assert_eq!(made["Labels"]["outrunner"], "true");
        assert_eq!(made["Labels"]["outrunner.name"], "linux-0badcafe");
        assert_eq!(made["Labels"]["fleetfoot.installation"], "me");
        assert_eq!(made["HostConfig"]["AutoRemove"], false);
        assert_eq!(made["HostConfig"]["RestartPolicy"]["Name"], "no");
        assert_eq!(
            made["HostConfig"]["Mounts"],
            json!([
                { "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true },
                { "Type": "bind", "Source": "/c", "Target": "/d", "ReadOnly": false },
            ])
        );
        assert!(!made["Env"].to_string().contains("JITCONFIG"));
        pool.runner_cmd = "/opt/run".to_owned();
        assert_eq!(body(&pool)["Cmd"], json!(["/opt/run", "--jitconfig", "J"]));
    }

    #[test]
    fn the_jit_config_goes_in_by_environment_and_nobody_overrides_it() {
        let mut pool = DockerPool::new("image");
        pool.env = [(JIT_VARIABLE, "other"), ("RUNNER_MANUALLY_TRAP_SIG", "")]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .into();
        let made = body(&pool);
        assert_eq!(made["Cmd"], json!(["./run.sh"]));
        let variables: Vec<_> =
            made["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(
            variables,
            [
                "ACTIONS_RUNNER_INPUT_JITCONFIG=J",
                "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1",
                "RUNNER_MANUALLY_TRAP_SIG=",
            ]
        );
    }

    #[test]
    fn limits_are_passed() {
        let mut pool = DockerPool::new("image");
        pool.cpus_millis = Some(1500);
        pool.memory = Some(1 << 30);
        pool.log_max_size = Some(1 << 20);
        pool.tmpfs.insert("/tmp".to_owned(), "size=1g".to_owned());
        pool.ca_file = Some("/ca.pem".into());
        pool.proxy =
            Some(InstanceProxy { http: Some("http://p:1".to_owned()), ..InstanceProxy::default() });
        let made = body(&pool);
        let host = &made["HostConfig"];
        assert_eq!(host["NanoCpus"], 1_500_000_000_u64);
        assert_eq!((&host["Memory"], &host["MemorySwap"]), (&json!(1 << 30), &json!(1 << 30)));
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "1048576");
        assert_eq!(host["Tmpfs"]["/tmp"], "size=1g");
        assert_eq!(host["Mounts"][0]["Source"], "/ca.pem");
        let variables = made["Env"].to_string();
        for wanted in ["http_proxy=http://p:1", "HTTP_PROXY=http://p:1", "NODE_EXTRA_CA_CERTS=/usr"]
        {
            assert!(variables.contains(wanted), "{variables}");
        }
    }

    /// A kept runner is a mount, a copy and a start of it; the link to it is followed once.
    #[test]
    fn a_kept_runner_is_mounted_and_copied() {
        let shelf = tempfile::tempdir().unwrap();
        let release = shelf.path().canonicalize().unwrap().join("2.336.0");
        std::fs::create_dir(&release).unwrap();
        std::os::unix::fs::symlink("2.336.0", shelf.path().join("latest")).unwrap();
        let pool =
            DockerPool { kept_runner: Some(shelf.path().join("latest")), ..DockerPool::new("i") };
        let body = body(&pool);
        let mount = &body["HostConfig"]["Mounts"][0];
        assert_eq!(mount["Source"], json!(release));
        assert_eq!((&mount["Target"], &mount["ReadOnly"]), (&json!(RUNNER_TARGET), &json!(true)));
        assert_eq!(body["Cmd"], json!(["./run.sh"]));
        assert_eq!(body["Entrypoint"][0], "/bin/sh");
        assert!(COPY_RUNNER.contains(&format!("{RUNNER_TARGET}/.")));
        assert!(body["Env"].as_array().unwrap().contains(&json!("RUNNER_ALLOW_RUNASROOT=1")));
    }
}
