//! The shim proper: starts the runner, waits for it, leaves nothing behind but its output and its exit.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fleetfoot_provisioner::ErrorKind;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

use super::output::Output;
use super::{Answer, EXEC, Order, WORD};
use crate::directory::{self, Directory, ExitRecord, PidRecord};
use crate::failure::kind;
use crate::{cgroup, proc, program};

/// How long the kernel may take to end what was killed.
const KILL_BOUND: Duration = Duration::from_secs(10);

pub(super) fn main(path: PathBuf) -> ExitCode {
    let directory = Directory(path);
    let (answer, shim) = match Shim::start(&directory) {
        Ok((shim, warnings)) => (Answer::Started { warnings }, Some(shim)),
        Err(Refusal { message, no_room }) => (Answer::Refused { message, no_room }, None),
    };
    if let Ok(mut line) = serde_json::to_vec(&answer) {
        line.push(b'\n');
        // The daemon may be gone; the runner goes on.
        let _ = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
    }
    let Some(shim) = shim else { return ExitCode::FAILURE };
    release_standard_streams();
    let exit = shim.wait();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.shim.exit.before");
    let recorded = record(&directory, &exit);
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("process.shim.exit.after");
    if recorded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes down how it ended. On a full disk the reserve, and if need be the output, makes room for it. What cannot be written at
/// all the daemon sees as a shim that ended without a word.
fn record(directory: &Directory, exit: &ExitRecord) -> bool {
    let _ = std::fs::remove_file(directory.reserve());
    directory::write(&directory.exit(), exit).is_ok() || {
        for output in [directory.older_output(), directory.output()] {
            let _ = std::fs::remove_file(output);
        }
        directory::write(&directory.exit(), exit).is_ok()
    }
}

/// The daemon waits for the end of our answer, so we must not keep its pipes.
fn release_standard_streams() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

struct Shim {
    signals: Signals,
    output: Output,
    runner: Pid,
    cgroups: Vec<PathBuf>,
    grace: Duration,
    sandboxed: bool,
    stopping: Stopping,
}

/// How far the end has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Asked { since: Instant },
    Killed,
}

impl Shim {
    fn start(directory: &Directory) -> Result<(Self, Vec<String>), Refusal> {
        rustix::process::setsid().refused("cannot begin a session")?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .refused("cannot become a subreaper")?;
        // Only a name for `ps`.
        let _ = rustix::thread::set_name(c"fleetfoot-shim");
        std::env::set_current_dir("/").refused("cannot leave the directory")?;
        let order = read_order()?;
        let signals = Signals::new().refused("cannot handle signals")?;
        let cgroups: Vec<PathBuf> =
            order.groups.iter().map(|group| group.directory.clone()).collect();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.shim.announce.before");
        announce(directory, cgroups.clone(), order.grace_ms)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.shim.announce.after");
        match Self::start_runner(directory, &order, signals, cgroups.clone()) {
            Ok(started) => Ok(started),
            Err(refusal) => {
                cgroup::remove(&cgroups, Duration::from_millis(100));
                record(directory, &ExitRecord::of_reason(refusal.message.clone()));
                Err(refusal)
            }
        }
    }

    fn start_runner(
        directory: &Directory,
        order: &Order,
        signals: Signals,
        cgroups: Vec<PathBuf>,
    ) -> Result<(Self, Vec<String>), Refusal> {
        // The other order than in `delete`, which first marks and then looks for us: one of the two sees the other. The mark
        // goes only after the runner's directory.
        if directory.deleting().exists() || !directory.runner().is_dir() {
            return Err(Refusal::of("it is being deleted"));
        }
        std::fs::write(directory.reserve(), [b'.'; 4096]).refused("cannot write")?;
        let (usable, warnings) = make_groups(order);
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .refused("cannot make a pipe")?;
        let output = Output::new(read, directory.clone(), order.log_max_size)
            .refused("cannot write its output")?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.shim.runner.before");
        let runner = spawn(order, &usable, write.into()).refused("cannot start the runner")?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.shim.runner.after");
        let shim = Self {
            signals,
            output,
            runner,
            cgroups,
            grace: Duration::from_millis(order.grace_ms),
            sandboxed: order.sandboxed,
            stopping: Stopping::No,
        };
        Ok((shim, warnings))
    }

    fn wait(mut self) -> ExitRecord {
        let status = loop {
            if let Some(status) = self.reap() {
                break status;
            }
            self.stop_if_asked();
            self.pause(self.until_kill());
        };
        let left = self.end_tree();
        self.output.pump();
        let oom = cgroup::oom_kills(&self.cgroups) > 0;
        cgroup::remove(&self.cgroups, Duration::from_secs(1));
        ExitRecord {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            oom,
            message: left.then(|| "processes are left that the kernel does not end".to_owned()),
            at: directory::now(),
        }
    }

