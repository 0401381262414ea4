//! What the files of an instance mean.

use std::fs::{File, TryLockError};
use std::io;

use fleetfoot_provisioner::EnvironmentState;

use crate::directory::{self, Directory, End, Job};

/// Where one kept command is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Life {
    /// Never begun.
    NotBegun,
    /// Its keeper lives.
    Alive,
    /// It ended so.
    Ended(End),
    /// Its keeper is gone and wrote nothing: it was killed, or the host restarted.
    Lost,
}

/// Looks at one kept command. The lock is the proof; a look takes it only shared and for a moment.
pub(crate) fn look(directory: &Directory, job: Job) -> io::Result<Life> {
    if is_alive(directory, job)? {
        return Ok(Life::Alive);
    }
    // In this order: a keeper writes its end, then lets go.
    if let Some(end) = directory::read::<End>(&directory.of(job, "exit"))? {
        return Ok(Life::Ended(end));
    }
    Ok(if directory.of(job, "pid").exists() { Life::Lost } else { Life::NotBegun })
}

/// Whether the keeper of `job` lives.
pub(crate) fn is_alive(directory: &Directory, job: Job) -> io::Result<bool> {
    let file = match File::open(directory.of(job, "lock")) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The machine and its runner together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lives {
    pub(crate) vm: Life,
    pub(crate) runner: Life,
}

impl Lives {
    pub(crate) fn look(directory: &Directory) -> io::Result<Self> {
        // The runner first: it ends the machine before it writes its own end.
        let runner = look(directory, Job::Runner)?;
        Ok(Self { vm: look(directory, Job::Vm)?, runner })
    }

    /// A keeper is gone without a word, or a machine lives on after its runner: nobody else will end it.
    pub(crate) fn must_be_settled(&self) -> bool {
        let runner_over = matches!(self.runner, Life::Ended(_) | Life::Lost);
        self.vm == Life::Lost || self.runner == Life::Lost || runner_over && self.vm == Life::Alive
    }

    /// In the words of the contract. What must be settled first counts as running: its end is not proven.
    pub(crate) fn state(self) -> EnvironmentState {
        if self.must_be_settled() {
            return EnvironmentState::Running;
        }
        match (self.runner, self.vm) {
            (Life::Ended(end), _) | (Life::NotBegun, Life::Ended(end)) => {
                EnvironmentState::Ended(end.into_exit())
            }
            (Life::Alive | Life::Lost, _) => EnvironmentState::Running,
            (Life::NotBegun, Life::NotBegun | Life::Alive | Life::Lost) => {
                EnvironmentState::Created
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_lives_has_its_meaning() {
        let end = || Life::Ended(End { code: Some(7), ..End::default() });
        let state = |runner, vm| Lives { runner, vm }.state();
        assert_eq!(state(Life::NotBegun, Life::NotBegun), EnvironmentState::Created);
        assert_eq!(state(Life::NotBegun, Life::Alive), EnvironmentState::Created);
        assert_eq!(state(Life::Alive, Life::Alive), EnvironmentState::Running);
        assert_eq!(state(Life::Alive, end()), EnvironmentState::Running);
        // The machine still runs: not over before it is stopped.
        assert_eq!(state(end(), Life::Alive), EnvironmentState::Running);
        for (runner, vm) in [(end(), end()), (Life::NotBegun, end())] {
            let EnvironmentState::Ended(exit) = state(runner, vm) else { panic!("not ended") };
            assert_eq!(exit.code, Some(7));
        }
        assert!(Lives { runner: Life::NotBegun, vm: Life::Lost }.must_be_settled());
        assert!(Lives { runner: Life::Lost, vm: end() }.must_be_settled());
        assert!(!Lives { runner: end(), vm: end() }.must_be_settled());
    }

    #[test]
    fn a_lock_is_the_proof_of_life() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory(root.path().to_owned());
        assert_eq!(look(&directory, Job::Vm).unwrap(), Life::NotBegun);
        let lock = File::create(directory.of(Job::Vm, "lock")).unwrap();
        lock.lock().unwrap();
        assert_eq!(look(&directory, Job::Vm).unwrap(), Life::Alive);
        std::fs::write(directory.of(Job::Vm, "pid"), "1").unwrap();
        lock.unlock().unwrap();
        assert_eq!(look(&directory, Job::Vm).unwrap(), Life::Lost);
        directory::write(&directory.of(Job::Vm, "exit"), &End::of_reason("x")).unwrap();
        assert!(matches!(look(&directory, Job::Vm).unwrap(), Life::Ended(_)));
    }
}
