//! `yfs up`: a whole cluster on this machine, and a mount.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{self, Cluster, ClusterLock, FileError};
use super::ports;
use super::process::{Daemon, ProcessId, ProgramMissing, find_program, spawn_daemon};
use super::status::{self, Addresses, EXTENTS_PART, is_mounted, lock_part};
use crate::client::daemon::{self, DaemonError};
use crate::fuse::mountpoint::{self, MountpointError};

/// How long the servers may take until they serve.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a process may take to end in order when a start failed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The most lock replicas on one machine.
const REPLICAS_MAX: usize = 9;

/// What to bring up.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// The cluster's directory.
    pub dir: PathBuf,
    /// Lock replicas; `None` for what the cluster has, or 3.
    pub replicas: Option<usize>,
    /// Lease in seconds, for the lock servers; `None` for what the cluster has, or theirs.
    pub lease: Option<String>,
}

/// Why a cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The mountpoint will not do.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
    /// The directory will not do.
    #[error(transparent)]
    File(#[from] FileError),
    /// A server's program is missing.
    #[error(transparent)]
    Program(#[from] ProgramMissing),
    /// The mount failed.
    #[error(transparent)]
    Mount(#[from] DaemonError),
    /// Another number of replicas than the cluster has.
    #[error("the cluster in {} has {has} lock replicas, not {wanted}: leave --replicas out", dir.display())]
    Replicas {
        /// The directory.
        dir: PathBuf,
        /// How many it has.
        has: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// The mount would hide the cluster's own directory.
    #[error("{} would be hidden by a mount at {}: choose another --data directory", dir.display(), mountpoint.display())]
    Hidden {
        /// The cluster's directory.
        dir: PathBuf,
        /// The mountpoint.
        mountpoint: PathBuf,
    },
    /// A number of replicas that makes no sense.
    #[error("--replicas {0}: choose 1 to {REPLICAS_MAX}, best an odd number")]
    ReplicaCount(usize),
    /// A server ended.
    #[error("{part} did not start: {why}")]
    Server {
        /// Which.
        part: String,
        /// Its last words.
        why: String,
    },
    /// The servers run but do not serve.
    #[error("the cluster does not serve after {START_PATIENCE:?}; see the logs in {}", logs.display())]
    NotServing {
        /// Where the logs are.
        logs: PathBuf,
    },
    /// The extent store is not the one this cluster began with.
    #[error("{} is not this cluster's store: it is store {found}, {} was made with store {expected}", store.display(), file::NAME)]
    OtherStore {
        /// The extent server's directory.
        store: PathBuf,
        /// The store found in it.
        found: String,
        /// The store the cluster was made with.
        expected: String,
    },
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What came up.
#[derive(Debug)]
pub struct Up {
    /// The cluster with its processes.
    pub cluster: Cluster,
    /// Whether it is a new cluster.
    pub fresh: bool,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
}

/// Starts what does not run yet of the cluster in the directory (a new one when there is none), waits until it serves,
/// and mounts. When something fails, everything this call started is stopped again.
///
/// # Errors
/// One line that says what is wrong.
pub fn up(options: &UpOptions, runtime: &tokio::runtime::Handle) -> Result<Up, UpError> {
    let mountpoint = mountpoint::check(&options.mountpoint)?;
    if is_below(&options.dir, &mountpoint) {
        return Err(UpError::Hidden { dir: options.dir.clone(), mountpoint });
    }
    let mut start = Start::prepare(options)?;
    start.servers()?;
    runtime.block_on(start.wait_until_serving())?;
    runtime.block_on(start.check_store())?;
    start.mount(&mountpoint)?;
    let fresh = start.fresh;
    Ok(Up { cluster: start.done(), fresh, mountpoint })
}

/// Whether `path`, which need not exist yet, lies in `dir` (which has no symbolic links in it).
fn is_below(path: &Path, dir: &Path) -> bool {
    let Ok(path) = std::path::absolute(path) else { return false };
    path.ancestors()
        .find_map(|ancestor| {
            let real = ancestor.canonicalize().ok()?;
            Some(real.join(path.strip_prefix(ancestor).ok()?))
        })
        .is_some_and(|real| real.starts_with(dir))
}

/// A start under way; what it started is stopped again when it is dropped unfinished.
struct Start {
    dir: PathBuf,
    cluster: Cluster,
    fresh: bool,
    finished: bool,
    started: Vec<(String, Daemon, ProcessId)>,
    _lock: ClusterLock,
}

impl Start {
    fn prepare(options: &UpOptions) -> Result<Start, UpError> {
        if let Some(n) = options.replicas.filter(|n| !(1..=REPLICAS_MAX).contains(n)) {
            return Err(UpError::ReplicaCount(n));
        }
        let dir = std::path::absolute(&options.dir).map_err(io_error("--data", &options.dir))?;
        let existing = match Cluster::load(&dir) {
            Ok(cluster) => Some(cluster),
            Err(FileError::Missing { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        if existing.is_none() {
            file::check_fresh(&dir)?;
        }
        std::fs::create_dir_all(dir.join("logs")).map_err(io_error("cannot create", &dir))?;
        let lock = ClusterLock::take(&dir)?;
        let fresh = existing.is_none();
        let mut cluster = match existing {
            Some(cluster) => cluster,
            None => new_cluster(options.replicas.unwrap_or(3)).map_err(io_error("cannot make", &dir))?,
        };
        if let Some(wanted) = options.replicas.filter(|n| *n != cluster.locks.len()) {
            return Err(UpError::Replicas { dir, has: cluster.locks.len(), wanted });
        }
        cluster.lease = options.lease.clone().or(cluster.lease);
        cluster.prune_mounts(is_mounted);
        cluster.save(&dir)?;
        Ok(Start { dir, cluster, fresh, finished: false, started: Vec::new(), _lock: lock })
    }

    /// Starts the extent server and the lock servers that do not run yet.
    fn servers(&mut self) -> Result<(), UpError> {
        let Cluster { locks, extents, lease, .. } = self.cluster.clone();
        let data = self.dir.join(EXTENTS_PART);
        self.server(
            EXTENTS_PART.into(),
            "extent_server",
            vec![extents.clone().into(), "--data".into(), data.into()],
        )?;
        for (i, me) in locks.iter().enumerate() {
            let part = lock_part(i);
            let mut args: Vec<OsString> = vec![
                locks[0].clone().into(),
                me.into(),
                "--data".into(),
                self.dir.join(&part).into(),
                "--members".into(),
                locks.join(",").into(),
                "--fence".into(),
                extents.clone().into(),
            ];
            if let Some(lease) = &lease {
                args.extend(["--lease".into(), lease.into()]);
            }
            self.server(part, "lock_server", args)?;
        }
        Ok(())
    }

    fn server(&mut self, part: String, program: &str, args: Vec<OsString>) -> Result<(), UpError> {
        if self.cluster.running(&part).is_some() {
            return Ok(());
        }
        let log = self.dir.join("logs").join(format!("{part}.log"));
        let program = find_program(program)?;
        let mut daemon = spawn_daemon(&program, args, &log).map_err(io_error("cannot start", &program))?;
        let Some(id) = daemon.id() else {
            let why = daemon.obituary().unwrap_or_else(|| format!("see {}", log.display()));
            return Err(UpError::Server { part, why });
        };
        self.cluster.pids.insert(part.clone(), id.clone());
        self.started.push((part, daemon, id));
        self.cluster.save(&self.dir)?; // at once: whatever happens now, `yfs down` knows the process
        Ok(())
    }

    async fn wait_until_serving(&mut self) -> Result<(), UpError> {
        let addresses =
            Addresses { locks: self.cluster.locks.clone(), extents: self.cluster.extents.clone() };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            for (part, daemon, _) in &mut self.started {
                if let Some(why) = daemon.obituary() {
                    return Err(UpError::Server { part: part.clone(), why });
                }
            }
            if status::of_addresses(&addresses).await.serves() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(UpError::NotServing { logs: self.dir.join("logs") });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The store must be the one the cluster was made with: with another one, the locks would guard the wrong files.
    async fn check_store(&mut self) -> Result<(), UpError> {
        let Some(status) = status::ask_extents(&self.cluster.extents).await else { return Ok(()) };
        match &self.cluster.store {
            Some(expected) if *expected != status.store => Err(UpError::OtherStore {
                store: self.dir.join(EXTENTS_PART),
                found: status.store,
                expected: expected.clone(),
            }),
            Some(_) => Ok(()),
            None => {
                self.cluster.store = Some(status.store);
                Ok(self.cluster.save(&self.dir)?)
            }
        }
    }

    fn mount(&mut self, mountpoint: &Path) -> Result<(), UpError> {
        let process = spawn_mount(&self.dir, mountpoint, &[])?;
        self.cluster.add_mount(mountpoint, process);
        Ok(self.cluster.save(&self.dir)?)
    }

    fn done(mut self) -> Cluster {
        self.finished = true;
        self.cluster.clone()
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // In the reverse order: the lock servers fence at the extent server.
        for (part, _, id) in self.started.drain(..).rev() {
            id.stop(STOP_PATIENCE);
            self.cluster.pids.remove(&part);
        }
        let cleaned = if self.fresh { self.remove_fresh() } else { self.cluster.save(&self.dir) };
        if let Err(e) = cleaned {
            tracing::warn!("not all was cleaned up: {e}");
        }
    }
}

impl Start {
    /// Removes what a new cluster has put into the directory, but the logs, which say what went wrong.
    fn remove_fresh(&self) -> Result<(), FileError> {
        let mut parts: Vec<String> = (0..self.cluster.locks.len()).map(lock_part).collect();
        parts.push(EXTENTS_PART.into());
        for part in parts {
            remove(std::fs::remove_dir_all(self.dir.join(&part)), &self.dir.join(&part))?;
        }
        remove(std::fs::remove_file(self.dir.join(file::NAME)), &self.dir.join(file::NAME))
    }
}

fn remove(result: std::io::Result<()>, path: &Path) -> Result<(), FileError> {
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::Io { path: path.to_path_buf(), source: e })
        }
        _ => Ok(()),
    }
}

fn new_cluster(replicas: usize) -> std::io::Result<Cluster> {
    let mut addresses: Vec<String> =
        ports::pick_pairs(replicas + 1)?.into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let extents = addresses.pop().expect("one more than the replicas was picked");
    Cluster::new(addresses, extents)
}

/// Starts a mount of the cluster in `dir` in the background, with its log beside the servers'.
///
/// # Errors
/// Why it does not serve.
pub fn spawn_mount(dir: &Path, mountpoint: &Path, more: &[OsString]) -> Result<ProcessId, DaemonError> {
    let log = dir.join("logs").join(mount_log_name(mountpoint));
    let mut args: Vec<OsString> = vec![
        "mount".into(),
        mountpoint.into(),
        "--data".into(),
        dir.into(),
        "--foreground".into(),
        "--report".into(),
    ];
    args.extend_from_slice(more);
    daemon::start(&args, Some(&log))
}

/// `mount-mnt-yfs.log` for `/mnt/yfs`.
pub fn mount_log_name(mountpoint: &Path) -> String {
    let path = mountpoint.to_string_lossy();
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().rev().take(100).collect();
    format!("mount-{}.log", name.chars().rev().collect::<String>())
}

fn io_error(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> UpError {
    let what = format!("{what} {}", path.display());
    move |source| UpError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dir: &Path, replicas: Option<usize>) -> UpOptions {
        UpOptions { mountpoint: "/unused".into(), dir: dir.into(), replicas, lease: None }
    }

    #[test]
    fn a_new_cluster_has_distinct_addresses() {
        let cluster = new_cluster(3).unwrap();
        let mut all = cluster.locks.clone();
        all.push(cluster.extents.clone());
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4, "{cluster:?}");
    }

    #[test]
    fn an_unfinished_start_leaves_no_cluster_behind() {
        let dir = tempfile::tempdir().unwrap();
        let start = Start::prepare(&options(dir.path(), None)).unwrap();
        assert!(dir.path().join(file::NAME).exists());
        assert!(matches!(
            Start::prepare(&options(dir.path(), None)),
            Err(UpError::File(FileError::Busy { .. }))
        ));
        drop(start);
        assert!(!dir.path().join(file::NAME).exists());
        drop(Start::prepare(&options(dir.path(), None)).unwrap()); // and another one may follow
    }

    #[test]
    fn an_existing_cluster_keeps_its_addresses_and_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let first = Start::prepare(&options(dir.path(), Some(5))).unwrap().done();
        let start = Start::prepare(&options(dir.path(), None)).unwrap();
        assert!(!start.fresh);
        assert_eq!(start.cluster.locks, first.locks);
        drop(start);
        assert!(dir.path().join(file::NAME).exists(), "only a fresh cluster is removed again");
        let error = Start::prepare(&options(dir.path(), Some(3))).err().unwrap().to_string();
        assert!(error.contains("has 5 lock replicas, not 3"), "{error}");
    }

    #[test]
    fn a_foreign_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let refused = Start::prepare(&options(dir.path(), None));
        assert!(matches!(refused, Err(UpError::File(FileError::Foreign { .. }))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn silly_numbers_of_replicas_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for n in [0, 10] {
            assert!(matches!(Start::prepare(&options(dir.path(), Some(n))), Err(UpError::ReplicaCount(_))));
        }
    }

    #[test]
    fn the_cluster_must_not_hide_itself() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert!(is_below(&real, &real));
        assert!(is_below(&real.join("not/yet/there"), &real));
        assert!(!is_below(&real.with_file_name("elsewhere"), &real));
    }

    #[test]
    fn logs_of_mounts_have_plain_names() {
        assert_eq!(mount_log_name(Path::new("/mnt/yfs")), "mount-mnt-yfs.log");
        assert!(mount_log_name(Path::new(&"/x".repeat(500))).len() < 120);
    }
}
