//! A whole cluster of real processes in a scratch directory, each of which can be killed and started again.

mod fsck;
mod mount;
mod status;

pub use mount::{Mount, is_mounted};
pub use status::{Replica as ReplicaStatus, Status, View, Viewstamp};

use crate::binaries::{Binaries, NotBuilt};
use crate::ports;
use crate::process::{Process, tail, until};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a part may take to come up, and replicas to agree. Generous: the machine may be busy on purpose.
const PATIENCE: Duration = Duration::from_secs(40);

/// What is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lock replicas.
    pub replicas: usize,
    /// Mounts.
    pub mounts: usize,
    /// Percent of loss at the lock servers (`RPC_LOSSY`).
    pub lossy: Option<u32>,
    /// More options for `lock_server`.
    pub lock_args: Vec<String>,
    /// More options for `yfs mount`.
    pub mount_args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options { replicas: 3, mounts: 2, lossy: None, lock_args: Vec::new(), mount_args: Vec::new() }
    }
}

/// Why the cluster does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A program is missing.
    #[error(transparent)]
    NotBuilt(#[from] NotBuilt),
    /// A part did not come up, or went away.
    #[error("{part} {what}; the end of {}:\n{}", log.display(), tail(log))]
    Part {
        /// Which.
        part: String,
        /// What it did.
        what: String,
        /// Its log.
        log: PathBuf,
    },
    /// Files could not be made.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// `yfs status` did not answer as it should.
    #[error("yfs status: {0}")]
    Status(String),
    /// The store does not agree with itself, or could not be checked.
    #[error("yfs fsck: {0}")]
    Fsck(String),
    /// The replicas are not as they should be.
    #[error("{0}")]
    Replicas(String),
}

/// A [`ClusterError`] from an I/O error.
pub(crate) fn io_at<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ClusterError + 'a {
    move |source| ClusterError::Io { doing, path: path.to_owned(), source }
}

/// The cluster. Dropping it kills every process and unmounts; the directory stays.
pub struct Cluster {
    dir: PathBuf,
    binaries: Binaries,
    options: Options,
    locks: Vec<String>,
    extents_address: String,
    replicas: Vec<Option<Process>>,
    extents: Option<Process>,
    mounts: Vec<Mount>,
}

impl Cluster {
    /// Starts everything in `dir`, which is made when missing, and waits until it serves.
    pub fn start(binaries: &Binaries, dir: &Path, options: &Options) -> Result<Cluster, ClusterError> {
        std::fs::create_dir_all(dir.join("logs")).map_err(io_at("mkdir", dir))?;
        let address = |port: u16| format!("127.0.0.1:{port}");
        let ports = ports::free(options.replicas + 1);
        let mut cluster = Cluster {
            dir: dir.canonicalize().map_err(io_at("find", dir))?,
            binaries: binaries.clone(),
            options: options.clone(),
            locks: ports[1..].iter().copied().map(address).collect(),
            extents_address: address(ports[0]),
            replicas: (0..options.replicas).map(|_| None).collect(),
            extents: None,
            mounts: Vec::new(),
        };
        cluster.start_extents()?;
        for i in 0..options.replicas {
            cluster.start_replica(i)?;
        }
        cluster.wait_for_master()?;
        for i in 0..options.mounts {
            cluster.add_mount(i)?;
        }
        Ok(cluster)
    }

    /// The directory of its state and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Addresses of the lock replicas, in order.
    pub fn locks(&self) -> &[String] {
        &self.locks
    }

    /// Address of the extent server.
    pub fn extents_address(&self) -> &str {
        &self.extents_address
    }

    /// The programs it runs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Where the file system is mounted; in order.
    pub fn mountpoint(&self, i: usize) -> &Path {
        self.mounts[i].path()
    }

    /// The log of a part.
    pub fn log(&self, part: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{part}.log"))
    }

    fn spawn(&self, part: &str, command: Command) -> Result<Process, ClusterError> {
        let program = PathBuf::from(command.get_program());
        Process::spawn(part, command, &self.log(part)).map_err(io_at("run", &program))
    }

    /// Starts the extent server (again).
    pub fn start_extents(&mut self) -> Result<(), ClusterError> {
        let mut command = Command::new(self.binaries.path("extent_server")?);
        command.arg(&self.extents_address).arg("--data").arg(self.dir.join("extents"));
        self.extents = Some(self.spawn("extent_server", command)?);
        Ok(())
    }

    /// The process of the extent server.
    pub fn extents(&mut self) -> Option<&mut Process> {
        self.extents.as_mut()
    }

    /// Kills the extent server (-9).
    pub fn kill_extents(&mut self) {
        self.extents = None; // dropping kills
    }

    /// The part's name of replica `i`.
    pub fn replica_part(i: usize) -> String {
        format!("lock-{}", i + 1)
    }

    /// Starts replica `i` (again).
    pub fn start_replica(&mut self, i: usize) -> Result<(), ClusterError> {
        let part = Cluster::replica_part(i);
        let mut command = Command::new(self.binaries.path("lock_server")?);
        command.arg(&self.locks[0]).arg(&self.locks[i]).arg("--data").arg(self.dir.join(&part));
        command.arg("--members").arg(self.locks.join(",")).arg("--fence").arg(&self.extents_address);
        command.args(&self.options.lock_args);
        if let Some(percent) = self.options.lossy {
            command.env("RPC_LOSSY", percent.to_string());
        }
        self.replicas[i] = Some(self.spawn(&part, command)?);
        Ok(())
    }

