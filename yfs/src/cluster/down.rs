//! `yfs umount` and `yfs down`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{Cluster, ClusterLock, FileError, mount_part};
use super::process::ProcessId;
use super::status::{EXTENTS_PART, is_mounted, lock_part};
use crate::client::control::{self, ControlError, Unmounted};
use crate::fuse::mountinfo::MountEntry;
use crate::fuse::mountpoint::{self, MountpointError, Unmount};

/// How long a mount may take to flush.
const FLUSH_PATIENCE: Duration = Duration::from_secs(90);
/// How long a process may take to end before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Why something is still there.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// Not a mount of ours.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
    /// The cluster's directory will not do.
    #[error(transparent)]
    File(#[from] FileError),
    /// The mount's process will not, or cannot.
    #[error("{}: {source} (yfs umount --force gives up what is not flushed)", path.display())]
    Process {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: ControlError,
    },
    /// The kernel will not.
    #[error("cannot unmount {}: {source}", path.display())]
    Kernel {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A process survives.
    #[error("{part} (process {pid}) does not end")]
    Survivor {
        /// Which part of the cluster.
        part: String,
        /// Its pid.
        pid: u32,
    },
}

/// What became of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything flushed, unmounted.
    Clean,
    /// Everything flushed and out of the directory tree; the mount ends when its last user lets go.
    Busy,
    /// Its process was dead; what it had not flushed is lost.
    WasDead,
    /// Aborted; what was not flushed is lost.
    Forced,
}

/// Unmounts. Without `force` the mount's process flushes everything first, and the mount stays when that fails.
/// With it the mount is gone in bounded time whatever its process does.
///
/// # Errors
/// When it is still mounted.
pub fn unmount(path: &Path, force: bool) -> Result<Outcome, DownError> {
    let entry = mountpoint::find(path)?;
    if force {
        return take_away(&entry, Unmount::Force).map(|()| Outcome::Forced);
    }
    match control::request_unmount(&entry, FLUSH_PATIENCE) {
        Ok(Unmounted::Clean) => Ok(Outcome::Clean),
        Ok(Unmounted::Busy) => Ok(Outcome::Busy),
        Err(ControlError::Dead) => take_away(&entry, Unmount::Lazy).map(|()| Outcome::WasDead),
        Err(source) => Err(DownError::Process { path: entry.mountpoint, source }),
    }
}

fn take_away(entry: &MountEntry, how: Unmount) -> Result<(), DownError> {
    match mountpoint::unmount(&entry.mountpoint, how) {
        Ok(()) => Ok(()),
        Err(_) if !is_mounted(&entry.mountpoint) => Ok(()), // it ended meanwhile by itself
        Err(source) => Err(DownError::Kernel { path: entry.mountpoint.clone(), source }),
    }
}

/// Unmounts the cluster's mounts and stops its processes, the lock servers last. What is down already is fine.
/// Returns what was stopped.
///
/// # Errors
/// When something is still there; everything else is down then.
pub fn down(dir: &Path) -> Result<Vec<String>, DownError> {
    Cluster::load(dir)?;
    let _lock = ClusterLock::take(dir)?;
    let mut cluster = Cluster::load(dir)?;
    let mut stopped = Vec::new();
    let mut first_error = None;
    for path in cluster.mounts.clone() {
        match stop_mount(&cluster, &path) {
            Ok(was_there) => {
                cluster.remove_mount(&path);
                if was_there {
                    stopped.push(format!("unmounted {}", path.display()));
                }
            }
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    if first_error.is_none() {
        let parts = (0..cluster.locks.len()).map(lock_part);
        for part in std::iter::once(EXTENTS_PART.to_owned()).chain(parts) {
            match stop_part(&cluster, &part) {
                Ok(true) => stopped.push(format!("stopped {part}")),
                Ok(false) => {}
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
        cluster.pids.retain(|_, process| process.is_alive());
    }
    cluster.save(dir)?;
    match first_error {
        None => Ok(stopped),
        Some(e) => Err(e),
    }
}

/// Whether the mount was there; gone in any case when this is `Ok`.
fn stop_mount(cluster: &Cluster, path: &Path) -> Result<bool, DownError> {
    let mounted = is_mounted(path);
    if mounted {
        unmount(path, false)?;
    }
    let was_running = stop_process(&mount_part(path), cluster.running(&mount_part(path)))?;
    Ok(mounted || was_running)
}

fn stop_part(cluster: &Cluster, part: &str) -> Result<bool, DownError> {
    stop_process(part, cluster.running(part))
}

fn stop_process(part: &str, process: Option<&ProcessId>) -> Result<bool, DownError> {
    match process {
        None => Ok(false),
        Some(process) if process.stop(STOP_PATIENCE) => Ok(true),
        Some(process) => Err(DownError::Survivor { part: part.to_owned(), pid: process.pid }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::spawn_daemon;
    use super::*;

    #[test]
    fn down_stops_what_runs_and_nothing_else_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let sleeper = || spawn_daemon(Path::new("/bin/sleep"), ["600"], &log).unwrap();
        let (extents, lock, stranger) = (sleeper(), sleeper(), sleeper());
        let mut cluster =
            Cluster::new(vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()], "127.0.0.1:3".into()).unwrap();
        cluster.pids.insert(EXTENTS_PART.into(), extents.id().unwrap());
        cluster.pids.insert(lock_part(0), lock.id().unwrap());
        // A pid that is somebody else's by now.
        let mut reused = stranger.id().unwrap();
        reused.start -= 1;
        cluster.pids.insert(lock_part(1), reused);
        cluster.save(dir.path()).unwrap();

        assert_eq!(down(dir.path()).unwrap(), ["stopped extents", "stopped lock-1"]);
        assert!(extents.id().is_none() && lock.id().is_none());
        assert!(stranger.id().is_some_and(|id| id.is_alive()), "a reused pid was killed");
        assert_eq!(down(dir.path()).unwrap(), [] as [&str; 0]);
        assert!(stranger.id().unwrap().stop(STOP_PATIENCE));
    }

    #[test]
    fn down_without_a_cluster_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = down(&dir.path().join("nothing")).unwrap_err();
        assert!(matches!(error, DownError::File(FileError::Missing { .. })));
        assert!(!dir.path().join("nothing").exists());
    }

    #[test]
    fn a_directory_that_is_no_mount_is_not_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        for force in [false, true] {
            assert!(matches!(unmount(dir.path(), force), Err(DownError::Mountpoint(_))));
        }
    }
}