    /// Takes all ended children; the runner's status if it is among them.
    fn reap(&self) -> Option<WaitStatus> {
        let mut found = None;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.runner {
                found = Some(status);
            }
        }
        found
    }

    fn stop_if_asked(&mut self) {
        let asked = self.signals.stop.swap(false, Ordering::SeqCst);
        self.stopping = match self.stopping {
            Stopping::No if asked => {
                self.terminate();
                Stopping::Asked { since: Instant::now() }
            }
            Stopping::Asked { since } if asked || since.elapsed() >= self.grace => {
                self.kill_tree();
                Stopping::Killed
            }
            other @ (Stopping::No | Stopping::Asked { .. } | Stopping::Killed) => other,
        };
    }

    fn until_kill(&self) -> Option<Duration> {
        match self.stopping {
            Stopping::No => None,
            Stopping::Asked { since } => Some(self.grace.saturating_sub(since.elapsed())),
            // What was killed but forked in that moment is killed again.
            Stopping::Killed => Some(Duration::from_millis(50)),
        }
    }

    /// Waits for output, a signal, or time.
    fn pause(&mut self, bound: Option<Duration>) {
        if self.stopping == Stopping::Killed {
            self.kill_tree();
        }
        let bound = bound.map(|bound| rustix::event::Timespec {
            tv_sec: i64::try_from(bound.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(bound.subsec_nanos()),
        });
        let mut fds = vec![PollFd::new(&self.signals.wake, PollFlags::IN)];
        if let Some(pipe) = &self.output.pipe() {
            fds.push(PollFd::from_borrowed_fd(*pipe, PollFlags::IN));
        }
        // Interrupted is as good as woken.
        let _ = poll(&mut fds, bound.as_ref());
        drop(fds);
        self.signals.drain();
        self.output.pump();
    }

    /// Asks the runner to end: its first process alone, as container engines do. GitHub's `run.sh` passes the signal on to the
    /// listener, which cancels the job in order; a signal to all would end the job's own processes under it. In a sandbox it
    /// is the sandboxed process (the sandbox's own would end at once and take it with them); one in which nothing runs yet
    /// may end at once.
    fn terminate(&self) {
        let inside = |parent: i32| proc::children(parent).into_iter();
        let mut asked = false;
        if self.sandboxed {
            let first = self.runner.as_raw_nonzero().get();
            for runner in inside(first).flat_map(inside).filter_map(proc::pid) {
                asked |= rustix::process::kill_process(runner, Signal::TERM).is_ok();
            }
        }
        if !asked {
            let _ = rustix::process::kill_process(self.runner, Signal::TERM);
        }
    }

    /// Kills the cgroups, the runner's group and all children. Children of children become ours and are next.
    fn kill_tree(&self) {
        cgroup::kill(&self.cgroups);
        // Not waited for yet, so the group is still the runner's.
        let _ = rustix::process::kill_process_group(self.runner, Signal::KILL);
        kill_children();
    }

    /// The runner ended: ends whatever it left; true if something stays.
    fn end_tree(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) => return false,
            }
            if begun.elapsed() > KILL_BOUND {
                return true;
            }
            cgroup::kill(&self.cgroups);
            kill_children();
            self.stopping = Stopping::No;
            self.pause(Some(Duration::from_millis(20)));
        }
    }
}

/// Kills all children. They are ours and not yet waited for, so their numbers cannot have been given to others.
fn kill_children() {
    for child in proc::children(rustix::process::getpid().as_raw_nonzero().get())
        .into_iter()
        .filter_map(proc::pid)
    {
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
}

/// Why the runner was not started.
struct Refusal {
    message: String,
    no_room: bool,
}

impl Refusal {
    fn of(message: &str) -> Self {
        Self { message: message.to_owned(), no_room: false }
    }
}

/// Says what could not be done.
trait Refused<T> {
    fn refused(self, what: &str) -> Result<T, Refusal>;
}

impl<T, E: Into<io::Error>> Refused<T> for Result<T, E> {
    fn refused(self, what: &str) -> Result<T, Refusal> {
        self.map_err(|error| {
            let error = error.into();
            let no_room = kind(&error, ErrorKind::Instance) == ErrorKind::NoRoom;
            Refusal { message: format!("{what}: {error}"), no_room }
        })
    }
}

fn read_order() -> Result<Order, Refusal> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).refused("cannot read the order")?;
    // A daemon that died in the middle of it: nothing was started.
    serde_json::from_str(&text).map_err(|_| Refusal::of("the order is not whole"))
}

/// Writes the pid file: from here on the instance is found again by whoever looks.
fn announce(directory: &Directory, cgroups: Vec<PathBuf>, grace_ms: u64) -> Result<(), Refusal> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let start_time = proc::stat(pid).ok_or_else(|| Refusal::of("cannot read /proc"))?.start_time;
    let boot_id = proc::boot_id().refused("cannot read the boot id")?;
    let record = PidRecord { pid, start_time, boot_id, cgroups, grace_ms };
    match directory::write_once(&directory.pid(), &record) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Refusal::of("it was launched before"))
        }
        other => other.refused("cannot write its pid file"),
    }
}

/// Makes the cgroups. One that cannot be made costs its limit, said in a warning, not the job.
fn make_groups(order: &Order) -> (Vec<PathBuf>, Vec<String>) {
    let mut usable = Vec::new();
    let mut warnings = Vec::new();
    for group in &order.groups {
        match group.make() {
            Ok(()) => usable.push(group.directory.clone()),
            Err(error) => warnings.push(format!("{}: {error}", group.directory.display())),
        }
    }
    (usable, warnings)
}

fn spawn(order: &Order, groups: &[PathBuf], output: std::fs::File) -> io::Result<Pid> {
    let mut command = program::this();
    command.arg(WORD).arg(EXEC);
    command.arg(order.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string()));
    command.arg(groups.len().to_string()).args(groups).args(&order.command);
    command
        .current_dir(&order.work)
        .env_clear()
        .envs(order.env.iter().map(|(name, value)| (name, value)));
    command.env("ACTIONS_RUNNER_INPUT_JITCONFIG", &order.jit);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = command.process_group(0).spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(proc::pid);
    pid.ok_or_else(|| io::Error::other("no process id"))
}

struct Signals {
    stop: Arc<AtomicBool>,
    wake: UnixStream,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        for signal in [SIGTERM, SIGINT, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { stop, wake })
    }

    fn drain(&self) {
        let mut buffer = [0; 64];
        while matches!((&self.wake).read(&mut buffer), Ok(count) if count > 0) {}
    }
}