    /// Kills replica `i` (-9); returns its process id.
    pub fn kill_replica(&mut self, i: usize) -> Option<u32> {
        self.replicas[i].take().map(|process| process.pid()) // dropping kills
    }

    /// Which replicas are not running.
    pub fn dead_replicas(&self) -> Vec<usize> {
        (0..self.replicas.len()).filter(|i| self.replicas[*i].is_none()).collect()
    }

    /// The process of replica `i`.
    pub fn replica(&mut self, i: usize) -> Option<&mut Process> {
        self.replicas[i].as_mut()
    }

    /// Mounts the file system at `mnt<i+1>` in the cluster's directory.
    pub fn add_mount(&mut self, i: usize) -> Result<(), ClusterError> {
        let mount = self.mount_at(i)?;
        self.mounts.push(mount);
        Ok(())
    }

    /// The process that serves mount `i`.
    pub fn mount(&mut self, i: usize) -> &mut Process {
        self.mounts[i].process()
    }

    /// Takes mount `i` away, whatever state it is in, and mounts at the same place again.
    pub fn replace_mount(&mut self, i: usize) -> Result<(), ClusterError> {
        drop(self.mounts.remove(i));
        let mount = self.mount_at(i)?;
        self.mounts.insert(i, mount);
        Ok(())
    }

    fn mount_at(&self, i: usize) -> Result<Mount, ClusterError> {
        let name = format!("mnt{}", i + 1);
        let path = self.dir.join(&name);
        std::fs::create_dir_all(&path).map_err(io_at("mkdir", &path))?;
        let yfs = self.binaries.path("yfs")?;
        let mut command = Command::new(&yfs);
        command.arg("mount").arg(&path).arg("--foreground");
        command.arg("--locks").arg(self.locks.join(",")).arg("--extents").arg(&self.extents_address);
        command.args(&self.options.mount_args);
        let process = self.spawn(&name, command)?;
        Mount::wait(process, &path, yfs)
    }

    /// The process behind mount `i`.
    pub fn mount_process(&mut self, i: usize) -> &mut Process {
        self.mounts[i].process()
    }

    /// Unmounts everything, in order.
    pub fn unmount_all(&mut self) -> Result<(), ClusterError> {
        self.mounts.drain(..).try_for_each(Mount::unmount)
    }

    /// Fails when a part that should run has ended by itself.
    pub fn check_running(&mut self) -> Result<(), ClusterError> {
        let servers = self.replicas.iter_mut().chain([&mut self.extents]).flatten();
        for process in servers.chain(self.mounts.iter_mut().map(Mount::process)) {
            if let Some(status) = process.ended() {
                let (part, log) = (process.name().to_owned(), process.log().to_owned());
                return Err(ClusterError::Part { part, what: format!("ended by itself ({status})"), log });
            }
        }
        Ok(())
    }

    /// What `yfs status --json` says.
    pub fn status(&self) -> Result<Status, ClusterError> {
        status::ask(&self.binaries.path("yfs")?, &self.locks, &self.extents_address)
    }

    /// The master's index, when there is one now.
    pub fn master(&self) -> Option<usize> {
        let master = self.status().ok()?.view?.master?;
        self.locks.iter().position(|address| *address == master)
    }

    /// Waits until some replica leads.
    pub fn wait_for_master(&mut self) -> Result<usize, ClusterError> {
        if let Some(master) = until(PATIENCE, || self.master()) {
            return Ok(master);
        }
        self.check_running()?;
        let last = self.status().map(|s| format!("{s:?}")).unwrap_or_else(|e| e.to_string());
        Err(ClusterError::Replicas(format!("no master for {} s; status: {last}", PATIENCE.as_secs())))
    }

    /// Waits until all replicas run, have applied the same viewstamp and have the same state; returns that.
    pub fn wait_for_agreement(&mut self) -> Result<status::Agreement, ClusterError> {
        let n = self.replicas.len();
        let agreed = until(PATIENCE, || self.status().ok().and_then(|status| status.agreement(n)));
        match agreed {
            Some(agreed) if agreed.states_equal => Ok(agreed),
            Some(_) => {
                let last = self.status().map(|s| format!("{:?}", s.replicas)).unwrap_or_default();
                Err(ClusterError::Replicas(format!(
                    "replicas at the same viewstamp have different states: {last}"
                )))
            }
            None => {
                self.check_running()?;
                let last =
                    self.status().map(|s| format!("{:?}", s.replicas)).unwrap_or_else(|e| e.to_string());
                let secs = PATIENCE.as_secs();
                Err(ClusterError::Replicas(format!(
                    "the replicas did not come together within {secs} s: {last}"
                )))
            }
        }
    }

    /// Unmounts and ends everything in order, as an operator would; fails when a part does not end cleanly.
    pub fn stop(mut self) -> Result<(), ClusterError> {
        self.unmount_all()?;
        let extents = self.extents.take();
        for mut process in self.replicas.iter_mut().filter_map(Option::take).chain(extents) {
            let (part, log) = (process.name().to_owned(), process.log().to_owned());
            match process.terminate(PATIENCE) {
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
