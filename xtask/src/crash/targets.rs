//! A target of myshoes in a case: the section of its configuration, its plugin, and its REST API.

use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::audit::LAST;
use super::bed::{Bed, directories};
use super::github::ORG;
use crate::process::{run_quiet, wait_until};
use crate::unix_http;

/// The scale set of the only target.
pub(super) const SCALE_SET: &str = "myshoes-acme";
/// What the log says of where the API is.
const SERVED_ON: &str = "start webserver on ";

impl Bed {
    fn machines(&self) -> PathBuf {
        self.dir().join("machines")
    }

    /// The runner in its machines, the plugin by a name that tells whose it is, the variables; the lines of the
    /// configuration.
    pub(super) fn set_up_targets(&self) -> Result<String> {
        let dir = self.dir();
        let run = dir.join("image/runner/run.sh");
        std::fs::create_dir_all(dir.join("image/runner"))?;
        let binary = self.ground().binary.display();
        // It finds its JIT config in its environment.
        std::fs::write(&run, format!("#!/bin/bash\nexec {binary} __runner\n"))?;
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755))?;
        let plugin = dir.join("plugin");
        symlink(self.ground().plugin.as_ref().context("no plugin was built")?, &plugin)?;
        let mut openssl = Command::new("openssl");
        let key =
            run_quiet(openssl.args(["base64", "-A", "-in"]).arg(dir.with_file_name("app.pem")))?;
        let url = self.github.config_url.rsplit_once('/').map_or("", |it| it.0);
        let variables = [
            ("PORT", "0".to_owned()),
            ("GITHUB_APP_ID", "5".to_owned()),
            ("GITHUB_APP_SECRET", "webhook".to_owned()),
            ("GITHUB_PRIVATE_KEY_BASE64", key.trim().to_owned()),
            ("GITHUB_URL", url.to_owned()),
            ("PLUGIN", plugin.display().to_string()),
            ("RUNNER_USER", "root".to_owned()),
            ("RUNNER_BASE_DIRECTORY", ".".to_owned()),
            ("RUNNER_VERSION", "v2.330.0".to_owned()),
            ("SCALESET_ENABLED", "true".to_owned()),
            ("MACHINES_DIR", self.machines().display().to_string()),
            ("MACHINES_IMAGE", dir.join("image").display().to_string()),
        ];
        let lines = variables.map(|(name, value)| format!("{name}=\"{value}\"\n"));
        let file = dir.join("myshoes.env");
        std::fs::write(&file, lines.concat())?;
        Ok(format!("myshoes:\n  env_file: {}\n", file.display()))
    }

    /// Asks the API of the daemon that runs; nothing if there is none that answers.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Option<Value>> {
        let log = std::fs::read_to_string(self.dir().join(format!("log.{}", self.starts)))?;
        let place = log.lines().find_map(|line| line.split_once(SERVED_ON));
        let Some(address) = place.and_then(|it| it.1.split('"').next()) else { return Ok(None) };
        let Ok(mut stream) = TcpStream::connect(address) else { return Ok(None) };
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let text = body.map(Value::to_string).unwrap_or_default();
        let body = body.map(|_| ("application/json", text.as_bytes()));
        // It may end in the middle of it.
        let Ok((status, answer)) = unix_http::exchange(&mut stream, method, path, body) else {
            return Ok(None);
        };
        ensure!(status < 500, "{method} {path}: {status} {answer}");
        Ok((status < 300).then(|| serde_json::from_str(&answer).unwrap_or_default()))
    }

    /// The target, if there is one that is not deleted; nothing if nobody can say.
    fn target(&self) -> Result<Option<Option<Value>>> {
        let Some(listed) = self.ask("GET", "/target", None)? else { return Ok(None) };
        let mut all = listed.as_array().into_iter().flatten();
        let live = all.find(|it| it["scope"] == ORG && it["status"] != "deleted");
        Ok(Some(live.cloned()))
    }

    pub(super) fn makes_target(&mut self) -> Result<bool> {
        let wanted = json!({ "scope": ORG, "resource_type": "nano" });
        if self.target()? == Some(None) {
            self.ask("POST", "/target", Some(&wanted))?;
        }
        Ok(self.target()?.flatten().is_some())
    }

    pub(super) fn enlarges_target(&mut self) -> Result<bool> {
        let Some(Some(target)) = self.target()? else { return Ok(false) };
        if target["resource_type"] == "large" {
            return Ok(true);
        }
        let path = format!("/target/{}", target["id"].as_str().unwrap_or_default());
        self.ask("POST", &path, Some(&json!({ "scope": ORG, "resource_type": "large" })))?;
        Ok(false)
    }

    pub(super) fn deletes_target(&mut self) -> Result<bool> {
        if let Some(Some(target)) = self.target()? {
            let path = format!("/target/{}", target["id"].as_str().unwrap_or_default());
            self.ask("DELETE", &path, None)?;
        }
        Ok(self.target()? == Some(None))
    }

    /// Nothing is left of the machines that the plugin made.
    pub(super) fn audit_machines(&self) -> Result<()> {
        let gone = wait_until(LAST, || directories(&self.machines()).is_empty());
        ensure!(gone, "machines are left: {}", directories(&self.machines()).join(", "));
        Ok(())
    }
}
