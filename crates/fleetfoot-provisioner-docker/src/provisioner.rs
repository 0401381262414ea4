//! The contract over an engine.
//!
//! ```text
//! create ─▶ 201 ──────────────────────────────▶ wait opened ─▶ start ─▶ 204, 304
//!        ├▶ 404 no such image ─▶ pull ─▶ create again
//!        └▶ 409 (Podman: 500) ─▶ ours? adopt : name taken
//! ```
//!
//! Containers that wait (`waiting`) stop after the first arrow, and `launch` goes on from there; where the image has no
//! shell, it begins with the first arrow again.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentInfo, EnvironmentSpec, ErrorKind, EventStream,
    Finding, Handle, InstallationId, InstanceName, JitConfig, Listing, PoolName, Provisioner,
    Reach, Severity,
};
use serde::Deserialize;
use serde_json::Value;

use crate::auth;
use crate::check;
use crate::container::{
    DockerPool, LABEL_INSTALLATION, LABEL_OUTRUNNER, LABEL_OUTRUNNER_NAME, PullPolicy,
};
use crate::engine::{DockerEngine, Info, Talk};
use crate::http::{Call, CallError, encoded};
use crate::legacy;
use crate::look::{self, Life};
use crate::pull;
use crate::remove::{LOOK_AGAIN, LOOKS_MAX, remove};
use crate::shell::{self, Shell};
use crate::waiting;
use crate::watch::Hub;

/// Containers for one pool.
#[derive(Debug)]
pub struct DockerProvisioner {
    engine: Arc<DockerEngine>,
    pool: DockerPool,
    installation: InstallationId,
    hub: Arc<Hub>,
    shell: Shell,
}

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

impl DockerProvisioner {
    /// A provisioner for one pool at an engine that other pools may use, too.
    #[must_use]
    pub fn new(engine: Arc<DockerEngine>, pool: DockerPool, installation: InstallationId) -> Self {
        let hub = engine.hub(&installation);
        Self { engine, pool, installation, hub, shell: Shell::default() }
    }

    fn registry_auth(&self) -> Result<Option<String>, BackendError> {
        let given = self.pool.registry_auth.clone();
        let must_exist = given.is_some();
        let default = || {
            self.engine.settings.config_directory().map(|directory| directory.join("config.json"))
        };
        let Some(path) = given.or_else(default) else { return Ok(None) };
        auth::header(&path, &self.pool.image, must_exist).map_err(|error| {
            BackendError::new("pull image", ErrorKind::Instance, error.to_string())
        })
    }

    async fn pull(&self) -> Result<(), BackendError> {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.pull.before");
        let pulled = pull::pull(&self.engine, &self.pool.image, self.registry_auth()?).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.pull.after");
        pulled
    }

