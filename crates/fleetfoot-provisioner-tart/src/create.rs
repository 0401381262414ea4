//! From a record to a machine whose guest agent answers.

use std::io;

use fleetfoot_provisioner::{BackendError, EnvironmentSpec, ErrorKind, InstanceName};
use tokio::time::Instant;

use crate::command;
use crate::directory::{self, Directory, End, Job};
use crate::host::{Owner, TartHost};
use crate::keep::{self, KeepError};
use crate::keeper::Order;
use crate::life::{self, Life};
use crate::pool::TartPool;
use crate::remove;

pub(crate) const OPERATION: &str = "create tart machine";
/// What the framework says when it has as many macOS guests as it runs.
const LIMIT_WORDS: &str = "exceeds the system limit";
/// Apple's licence and framework.
const MACS_MAX: usize = 2;
/// One ask of the guest agent; without it a hanging one would be the last.
const ASK_BOUND: std::time::Duration = std::time::Duration::from_secs(30);
/// How much output of each command is kept.
pub(crate) const OUTPUT_MAX: u64 = 4 << 20;

/// One creation.
pub(crate) struct Creation<'a> {
    pub(crate) host: &'a TartHost,
    pub(crate) pool: &'a TartPool,
    pub(crate) spec: &'a EnvironmentSpec,
    pub(crate) directory: Directory,
}

impl Creation<'_> {
    /// All steps, each only if it was not done before. The caller holds the name's lock.
    pub(crate) async fn run(&self) -> Result<(), BackendError> {
        let name = &self.spec.name;
        match self.host.owner(name).map_err(|error| self.backend(error))? {
            Owner::Foreign | Owner::OursUnrecorded(_) => {
                let message = "a machine or record of that name is not of this creation";
                return Err(self.failed(ErrorKind::NameTaken, message));
            }
            Owner::Nobody => {
                self.room()?;
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("tart.record.before");
                self.host.record(name, &self.spec.pool).map_err(|error| self.backend(error))?;
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("tart.record.after");
            }
            Owner::OursUnwritten => {
                self.host.record(name, &self.spec.pool).map_err(|error| self.backend(error))?;
            }
            Owner::Ours(_) => {}
        }
        if self.directory.deleting().exists() {
            return Err(self.failed(ErrorKind::Instance, "it is being deleted"));
        }
        let made = self.make().await;
        if let Err(error) = &made
            && error.kind != ErrorKind::Unanswered
        {
            // What this leaves, `list` shows, and a later delete removes.
            let _ = remove::all(self.host, name).await;
        }
        made
    }

    async fn make(&self) -> Result<(), BackendError> {
        self.clone_image().await?;
        let name = &self.spec.name;
        if !self.directory.elsewhere().exists() {
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("tart.mark.before");
            self.host.mark(name, &self.spec.pool).map_err(|error| self.backend(error))?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("tart.mark.after");
        }
        if self.life(Job::Vm)? == Life::NotBegun {
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("tart.set.before");
            let done = self.host.tart(OPERATION, &command::set(self.pool, name)).await?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("tart.set.after");
            if !done.succeeded() {
                let message = format!("tart set: {}", done.said());
                return Err(self.failed(ErrorKind::Instance, message));
            }
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("tart.run.before");
            self.keep(Job::Vm, command::run(self.pool, name), Some("vm")).await?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("tart.run.after");
            self.host.begun.send_modify(|count| *count += 1);
        }
        self.await_agent().await
    }

    /// No third macOS guest: known before anything is cloned, where the image is on this host and the others are ours.
    fn room(&self) -> Result<(), BackendError> {
        let is_mac = self.host.image(&self.pool.image).is_some_and(|it| self.host.is_mac(&it));
        if is_mac && self.host.running_macs() >= MACS_MAX {
            let message = "two macOS guests run on this host, and Apple's licence and framework allow no third";
            return Err(self.failed(ErrorKind::NoRoom, message));
        }
        Ok(())
    }

    async fn clone_image(&self) -> Result<(), BackendError> {
        let name = &self.spec.name;
        keep::ended(&self.directory, Job::Clone).await.map_err(|error| self.backend(error))?;
        if self.host.machine(name.as_str()).exists() || self.directory.elsewhere().exists() {
            return Ok(());
        }
        // An earlier try that did not come to its end.
        for what in ["exit", "pid"] {
            directory::gone(std::fs::remove_file(self.directory.of(Job::Clone, what)))
                .map_err(|error| self.backend(error))?;
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.clone.before");
        self.keep(Job::Clone, command::clone(self.pool, name), None).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.clone.end.before");
        keep::ended(&self.directory, Job::Clone).await.map_err(|error| self.backend(error))?;
        match self.life(Job::Clone)? {
            Life::Ended(end) if end.code == Some(0) => {
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("tart.clone.end.after");
                if !self.host.machine(name.as_str()).exists() {
                    // The `tart` in `PATH` may be a script that has another home, or asks another Mac.
                    std::fs::write(self.directory.elsewhere(), "")
                        .map_err(|error| self.backend(error))?;
                }
                Ok(())
            }
            Life::Ended(end) => {
                let said = command::one_line(&end.stderr);
                let message = format!("tart clone: {}: {said}", end.error());
                let full = said.contains("No space left") || said.contains("not enough space");
                let kind = if full { ErrorKind::NoRoom } else { ErrorKind::Instance };
                Err(self.failed(kind, message))
            }
            Life::Lost | Life::NotBegun | Life::Alive => {
                Err(self.failed(ErrorKind::Unanswered, "tart clone: its keeper was killed"))
            }
        }
    }

    /// Asks until the agent answers. A machine that ended meanwhile is not asked any more.
    async fn await_agent(&self) -> Result<(), BackendError> {
        let name = &self.spec.name;
        let end = Instant::now() + self.host.agent_bound;
        loop {
            let next = Instant::now() + self.host.agent_period;
            let words = command::echo(name);
            let ask = self.host.tart(OPERATION, &words);
            let said = match tokio::time::timeout(ASK_BOUND, ask).await {
                Ok(done) => {
                    let done = done?;
                    if done.succeeded() {
                        return Ok(());
                    }
                    done.said()
                }
                Err(_) => "no answer".to_owned(),
            };
            match self.life(Job::Vm)? {
                Life::Alive => {}
                Life::Ended(end) => return Err(self.vm_ended(&end)),
                Life::Lost | Life::NotBegun => {
                    return Err(self.failed(ErrorKind::Instance, "tart vm: its keeper was killed"));
                }
            }
            if next > end {
                let after = fleetfoot_provisioner::original_duration(self.host.agent_bound);
                let message = format!("guest agent not ready: timeout after {after} ({said})");
                return Err(self.failed(ErrorKind::Instance, message));
            }
            tokio::time::sleep_until(next).await;
        }
    }

    /// The limit of macOS guests is capacity; every other end is the machine's own.
    fn vm_ended(&self, end: &End) -> BackendError {
        let said = command::one_line(&end.stderr);
        if said.contains(LIMIT_WORDS) {
            return self.failed(ErrorKind::NoRoom, said);
        }
        self.failed(ErrorKind::Instance, format!("tart vm exited: {}: {said}", end.error()))
    }

    async fn keep(
        &self,
        job: Job,
        arguments: Vec<String>,
        label: Option<&'static str>,
    ) -> Result<(), BackendError> {
        let order = order(self.host, &self.spec.name, arguments, None, label);
        start(self.host, &self.directory, self.spec, job, &order, OPERATION).await
    }

    fn life(&self, job: Job) -> Result<Life, BackendError> {
        life::look(&self.directory, job).map_err(|error| self.backend(error))
    }

    fn failed(&self, kind: ErrorKind, message: impl Into<String>) -> BackendError {
        BackendError::new(OPERATION, kind, message).about(&self.spec.name)
    }

    fn backend(&self, error: io::Error) -> BackendError {
        self.failed(ErrorKind::Backend, error.to_string()).caused_by(error)
    }
}

