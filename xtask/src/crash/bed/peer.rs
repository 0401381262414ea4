//! The other one of two controllers that share a database, and the engine that both of them see.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::super::backend::plain;
use super::super::database::environments;
use super::Bed;
use crate::process::wait_until;

/// Its configuration.
pub(super) const CONFIG: &str = "fleetfoot.b.yml";

impl Bed {
    /// Where the engine that every controller sees is asked.
    pub(super) fn engine_socket(&self) -> PathBuf {
        self.dir.join("engine.sock")
    }

    /// The other controller's state directory.
    pub(in crate::crash) fn peer_state_dir(&self) -> PathBuf {
        self.dir.join("state.b")
    }

    /// Starts the other controller, which no point ends.
    pub(in crate::crash) fn start_peer(&mut self) -> Result<()> {
        let log = File::create(self.dir.join("log.b"))?;
        let mut command = plain(&self.ground, &self.dir);
        self.share(&mut command, "b");
        command.arg("run").arg("--config").arg(self.dir.join(CONFIG));
        command.env("FLEETFOOT_CALL_BOUND_MS", "2500");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.peer = Some(command.spawn().context("cannot start the other controller")?);
        Ok(())
    }

    /// Ends it in order.
    pub(in crate::crash) fn stop_peer(&mut self) -> Result<()> {
        let Some(mut peer) = self.peer.take() else { return Ok(()) };
        if let Some(pid) = rustix::process::Pid::from_raw(peer.id().cast_signed()) {
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        let ended = wait_until(Duration::from_secs(15), || !matches!(peer.try_wait(), Ok(None)));
        if !ended {
            let _ = peer.kill();
        }
        ensure!(ended && peer.wait()?.success(), "the other controller did not end in order");
        Ok(())
    }

    /// It never ends by itself, and no pool is ever above its limit, whoever has it.
    pub(super) fn tend_peer(&mut self) -> Result<()> {
        if let Some(peer) = &mut self.peer
            && let Some(status) = peer.try_wait()?
        {
            self.peer = None;
            anyhow::bail!("the other controller ended by itself: {status}");
        }
        if self.database.is_none() {
            return Ok(());
        }
        let held = environments(&self.engine_socket())?;
        for pool in &self.pools {
            let of_pool = held.iter().filter(|it| it.pool.as_ref() == Some(&pool.name));
            let count = of_pool.filter(|it| it.lives()).count();
            if count > pool.limit && self.above.is_none() {
                let limit = pool.limit;
                self.above =
                    Some(format!("{count} environments of pool {}, not {limit}", pool.name));
            }
        }
        Ok(())
    }

    /// What a crash leaves is the other controller's for as long as this one stays away.
    pub(in crate::crash) fn stay_away(&mut self) {
        self.stays_away = true;
    }

    /// A controller that stayed away after its crash is started again.
    pub(in crate::crash) fn bring_back(&mut self) -> Result<()> {
        self.stays_away = false;
        if self.daemon.is_none() { self.start_plain() } else { Ok(()) }
    }

    /// Runs one of the binary's commands at the other controller.
    pub(in crate::crash) fn peer_command(&self, words: &[&str]) -> Result<Option<String>> {
        self.command_at(&self.peer_state_dir(), "b", words)
    }

    /// Nothing is left at the engine that both see.
    pub(in crate::crash) fn audit_engine(&self) -> Result<()> {
        let held = environments(&self.engine_socket())?;
        let names: Vec<&str> = held.iter().map(|it| it.name.as_str()).collect();
        ensure!(names.is_empty(), "environments are left: {}", names.join(", "));
        Ok(())
    }
}
