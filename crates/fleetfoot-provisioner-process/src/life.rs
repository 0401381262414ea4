//! What the files of an instance and `/proc` say together: where it is in its life.
//!
//! ```text
//!  nothing launched ──pid file──▶ alive ──exit.json──▶ ended
//!                                   └─ no such process, no exit.json ─▶ shim lost (tree must be killed)
//!  another boot id: ended by definition
//! ```

use std::io;

use fleetfoot_provisioner::EnvironmentState;
use fleetfoot_provisioner::Exit;

use crate::directory::{self, Directory, ExitRecord, Meta, PidRecord, Record};
use crate::proc;

/// Where an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nothing was launched.
    NotLaunched,
    /// Its shim lives.
    Alive(PidRecord),
    /// It ended and left its exit.
    Ended(ExitRecord),
    /// Its shim ended without a word: something of the tree may still live.
    ShimLost(PidRecord),
    /// It was of another boot of this host.
    Rebooted,
}

impl Life {
    /// The state in the words of the contract. A lost shim counts as ended once its tree was killed.
    pub(crate) fn state(self) -> EnvironmentState {
        let reason = |message: &str| {
            EnvironmentState::Ended(Exit { message: Some(message.to_owned()), ..Exit::default() })
        };
        match self {
            Self::NotLaunched => EnvironmentState::Created,
            Self::Alive(_) => EnvironmentState::Running,
            Self::Ended(exit) => EnvironmentState::Ended(exit.into_exit()),
            Self::ShimLost(_) => reason(SHIM_LOST),
            Self::Rebooted => reason("host rebooted"),
        }
    }
}

/// What is said of an instance whose shim was killed.
pub(crate) const SHIM_LOST: &str = "its parent process was killed";

/// Whether the recorded process lives: same boot, same start time, not a zombie.
pub(crate) fn alive(record: &PidRecord, boot_id: &str) -> bool {
    record.boot_id == boot_id
        && proc::stat(record.pid)
            .is_some_and(|stat| stat.start_time == record.start_time && !stat.ended())
}

/// Looks where an instance is.
pub(crate) fn look(directory: &Directory, boot_id: &str) -> io::Result<Life> {
    if let Some(exit) = read_exit(directory)? {
        return Ok(Life::Ended(exit));
    }
    let record = directory::read::<PidRecord>(&directory.pid())?.ok();
    let Some(record) = record else {
        let meta = directory::read::<Meta>(&directory.meta())?.ok();
        let rebooted = meta.is_some_and(|meta| meta.boot_id != boot_id);
        return Ok(if rebooted { Life::Rebooted } else { Life::NotLaunched });
    };
    if record.boot_id != boot_id {
        return Ok(Life::Rebooted);
    }
    if alive(&record, boot_id) {
        return Ok(Life::Alive(record));
    }
    // It may have ended between the two looks, and then its exit is there.
    Ok(read_exit(directory)?.map_or(Life::ShimLost(record), Life::Ended))
}

fn read_exit(directory: &Directory) -> io::Result<Option<ExitRecord>> {
    Ok(match directory::read::<ExitRecord>(&directory.exit())? {
        Record::Missing => None,
        Record::Unreadable => Some(ExitRecord::of_reason("its exit status cannot be read")),
        Record::Read(exit) => Some(exit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn record(pid: u32, boot_id: &str) -> PidRecord {
        let pid = i32::try_from(pid).unwrap();
        let start_time = proc::stat(pid).map_or(1, |stat| stat.start_time);
        PidRecord { pid, start_time, boot_id: boot_id.to_owned(), cgroups: Vec::new(), grace_ms: 0 }
    }

    fn meta(boot_id: &str) -> Meta {
        let text = |text: &str| text.to_owned();
        Meta {
            version: 1,
            installation: text("i"),
            instance: text("a"),
            pool: text("p"),
            boot_id: text(boot_id),
            uid: None,
        }
    }

    #[test]
    fn every_combination_of_files_has_its_meaning() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory(root.path().to_owned());
        directory::write(&directory.meta(), &meta("now")).unwrap();
        assert_eq!(look(&directory, "now").unwrap(), Life::NotLaunched);
        assert_eq!(look(&directory, "later").unwrap(), Life::Rebooted);

        let me = record(std::process::id(), "now");
        directory::write(&directory.pid(), &me).unwrap();
        assert_eq!(look(&directory, "now").unwrap(), Life::Alive(me.clone()));
        assert_eq!(look(&directory, "later").unwrap(), Life::Rebooted);

        let reused = PidRecord { start_time: me.start_time + 1, ..me };
        directory::write(&directory.pid(), &reused).unwrap();
        assert_eq!(look(&directory, "now").unwrap(), Life::ShimLost(reused));

        directory::write(&directory.exit(), &ExitRecord { code: Some(3), ..ExitRecord::default() })
            .unwrap();
        let EnvironmentState::Ended(exit) = look(&directory, "now").unwrap().state() else {
            panic!("not ended")
        };
        assert_eq!(exit.code, Some(3));
        std::fs::write(directory.exit(), "").unwrap();
        assert!(matches!(look(&directory, "now").unwrap(), Life::Ended(_)));
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = crate::program::command("true").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let record = record(child.id(), "now");
        // Waits until it has ended, and leaves it a zombie.
        let id = rustix::process::WaitId::Pid(proc::pid(pid).unwrap());
        let options =
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(id, options).unwrap();
        assert!(proc::stat(pid).unwrap().ended());
        assert!(!alive(&record, "now"));
        child.wait().unwrap();
    }
}
