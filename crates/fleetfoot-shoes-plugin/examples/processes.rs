//! A whole plugin: each machine is a directory with a process in it that runs the setup script.
//!
//! ```text
//! MACHINES_DIR    where machines are; each has a directory of its name
//! MACHINES_IMAGE  a directory whose files each machine has; none by default
//! ```
#![expect(clippy::disallowed_methods, reason = "its machines are processes")]

use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{fs, io, io::Write as _};

use fleetfoot_shoes_plugin::{AddInstance, DeleteInstance, Instance, Refusal, Shoes, exit, serve};
use rustix::process::{Pid, Signal, kill_process_group};

struct Processes {
    directory: PathBuf,
    image: Option<PathBuf>,
    /// One at a time: a process that is forked while another one's script is open for writing keeps it open, and
    /// what is open for writing cannot be executed.
    forks: Mutex<()>,
}

impl Processes {
    /// A name is a name, and never a way out of the directory.
    fn machine(&self, name: &str) -> Result<PathBuf, Refusal> {
        let mut parts = Path::new(name).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(_)), None) => Ok(self.directory.join(name)),
            _ => Err(Refusal::InvalidArgument(format!("`{name}` cannot name a machine"))),
        }
    }

    fn make(&self, machine: &Path, script: &str) -> io::Result<()> {
        match fs::create_dir(machine) {
            // A call whose answer was lost is made again.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        if let Some(image) = &self.image {
            copy(image, machine)?;
        }
        let _alone = self.forks.lock().unwrap_or_else(PoisonError::into_inner);
        let program = machine.join("setup.sh");
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o700);
        options.open(&program)?.write_all(script.as_bytes())?;
        let log = fs::File::create(machine.join("log"))?;
        let mut command = Command::new(program);
        command.current_dir(machine).process_group(0).stdin(Stdio::null());
        let mut child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        fs::write(machine.join("pid"), child.id().to_string())?;
        // Somebody has to take its exit status.
        std::thread::spawn(move || child.wait());
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let new = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&new)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
            copy(&entry.path(), &new)?;
        } else {
            fs::copy(entry.path(), new)?;
        }
    }
    Ok(())
}

#[async_trait::async_trait]
impl Shoes for Processes {
    async fn add_instance(&self, wanted: AddInstance) -> Result<Instance, Refusal> {
        let machine = self.machine(&wanted.runner_name)?;
        let made = self.make(&machine, &wanted.setup_script);
        made.map_err(|error| Refusal::Failed(format!("{}: {error}", machine.display())))?;
        Ok(Instance::new(wanted.runner_name, "processes"))
    }

    async fn delete_instance(&self, gone: DeleteInstance) -> Result<(), Refusal> {
        let machine = self.machine(&gone.cloud_id)?;
        if !machine.exists() {
            return Err(Refusal::NotFound(gone.cloud_id));
        }
        let pid = fs::read_to_string(machine.join("pid")).ok().and_then(|pid| pid.parse().ok());
        if let Some(group) = pid.and_then(Pid::from_raw) {
            // What has ended needs no signal.
            let _ = kill_process_group(group, Signal::KILL).is_ok();
        }
        let removed = fs::remove_dir_all(&machine);
        removed.map_err(|error| Refusal::Failed(format!("{}: {error}", machine.display())))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let directory = variable("MACHINES_DIR").unwrap_or_else(|| "machines".into());
    if let Err(error) = fs::create_dir_all(&directory) {
        let _ = writeln!(io::stderr(), "MACHINES_DIR: {}: {error}", directory.display()).is_ok();
        return ExitCode::FAILURE;
    }
    let image = variable("MACHINES_IMAGE");
    exit(serve(Processes { directory, image, forks: Mutex::default() }).await)
}