/// What a keeper is told.
pub(crate) fn order(
    host: &TartHost,
    name: &InstanceName,
    arguments: Vec<String>,
    input: Option<String>,
    label: Option<&'static str>,
) -> Order {
    let stem = |label| format!("{}-{label}-{name}", host.program_name);
    Order {
        program: host.tart.clone(),
        arguments,
        input,
        capture: label.map(|label| host.temporary.join(stem(label))),
        grace_ms: u64::try_from(host.stop_grace.as_millis()).unwrap_or(u64::MAX),
        output_max: OUTPUT_MAX,
    }
}

/// Starts a keeper, and says what must be said about it.
pub(crate) async fn start(
    host: &TartHost,
    directory: &Directory,
    spec: &EnvironmentSpec,
    job: Job,
    order: &Order,
    operation: &'static str,
) -> Result<(), BackendError> {
    let EnvironmentSpec { name, pool, .. } = spec;
    let failed = |kind, message: String| BackendError::new(operation, kind, message).about(name);
    match keep::start(&host.keeper, directory, job, order).await {
        Ok(None) => Ok(()),
        Ok(Some(error)) => {
            tracing::warn!(%pool, instance = %name, error, "failed to create stderr log, running without capture");
            Ok(())
        }
        // What a dropped call ordered came late: it is the same command.
        Err(KeepError::Begun) if job != Job::Runner => Ok(()),
        Err(KeepError::Begun) => {
            Err(failed(ErrorKind::Instance, "its runner was launched before".to_owned()))
        }
        Err(KeepError::Refused(error)) => {
            match job {
                Job::Vm => {
                    tracing::error!(%pool, instance = %name, error, "failed to start tart vm");
                }
                Job::Runner => {
                    tracing::error!(%pool, instance = %name, error, "failed to start tart runner");
                }
                Job::Clone => {}
            }
            Err(failed(ErrorKind::Instance, format!("tart {}: {error}", job.word())))
        }
        Err(KeepError::NoKeeper(error)) => Err(failed(ErrorKind::Backend, error)),
        Err(KeepError::Unanswered(error)) => Err(failed(ErrorKind::Unanswered, error)),
    }
}
