//! Three replicas as real processes, each of which can be killed and started again.

use super::{RsmBenchError, io_at};
use crate::binaries::Binaries;
use crate::ports;
use crate::process::Process;
use lock_rsm::rsm::{ReplicaStatus, replica_status};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long replicas may take to come up or to agree. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time one replica has to say where it stands.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two questions.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const REPLICAS: usize = 3;

/// What is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Registers: this program's own `register` command.
    Registers,
    /// The lock service.
    Locks,
}

/// The group. Dropping it kills every process; the directory stays.
pub struct Group {
    program: Program,
    binaries: Binaries,
    dir: PathBuf,
    addresses: Vec<String>,
    processes: Vec<Option<Process>>,
}

impl Group {
    /// Starts three fresh replicas with their state and logs below `dir`, and waits until they serve.
    pub async fn start(program: Program, binaries: &Binaries, dir: &Path) -> Result<Group, RsmBenchError> {
        std::fs::create_dir_all(dir).map_err(io_at(format!("mkdir {}", dir.display())))?;
        let mut group = Group {
            program,
            binaries: binaries.clone(),
            dir: dir.to_owned(),
            addresses: ports::free(REPLICAS).iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            processes: (0..REPLICAS).map(|_| None).collect(),
        };
        for i in 0..REPLICAS {
            group.start_replica(i)?;
        }
        group.whole().await?;
        Ok(group)
    }

    /// Where the replicas listen.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The processes that run.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().flatten().map(Process::pid).collect()
    }

    fn log(&self, i: usize) -> PathBuf {
        self.dir.join(format!("{i}.log"))
    }

    /// Starts replica `i` (again).
    pub fn start_replica(&mut self, i: usize) -> Result<(), RsmBenchError> {
        let mut command = match self.program {
            Program::Locks => Command::new(self.binaries.path("lock_server")?),
            Program::Registers => {
                let mut command = Command::new(self.binaries.path("yfs_bench")?);
                command.arg("register");
                command
            }
        };
        command.arg(&self.addresses[0]).arg(&self.addresses[i]);
        command.arg("--members").arg(self.addresses.join(","));
        command.arg("--data").arg(self.dir.join(i.to_string()));
        let started = Process::spawn(&format!("replica {i}"), command, &self.log(i));
        self.processes[i] = Some(started.map_err(io_at("starting a replica"))?);
        Ok(())
    }

    /// `kill -9` to replica `i`.
    pub fn kill(&mut self, i: usize) {
        self.processes[i] = None; // dropping kills
    }

    /// What each replica says of itself, where it answers.
    pub async fn statuses(&self) -> Vec<Option<ReplicaStatus>> {
        let questions = self.addresses.iter().map(|address| replica_status(address, ANSWER));
        futures_util::future::join_all(questions).await.into_iter().map(Result::ok).collect()
    }

    /// Waits until all replicas follow one master and have applied what it has; returns the master's index.
    pub async fn whole(&mut self) -> Result<usize, RsmBenchError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let statuses = self.statuses().await;
            if let Some(master) = led_and_level(&statuses) {
                return Ok(master);
            }
            self.check_running()?;
            if Instant::now() >= deadline {
                let what = format!("the replicas did not come together within {PATIENCE:?}: {statuses:?}");
                return Err(RsmBenchError::Replica { what, log: self.log(0) });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Fails when a replica has ended by itself.
    pub fn check_running(&mut self) -> Result<(), RsmBenchError> {
        for i in 0..REPLICAS {
            if let Some(status) = self.processes[i].as_mut().and_then(Process::ended) {
                let what = format!("replica {i} ended by itself ({status})");
                return Err(RsmBenchError::Replica { what, log: self.log(i) });
            }
        }
        Ok(())
    }

    /// Ends all replicas as an operator would, and removes their state.
    pub fn stop(mut self) -> Result<(), RsmBenchError> {
        for i in 0..REPLICAS {
            let Some(mut process) = self.processes[i].take() else { continue };
            let ended = process.terminate(PATIENCE);
            if !ended.is_some_and(|status| status.success()) {
                let what = format!("replica {i} did not end cleanly on SIGTERM ({ended:?})");
                return Err(RsmBenchError::Replica { what, log: self.log(i) });
            }
        }
        std::fs::remove_dir_all(&self.dir).map_err(io_at(format!("removing {}", self.dir.display())))
    }
}

/// The master, if all replicas answered, name the same one in the same view, and have applied the same entries.
fn led_and_level(statuses: &[Option<ReplicaStatus>]) -> Option<usize> {
    let all: Option<Vec<&ReplicaStatus>> = statuses.iter().map(Option::as_ref).collect();
    let all = all?;
    let (first, rest) = all.split_first()?;
    let level = rest.iter().all(|other| {
        other.view.number == first.view.number
            && other.view.master == first.view.master
            && other.applied == first.applied
    });
    let master = first.view.master.as_ref().filter(|_| level && first.applied > 0)?;
    all.iter().position(|status| status.address == *master)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lock_rsm::rsm::{View, Viewstamp};

    fn status(port: u16, view: u64, applied: u64) -> Option<ReplicaStatus> {
        let name = |port: u16| format!("127.0.0.1:{port}");
        Some(ReplicaStatus {
            address: name(port),
            pid: 1,
            role: "slave".into(),
            view: View { number: view, members: vec![name(1), name(2)], master: Some(name(2)) },
            viewstamp: Viewstamp::new(view, applied),
            applied,
            committed: applied,
            state_hash: None,
        })
    }

    #[test]
    fn a_group_is_whole_when_all_are_level_under_one_master() {
        assert_eq!(led_and_level(&[status(1, 3, 9), status(2, 3, 9)]), Some(1));
        assert_eq!(led_and_level(&[status(1, 3, 8), status(2, 3, 9)]), None);
        assert_eq!(led_and_level(&[status(1, 2, 9), status(2, 3, 9)]), None);
        assert_eq!(led_and_level(&[status(1, 3, 9), None]), None);
    }
}
