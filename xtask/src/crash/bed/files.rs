//! What a case's daemon finds on disk: its configuration, and the runners that it names.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::super::engine::{IMAGE, RUNNER};
use super::super::{Backend, mac};
use super::{Bed, peer};
use crate::process::run_quiet;

impl Bed {
    /// A runner's directory and an archive of it: a script that becomes the stand-in runner.
    pub(super) fn make_runners(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        if self.ground.backend == Backend::Docker || self.database.is_some() {
            return Ok(());
        }
        let runner = self.dir.join("runner");
        std::fs::create_dir(&runner)?;
        let script = runner.join("run.sh");
        let binary = self.ground.binary.display();
        std::fs::write(&script, format!("#!/bin/sh\nexec {binary} __runner \"$@\"\n"))?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&runner).arg("-czf").arg(self.dir.join("runner.tar.gz")).arg(".");
        run_quiet(&mut tar).map(|_| ())
    }

    /// The lines that make a pool's instances; `second` is another way to make them.
    pub(in crate::crash) fn backend_lines(&self, second: bool) -> String {
        let dir = self.dir.display();
        if self.ground.tart.is_some() {
            return mac::lines(&self.dir);
        }
        if let Some(hypervisor) = &self.ground.hypervisor {
            return hypervisor.lines(&self.dir);
        }
        if self.database.is_some() {
            return format!("    simulated:\n      socket: {}\n", self.engine_socket().display());
        }
        match (&self.ground.engine, second) {
            (Some(engine), _) => format!(
                "    docker:\n      image: {IMAGE}\n      host: unix://{}\n      pull: never\n      network: host\n      runner_cmd: {RUNNER}\n",
                engine.socket.display()
            ),
            (None, false) => format!("    process:\n      runner_dir: {dir}/runner\n"),
            (None, true) => format!("    process:\n      runner_archive: {dir}/runner.tar.gz\n"),
        }
    }

    /// Writes a configuration with these of its pools.
    pub(in crate::crash) fn configure(&self, credential: &str, pools: &[usize]) -> Result<()> {
        self.configure_labeled(credential, pools, "crash")
    }

    /// The same with another label on each pool.
    pub(in crate::crash) fn configure_labeled(
        &self,
        credential: &str,
        pools: &[usize],
        label: &str,
    ) -> Result<()> {
        let mut runners = String::new();
        for pool in pools.iter().filter_map(|at| self.pools.get(*at)) {
            let _ = write!(
                runners,
                "  {}:\n    labels: [{}, {label}]\n    max_runners: {}\n    idle_timeout: 1s\n    boot_timeout: 6s\n{}",
                pool.name, pool.name, pool.limit, pool.lines
            );
        }
        let url = &self.github.config_url;
        let files = [("fleetfoot.yml", self.state_dir()), (peer::CONFIG, self.peer_state_dir())];
        // The second one is the other controller's.
        for (file, state) in files.iter().take(if self.database.is_some() { 2 } else { 1 }) {
            let text = format!(
                "url: {url}\n{credential}\nstate_dir: {}\ntakeover: true\nlog:\n  format: json\n  level: debug\n{}runners:\n{runners}",
                state.display(),
                self.more,
            );
            std::fs::write(self.dir.join(file), text)?;
        }
        Ok(())
    }

    /// The token file as the configuration's credential.
    pub(in crate::crash) fn token(&self) -> String {
        format!("token_file: {}", self.dir.join("token").display())
    }
}
