//! A shoes plugin to begin with: two programs of yours make and delete machines.
//!
//! ```text
//! CLOUD_CREATE  is given the setup script on its standard input, and NAME, SIZE and LABELS in its environment;
//!               it prints the machine's id, or fails and leaves nothing. The same NAME again: the same machine.
//! CLOUD_DELETE  is given ID in its environment; it succeeds when the machine is gone, also if it was gone before.
//! ```
//!
//! Replace the two calls by your cloud's own library when that is better.

use std::process::{ExitCode, Stdio};

use fleetfoot_shoes_plugin::{AddInstance, DeleteInstance, Instance, Refusal, Shoes, exit, serve};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

struct Cloud {
    create: String,
    delete: String,
}

impl Cloud {
    /// A plugin is configured by its environment: it has the daemon's.
    fn from_environment() -> Result<Self, String> {
        let get = |name: &str| std::env::var(name).map_err(|_| format!("{name} must be set"));
        Ok(Self { create: get("CLOUD_CREATE")?, delete: get("CLOUD_DELETE")? })
    }
}

#[async_trait::async_trait]
impl Shoes for Cloud {
    async fn add_instance(&self, wanted: AddInstance) -> Result<Instance, Refusal> {
        let mut command = Command::new(&self.create);
        command.env("NAME", &wanted.runner_name).env("LABELS", wanted.labels.join(","));
        command.env("SIZE", wanted.resource_type.word());
        let id = run(command, wanted.setup_script).await?;
        if id.is_empty() {
            return Err(Refusal::Failed(format!("{} printed no id", self.create)));
        }
        Ok(Instance::new(id, "mine"))
    }

    async fn delete_instance(&self, gone: DeleteInstance) -> Result<(), Refusal> {
        let mut command = Command::new(&self.delete);
        command.env("ID", &gone.cloud_id);
        run(command, String::new()).await.map(drop)
    }
}

/// What a program printed, without the white space around it. Its last words are told if it fails.
async fn run(mut command: Command, input: String) -> Result<String, Refusal> {
    let refused = |error: std::io::Error| Refusal::Failed(error.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(refused)?;
    let mut stdin = child.stdin.take();
    let write = async move {
        if let Some(stdin) = &mut stdin {
            // One that does not want its input may end without reading it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(refused)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().next_back().unwrap_or("it said nothing");
    Err(Refusal::Failed(format!("{}: {last}", output.status)))
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cloud::from_environment() {
        Ok(cloud) => exit(serve(cloud).await),
        Err(mistake) => {
            eprintln!("error: {mistake}");
            ExitCode::FAILURE
        }
    }
}