    /// Makes the container, or finds the one that an earlier call made.
    async fn make(&self, spec: &EnvironmentSpec, body: &Value) -> Result<String, BackendError> {
        let failed = |error: CallError| error.of("create container", Some(&spec.name), true);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        let mut pulled = false;
        for _ in 0..LOOKS_MAX {
            let call =
                Call::post(format!("/containers/create?name={}", encoded(spec.name.as_str())))
                    .json(body);
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("docker.create.before");
            let created = talk.call(call).await;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("docker.create.after");
            let error = match created {
                Ok(answer) => return Ok(answer.json::<Created>().await.map_err(failed)?.id),
                Err(error) => error,
            };
            if pull::is_missing_image(&error) && !pulled && self.pool.pull != PullPolicy::Never {
                self.pull().await.map_err(|error| error.about(&spec.name))?;
                pulled = true;
                talk = self.engine.talk().await.map_err(failed)?;
                continue;
            }
            if !error.is_name_conflict() {
                return Err(failed(error));
            }
            match look::inspect(&mut talk, spec.name.as_str()).await.map_err(failed)? {
                Some(found) if found.is_ours(&self.installation, &spec.name) => return Ok(found.id),
                Some(_) => {
                    let message = "a container of that name exists that is not ours";
                    return Err(BackendError::new(
                        "create container",
                        ErrorKind::NameTaken,
                        message,
                    )
                    .about(&spec.name));
                }
                // Another call of ours is making or removing it right now.
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
        let message = "the name is in use, but there is no such container";
        Err(BackendError::new("create container", ErrorKind::Unanswered, message).about(&spec.name))
    }

    /// Starts a container and is there when it ends.
    async fn run(&self, spec: &EnvironmentSpec, id: &str) -> Result<(), BackendError> {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.expect.before");
        self.hub.expect(&spec.name, id).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.expect.after");
        self.start(spec, id).await
    }

    /// The container of an image without a shell, made again with the JIT config in it.
    async fn make_anew(
        &self,
        spec: &EnvironmentSpec,
        id: &str,
        jit: &JitConfig,
    ) -> Result<String, BackendError> {
        let failed = |error: CallError| error.of("remove container", Some(&spec.name), true);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        remove(&mut talk, id).await.map_err(failed)?;
        drop(talk);
        self.hub.removed(id);
        self.make(spec, &self.pool.body(spec, &self.installation, Some(jit))).await
    }

    /// What the pool's image starts before any command; an image that is missing is pulled.
    async fn entry_point(&self) -> Result<Vec<String>, BackendError> {
        let failed = |error: CallError| error.of("inspect image", None, false);
        let path = check::image_path(&self.pool.image);
        let known = waiting::entry_point(&self.engine, path.clone()).await.map_err(failed)?;
        if known.is_none() && self.pool.pull != PullPolicy::Never {
            self.pull().await?;
            let now = waiting::entry_point(&self.engine, path).await.map_err(failed)?;
            return Ok(now.unwrap_or_default());
        }
        Ok(known.unwrap_or_default())
    }

    async fn start(&self, spec: &EnvironmentSpec, id: &str) -> Result<(), BackendError> {
        let failed = |error: CallError| error.of("start container", Some(&spec.name), true);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.start.before");
        let started = talk.call(Call::post(format!("/containers/{id}/start"))).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("docker.start.after");
        match started {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_some() => {
                // It will never run, and nobody but this call knows why: it goes at once.
                let mut error = failed(error);
                if error.kind == ErrorKind::Backend {
                    error.kind = ErrorKind::Instance;
                }
                if let Ok(mut talk) = self.engine.talk().await {
                    let _ = remove(&mut talk, id).await;
                }
                self.hub.removed(id);
                Err(error)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Stops what still runs, then removes it by id, whoever else may be at it.
    async fn stop_and_remove(
        &self,
        talk: &mut Talk<'_>,
        id: &str,
        life: Life,
    ) -> Result<(), CallError> {
        if life == Life::Running {
            let grace = self.pool.stop_grace_s;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("docker.stop.before");
            let stopped = talk.call(Call::post(format!("/containers/{id}/stop?t={grace}"))).await;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("docker.stop.after");
            match stopped {
                Ok(_) => {}
                Err(error) if error.is_no_container() => return Ok(()),
                // What cannot be stopped is removed by force.
                Err(error) if error.status().is_some() => {
                    tracing::debug!(id, %error, "container cannot be stopped");
                }
                Err(error) => return Err(error),
            }
        }
        remove(talk, id).await
    }
}

#[async_trait]
impl Provisioner for DockerProvisioner {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            idempotent_create: true,
            list: true,
            watch: true,
            logs: true,
            late_binding: self.pool.waits,
            reach: Reach::Host,
            ends_with_host: false,
        }
    }

    fn connection(&self) -> &str {
        self.engine.connection()
    }

    async fn create(
        &self,
        spec: &EnvironmentSpec,
        jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError> {
        let refused = |message| {
            Err(BackendError::new("create container", ErrorKind::Instance, message)
                .about(&spec.name))
        };
        let body = self.pool.body(spec, &self.installation, jit);
        let id = match (self.pool.waits, jit) {
            (true, None) => {
                let image = self.entry_point().await.map_err(|error| error.about(&spec.name))?;
                let id = self.make(spec, &waiting::taking(&self.pool, body, &image)).await?;
                self.shell.is_there(&self.engine, &self.pool, &id).await;
                tracing::debug!(pool = %spec.pool, instance = %spec.name, "container waits");
                return Ok(Handle(id));
            }
            (true, Some(_)) => return refused("a container that waits takes the JIT config later"),
            (false, None) => return refused("a container is created with its JIT config"),
            (false, Some(_)) => self.make(spec, &body).await?,
        };
        self.run(spec, &id).await?;
        let short: String = id.chars().take(12).collect();
        tracing::info!(pool = %spec.pool, instance = %spec.name, image = self.pool.image, container = short, "container started");
        Ok(Handle(id))
    }

    async fn launch(
        &self,
        spec: &EnvironmentSpec,
        _: &Handle,
        jit: &JitConfig,
    ) -> Result<(), BackendError> {
        const OPERATION: &str = "launch runner";
        let name = &spec.name;
        let failed = |error: CallError| error.of(OPERATION, Some(name), false);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        let found = look::find(&mut talk, &self.installation, name).await.map_err(failed)?;
        drop(talk);
        let refused =
            |message| Err(BackendError::new(OPERATION, ErrorKind::Instance, message).about(name));
        let id = match found {
            Some((id, Life::Created)) => id,
            Some((_, Life::Running)) => return refused("it was launched before"),
            Some((_, Life::Ended)) => return refused("the container has ended"),
            None => return refused("there is no such container of ours"),
        };
        let id = if self.shell.is_there(&self.engine, &self.pool, &id).await {
            waiting::hand_over(&self.engine, name, &id, jit).await?;
            id
        } else {
            self.make_anew(spec, &id, jit).await?
        };
        self.run(spec, &id).await?;
        tracing::info!(pool = %spec.pool, instance = %name, "container that waited started");
        Ok(())
    }

    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        let failed = |error: CallError| error.of("remove container", Some(name), true);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        let found = look::find(&mut talk, &self.installation, name).await.map_err(failed)?;
        let Some((id, life)) = found else { return Ok(Deletion::WasAbsent) };
        self.stop_and_remove(&mut talk, &id, life).await.map_err(failed)?;
        self.hub.removed(&id);
        tracing::debug!(instance = %name, "container removed");
        Ok(Deletion::Removed)
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let failed = |error: CallError| error.of("list containers", None, false);
        // One connection: the engine that says who it is is the one that lists.
        let mut talk = self.engine.talk().await.map_err(failed)?;
        let info: Info =
            talk.call(Call::get("/info")).await.map_err(failed)?.json().await.map_err(failed)?;
        if self.engine.is_local() && !info.docker_root_dir.is_empty() {
            let _ = self.engine.root_directory.set(PathBuf::from(&info.docker_root_dir));
        }
        let label = format!("{LABEL_INSTALLATION}={}", self.installation);
        let named = |listed: &look::Listed| listed.instance_of(&self.installation);
        let environments =
            look::environments(&self.engine, &mut talk, label, named).await.map_err(failed)?;
        Ok(Listing { identity: info.identity(talk.version.podman), environments })
    }

    async fn others(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        let failed = |error: CallError| error.of("list containers", None, false);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        look::others(&self.engine, &mut talk, &self.installation).await.map_err(failed)
    }

    async fn watch(&self) -> Result<EventStream, BackendError> {
        self.hub.watch().await
    }

    async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, BackendError> {
        let failed = |error: CallError| error.of("read logs", Some(name), false);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        let Some((id, _)) =
            look::find(&mut talk, &self.installation, name).await.map_err(failed)?
        else {
            return Err(BackendError::new("read logs", ErrorKind::Instance, "no such container")
                .about(name));
        };
        look::logs(&mut talk, &id, lines).await.map_err(failed)
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = check::check(&self.engine, &self.pool).await;
        let is_well = findings.iter().all(|finding| finding.severity != Severity::Error);
        let takes_shell = self.pool.waits || self.pool.kept_runner.is_some();
        if is_well
            && takes_shell
            && shell::look(&self.engine, &self.pool, &self.installation).await == Some(false)
        {
            findings.push(check::no_shell(&self.pool));
        }
        findings
    }

    async fn prepare(&self) -> Result<(), BackendError> {
        match self.pool.pull {
            PullPolicy::Never => Ok(()),
            PullPolicy::Always => self.pull().await,
            PullPolicy::Missing => {
                let failed = |error: CallError| error.of("inspect image", None, false);
                if check::image_is_there(&self.engine, &self.pool.image).await.map_err(failed)? {
                    return Ok(());
                }
                self.pull().await
            }
        }
    }

    async fn legacy(&self, pool: &PoolName) -> Result<Vec<EnvironmentInfo>, BackendError> {
        legacy::list(&self.engine, pool).await
    }

    async fn delete_legacy(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        let failed =
            |error: CallError| error.of("remove container of the original", Some(name), true);
        let mut talk = self.engine.talk().await.map_err(failed)?;
        let labels = [format!("{LABEL_OUTRUNNER}=true"), format!("{LABEL_OUTRUNNER_NAME}={name}")];
        let mut deletion = Deletion::WasAbsent;
        for listed in look::list(&mut talk, &labels).await.map_err(failed)? {
            if legacy::name_of(&listed).as_ref() == Some(name) {
                self.stop_and_remove(&mut talk, &listed.id, listed.life()).await.map_err(failed)?;
                deletion = Deletion::Removed;
            }
        }
        Ok(deletion)
    }

    fn storage_directory(&self) -> Option<PathBuf> {
        self.engine.root_directory.get().cloned()
    }
}
