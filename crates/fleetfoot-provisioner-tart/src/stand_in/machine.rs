//! Machines and images below `TART_HOME`, as Tart keeps them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Outcome, Refusal, pause_for, print, usage};

/// `TART_HOME`.
pub(super) struct Home(pub(super) PathBuf);

impl Home {
    pub(super) fn machine(&self, name: &str) -> PathBuf {
        self.0.join("vms").join(name)
    }

    /// The directory of a machine that exists.
    pub(super) fn existing(&self, name: &str) -> Result<PathBuf, Refusal> {
        let directory = self.machine(name);
        if directory.join("config.json").is_file() {
            Ok(directory)
        } else {
            Err(Refusal(2, format!("the specified VM \"{name}\" does not exist")))
        }
    }

    fn cached(&self, reference: &str) -> PathBuf {
        let (path, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        self.0.join("cache/OCIs").join(path).join(tag)
    }

    pub(super) fn pull(&self, reference: &str) -> Outcome {
        let directory = self.cached(reference);
        if directory.exists() {
            return Ok(0);
        }
        if !reference.contains('/') || reference.contains("missing") {
            return Err(Refusal(1, format!("Error: failed to pull {reference}: unauthorized")));
        }
        print(&format!("pulling {reference}..."));
        let os = if reference.contains("linux") || reference.contains("ubuntu") {
            "linux"
        } else {
            "darwin"
        };
        self.make(&directory, os).map_err(io)?;
        Ok(0)
    }

    fn make(&self, directory: &Path, os: &str) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("disk.img"), "disk")?;
        fs::write(directory.join("nvram.bin"), "nvram")?;
        let config = json!({"version": 1, "os": os, "arch": "arm64", "cpuCount": 2, "memorySize": 4_294_967_296_u64});
        fs::write(directory.join("config.json"), config.to_string())
    }

    pub(super) fn clone_machine(&self, source: &str, name: &str) -> Outcome {
        if name.contains('/') {
            return Err(usage());
        }
        let from = if source.contains('/') {
            self.pull(source)?;
            self.cached(source)
        } else {
            self.existing(source)?
        };
        // Into `tmp`, then moved: an existing machine of that name is silently replaced.
        let making = self.0.join("tmp").join(format!("{}", std::process::id()));
        fs::create_dir_all(&making).map_err(io)?;
        for file in ["disk.img", "nvram.bin", "config.json"] {
            fs::copy(from.join(file), making.join(file)).map_err(io)?;
        }
        pause_for(Duration::from_millis(self.number("clone_ms")));
        fs::create_dir_all(self.0.join("vms")).map_err(io)?;
        let _ = fs::remove_dir_all(self.machine(name));
        fs::rename(&making, self.machine(name)).map_err(io)?;
        Ok(0)
    }

    pub(super) fn set(&self, name: &str, options: &[&str]) -> Outcome {
        let directory = self.existing(name)?;
        let mut config = read(&directory);
        for option in options.chunks(2) {
            match option {
                ["--cpu", count] => config["cpuCount"] = number(count)?.into(),
                ["--memory", mib] => config["memorySize"] = (number(mib)? << 20).into(),
                ["--disk-size", gigabytes] => config["diskSize"] = number(gigabytes)?.into(),
                _ => return Err(usage()),
            }
        }
        let mut file = File::options()
            .write(true)
            .truncate(true)
            .open(directory.join("config.json"))
            .map_err(io)?;
        std::io::Write::write_all(&mut file, config.to_string().as_bytes()).map_err(io)?;
        Ok(0)
    }

    pub(super) fn delete(&self, name: &str) -> Outcome {
        let directory = self.existing(name)?;
        if self.runs(name) {
            return Err(Refusal(1, format!("VM \"{name}\" is running")));
        }
        fs::remove_dir_all(directory).map_err(io)?;
        Ok(0)
    }

    /// A running machine holds a lock on its `config.json`.
    pub(super) fn runs(&self, name: &str) -> bool {
        File::open(self.machine(name).join("config.json"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("vms")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| self.existing(name).is_ok());
        names.sort();
        names
    }

    pub(super) fn is_mac(&self, name: &str) -> bool {
        read(&self.machine(name))["os"] == "darwin"
    }

    pub(super) fn list(&self, options: &[&str]) -> Outcome {
        let (mut quiet, mut json, mut local) = (false, false, false);
        for option in options {
            match *option {
                "--quiet" => quiet = true,
                "json" => json = true,
                "local" => local = true,
                "--source" | "--format" => {}
                _ => return Err(usage()),
            }
        }
        let mut all: Vec<(String, &str)> =
            self.names().into_iter().map(|name| (name, "local")).collect();
        if !local && self.0.join("cache/OCIs").exists() {
            // Pulled images are listed beside them, by name alike.
            all.push(("ghcr.io/cirruslabs/macos:latest".to_owned(), "OCI"));
        }
        let listed: Vec<Value> = all
            .iter()
            .map(|(name, source)| {
                let runs = self.runs(name);
                json!({"Source": source, "Name": name, "Disk": 50, "Size": 20, "Accessed": "2026-01-01T00:00:00Z",
                    "Running": runs, "State": if runs { "running" } else { "stopped" }})
            })
            .collect();
        if json {
            print(&serde_json::to_string_pretty(&listed).unwrap_or_default());
        } else {
            all.iter().for_each(|(name, source)| {
                print(&if quiet { name.clone() } else { format!("{source} {name}") });
            });
        }
        Ok(0)
    }

    pub(super) fn get(&self, name: &str) -> Outcome {
        let config = read(&self.existing(name)?);
        let memory = config["memorySize"].as_u64().unwrap_or(0) >> 20;
        let runs = self.runs(name);
        print(
            &json!({"OS": config["os"], "CPU": config["cpuCount"], "Memory": memory, "Disk": 50,
            "Running": runs, "State": if runs { "running" } else { "stopped" }})
            .to_string(),
        );
        Ok(0)
    }
}

fn read(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("config.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| usage())
}

pub(super) fn io(error: std::io::Error) -> Refusal {
    Refusal(1, format!("Error: {error}"))
}
