//! The replicas of one service, each a process.

use crate::binaries::Binaries;
use crate::cluster::{ClusterError, io_at};
use crate::ports;
use crate::process::{Process, tail};
use lock_rsm::rsm::replica_status;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How many replicas.
const REPLICAS: usize = 3;
/// How long they may take to come up, to agree on a master, and to end. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `lock_server`.
    Locks {
        /// How long sessions live in silence.
        lease: Duration,
    },
    /// `yfs_linear server`.
    Registers {
        /// Whether it answers reads from its own state too.
        local_reads: bool,
    },
}

/// Three replicas in a directory. Dropping them kills them.
pub struct Servers {
    dir: PathBuf,
    program: Program,
    executable: PathBuf,
    addresses: Vec<String>,
    processes: Vec<Option<Process>>,
}

impl Servers {
    /// Starts them and waits for a master.
    pub async fn start(binaries: &Binaries, dir: &Path, program: Program) -> Result<Servers, ClusterError> {
        let name = match program {
            Program::Locks { .. } => "lock_server",
            Program::Registers { .. } => "yfs_linear",
        };
        let mut servers = Servers {
            dir: dir.to_owned(),
            program,
            executable: binaries.path(name)?,
            addresses: ports::free(REPLICAS).into_iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            processes: (0..REPLICAS).map(|_| None).collect(),
        };
        for i in 0..REPLICAS {
            servers.restart(i)?;
        }
        servers.wait_for_master().await?;
        Ok(servers)
    }

    /// Their addresses.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    fn log(&self, i: usize) -> PathBuf {
        self.dir.join(format!("replica-{}.log", i + 1))
    }

    /// Starts a replica (again).
    pub fn restart(&mut self, i: usize) -> Result<(), ClusterError> {
        let mut command = Command::new(&self.executable);
        if let Program::Registers { local_reads } = self.program {
            command.arg("server").args(local_reads.then_some("--local-reads"));
        }
        command.arg(&self.addresses[0]).arg(&self.addresses[i]);
        command.arg("--members").arg(self.addresses.join(","));
        command.arg("--data").arg(self.dir.join(format!("replica-{}", i + 1)));
        if let Program::Locks { lease } = self.program {
            command.arg("--lease").arg(lease.as_secs_f64().to_string());
        }
        let name = format!("replica {}", i + 1);
        let process = Process::spawn(&name, command, &self.log(i)).map_err(io_at("run", &self.executable))?;
        self.processes[i] = Some(process);
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self, i: usize) {
        self.processes[i] = None; // dropping kills
    }

    /// Sends a signal to a replica that runs.
    pub fn signal(&self, i: usize, signal: i32) {
        if let Some(process) = &self.processes[i] {
            process.signal(signal);
        }
    }

    /// The replica that says that it is the master, if one does.
    pub async fn master(&self) -> Option<usize> {
        let asked = self.addresses.iter().map(|address| replica_status(address, Duration::from_millis(500)));
        let answers = futures_util::future::join_all(asked).await;
        let masters = answers.into_iter().enumerate().filter_map(|(i, answer)| {
            let status = answer.ok()?;
            (status.role == "master").then_some((status.view.number, i))
        });
        masters.max().map(|(_, i)| i)
    }

    /// Waits for a master.
    pub async fn wait_for_master(&mut self) -> Result<usize, ClusterError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.check_running()?;
            if let Some(master) = self.master().await {
                return Ok(master);
            }
            if Instant::now() > deadline {
                return Err(ClusterError::Replicas(format!(
                    "no master for {} s; the log of the first replica ends with:\n{}",
                    PATIENCE.as_secs(),
                    tail(&self.log(0))
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fails when a replica has ended by itself.
    fn check_running(&mut self) -> Result<(), ClusterError> {
        for process in self.processes.iter_mut().flatten() {
            if let Some(status) = process.ended() {
                let (part, log) = (process.name().to_owned(), process.log().to_owned());
                return Err(ClusterError::Part { part, what: format!("ended by itself ({status})"), log });
            }
        }
        Ok(())
    }

    /// Ends them as an operator would.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        self.wait_for_master().await?;
        let processes: Vec<Process> = self.processes.iter_mut().filter_map(Option::take).collect();
        for mut process in processes {
            let (part, log) = (process.name().to_owned(), process.log().to_owned());
            let ended = tokio::task::spawn_blocking(move || process.terminate(PATIENCE)).await;
            match ended.expect("waiting does not panic") {
                Some(status) if status.success() => {}
                Some(status) => {
                    return Err(ClusterError::Part { part, what: format!("ended with {status}"), log });
                }
                None => return Err(ClusterError::Part { part, what: "does not end on SIGTERM".into(), log }),
            }
        }
        Ok(())
    }
}
