//! The keeper: the parent of one `tart` command that outlives the daemon.
//!
//! ```text
//! daemon ── order (stdin) ──▶ keeper ──▶ tart run | tart exec | tart clone
//!        ◀── answer (stdout)    │ holds <job>.lock, writes <job>.pid
//!        ── SIGTERM ──────────▶ │ ends its command, at last by force
//!                               ▼
//!                            <job>.log, the file of standard error, <job>.exit
//! ```
//!
//! The order comes by standard input, for it may hold a JIT config; half an order does nothing. The keeper of a runner ends
//! the machine, too, before it says that the runner ended: what is said to be over uses nothing any more.

mod capture;
mod kept;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::directory::{self, Directory, End, Job};

/// The first argument by which the binary knows that it is a keeper.
pub const WORD: &str = "__tart";

/// Between two tries for the lock.
const LOOK: Duration = Duration::from_millis(5);
/// A look at the lock takes it for a moment; another keeper keeps it.
const LOCK_BOUND: Duration = Duration::from_secs(2);

/// What the daemon wants kept. Not `Debug`: it may hold a JIT config.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) input: Option<String>,
    /// The file of standard error without its random part and `.log`; none for commands that need none.
    pub(crate) capture: Option<PathBuf>,
    pub(crate) grace_ms: u64,
    pub(crate) output_max: u64,
}

/// What the keeper answers, in one line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The command runs. The warning says why its standard error is not kept.
    Started { warning: Option<String> },
    /// Another keeper was first: a daemon that went away had ordered it, too.
    Begun,
    /// Nothing was started.
    Refused { message: String },
}

/// Runs the keeper. `args`: the instance's directory and the job's word.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let directory = args.next().map(|path| Directory(path.into()));
    let job = args.next().and_then(|word| Job::of_word(word.to_str()?));
    let (Some(directory), Some(job)) = (directory, job) else { return ExitCode::from(64) };
    // Fails only for a process that leads a group already, and then it is apart from the daemon as well.
    let _ = rustix::process::setsid();
    let mut order = Vec::new();
    let order = io::stdin()
        .read_to_end(&mut order)
        .ok()
        .and_then(|_| serde_json::from_slice::<Order>(&order).ok());
    let Some(order) = order else { return ExitCode::FAILURE };
    match keep(&directory, job, &order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            answer(&refusal);
            ExitCode::FAILURE
        }
    }
}

fn keep(directory: &Directory, job: Job, order: &Order) -> Result<(), Answer> {
    let refused = |message: String| Answer::Refused { message };
    let said = |error: io::Error| refused(error.to_string());
    let lock = lock(directory, job)?;
    // The lock first, then the look: a delete marks first and then looks at the locks.
    if !directory.meta().exists() || directory.deleting().exists() {
        return Err(refused("the instance is being deleted".to_owned()));
    }
    if directory.of(job, "exit").exists() || directory.of(job, "pid").exists() {
        return Err(Answer::Begun);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(said)?;
    let end = runtime.block_on(kept::keep(directory, job, order)).map_err(refused)?;
    // If the instance was deleted meanwhile there is no place for it, and nobody who asks.
    let _ = directory::write::<End>(&directory.of(job, "exit"), &end);
    drop(lock);
    Ok(())
}

fn lock(directory: &Directory, job: Job) -> Result<File, Answer> {
    let path = directory.of(job, "lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(|error| {
            Answer::Refused { message: format!("cannot open {}: {error}", path.display()) }
        })?;
    let end = Instant::now() + LOCK_BOUND;
    while file.try_lock().is_err() {
        // Whoever holds it for longer than a look has written this.
        if directory.of(job, "pid").exists() || Instant::now() > end {
            return Err(Answer::Begun);
        }
        std::thread::park_timeout(LOOK);
    }
    Ok(file)
}

/// Nobody may be there any more to read it.
fn answer(answer: &Answer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
}
