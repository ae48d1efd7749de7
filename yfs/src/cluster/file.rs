//! `cluster.json`: what a cluster's directory says about itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::ProcessId;

/// The version of `cluster.json` this program writes and reads.
pub const VERSION: u32 = 1;

/// Name of the file within the cluster's directory.
pub const NAME: &str = "cluster.json";

/// What is known of a cluster on this machine: its addresses for ever, its processes and mounts as last started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Format version, [`VERSION`].
    pub version: u32,
    /// Identity of the cluster: random, chosen when it was created.
    pub cluster: String,
    /// Addresses of the lock replicas, in order; the first is the master of the first view.
    pub locks: Vec<String>,
    /// Address of the extent server.
    pub extents: String,
    /// Identity of the extent server's store, noted when it was first seen.
    #[serde(default)]
    pub store: Option<String>,
    /// The lease of the lock service in seconds, when not its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// Where the file system is (or was last) mounted, absolute paths.
    #[serde(default)]
    pub mounts: Vec<PathBuf>,
    /// Processes by part: `lock-1`, …, `extents`, and `mount PATH`.
    #[serde(default)]
    pub pids: BTreeMap<String, ProcessId>,
}

/// Why a cluster's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no cluster.
    #[error("{} is not a YFS cluster: it holds no {NAME} (create one with `yfs up MOUNTPOINT --data {}`)", dir.display(), dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to something else.
    #[error("{} is not empty and holds no {NAME}: choose another --data directory", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// The file is not one we understand.
    #[error("{} cannot be read: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer (or unknown) format.
    #[error("{} has version {found}, this program understands {VERSION}: use the yfs that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u64,
    },
    /// Somebody else works on this cluster.
    #[error("another yfs command is at work on {}: wait until it has finished", dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_path_buf();
    move |source| FileError::Io { path, source }
}

/// The part's name of a mount in [`Cluster::pids`].
pub fn mount_part(mountpoint: &Path) -> String {
    format!("mount {}", mountpoint.display())
}

impl Cluster {
    /// A new cluster at the given addresses, with a fresh identity.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(locks: Vec<String>, extents: String) -> io::Result<Cluster> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| io::Error::other(e.to_string()))?;
        let cluster = format!("{:016x}", u64::from_be_bytes(id));
        Ok(Cluster {
            version: VERSION,
            cluster,
            locks,
            extents,
            store: None,
            lease: None,
            mounts: Vec::new(),
            pids: BTreeMap::new(),
        })
    }

    /// Reads the file of the cluster in `dir`.
    ///
    /// # Errors
    /// [`FileError::Missing`] when there is none, others when it cannot be understood.
    pub fn load(dir: &Path) -> Result<Cluster, FileError> {
        let path = dir.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(FileError::Missing { dir: dir.to_path_buf() });
            }
            Err(e) => return Err(io_error(&path)(e)),
        };
        Cluster::parse(&path, &bytes)
    }

    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Cluster, FileError> {
        let malformed = |reason: String| FileError::Malformed { path: path.to_path_buf(), reason };
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        let found = value.get("version").and_then(serde_json::Value::as_u64);
        match found {
            None => return Err(malformed("it names no version".into())),
            Some(found) if found != u64::from(VERSION) => {
                return Err(FileError::Version { path: path.to_path_buf(), found });
            }
            Some(_) => {}
        }
        let cluster: Cluster = serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?;
        if cluster.locks.is_empty() {
            return Err(malformed("it names no lock servers".into()));
        }
        for address in cluster.locks.iter().chain([&cluster.extents]) {
            rpc::addr::parse(address).map_err(|e| malformed(e.to_string()))?;
        }
        Ok(cluster)
    }

    /// The file's content.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec_pretty(self).expect("plain data of strings and numbers becomes JSON");
        text.push(b'\n');
        text
    }

    /// Writes the file, atomically and durably.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), FileError> {
        let path = dir.join(NAME);
        let new = dir.join("cluster.json.new");
        let text = self.text();
        let written = File::create(&new)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| File::open(dir)?.sync_all());
        written.map_err(io_error(&path))
    }

    /// Records a mount and the process that serves it.
    pub fn add_mount(&mut self, mountpoint: &Path, process: ProcessId) {
        if !self.mounts.iter().any(|m| m == mountpoint) {
            self.mounts.push(mountpoint.to_path_buf());
        }
        self.pids.insert(mount_part(mountpoint), process);
    }

    /// Forgets a mount.
    pub fn remove_mount(&mut self, mountpoint: &Path) {
        self.mounts.retain(|m| m != mountpoint);
        self.pids.remove(&mount_part(mountpoint));
    }

    /// Forgets mounts whose process is gone and that are mounted no more.
    pub fn prune_mounts(&mut self, is_mounted: impl Fn(&Path) -> bool) {
        for mountpoint in self.mounts.clone() {
            let alive = self.pids.get(&mount_part(&mountpoint)).is_some_and(ProcessId::is_alive);
            if !alive && !is_mounted(&mountpoint) {
                self.remove_mount(&mountpoint);
            }
        }
    }

    /// The running process of a part, if it runs.
    pub fn running(&self, part: &str) -> Option<&ProcessId> {
        self.pids.get(part).filter(|id| id.is_alive())
    }
}

/// The exclusive right to change a cluster's file and processes, held by `yfs up`, `down` and `mount` while they work.
#[derive(Debug)]
pub struct ClusterLock {
    _file: File,
}

impl ClusterLock {
    /// Takes the lock, or says that somebody else has it.
    ///
    /// # Errors
    /// [`FileError::Busy`] when another command holds it.
    pub fn take(dir: &Path) -> Result<ClusterLock, FileError> {
        let path = dir.join("cluster.lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
        // SAFETY: flock on a descriptor we own; it takes no pointers.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(ClusterLock { _file: file });
        }
        match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::WouldBlock => Err(FileError::Busy { dir: dir.to_path_buf() }),
            e => Err(io_error(&path)(e)),
        }
    }
}

/// Whether `dir` may become a new cluster's directory: it is missing or empty (but for what a failed start leaves:
/// its lock file and the logs).
pub fn check_fresh(dir: &Path) -> Result<(), FileError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error(dir)(e)),
    };
    for entry in entries {
        let name = entry.map_err(io_error(dir))?.file_name();
        if name != "cluster.lock" && name != "logs" {
            return Err(FileError::Foreign { dir: dir.to_path_buf() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Cluster {
        Cluster::new(vec!["127.0.0.1:10000".into(), "127.0.0.1:10002".into()], "127.0.0.1:10004".into())
            .unwrap()
    }

    #[test]
    fn saved_and_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = sample();
        cluster.add_mount(Path::new("/mnt/a b"), ProcessId::of(std::process::id()).unwrap());
        cluster.save(dir.path()).unwrap();
        assert_eq!(Cluster::load(dir.path()).unwrap(), cluster);
    }

    #[test]
    fn identities_differ() {
        assert_ne!(sample().cluster, sample().cluster);
    }

    #[test]
    fn bad_files_are_refused_with_their_name() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Cluster::load(dir.path()), Err(FileError::Missing { .. })));
        for (text, expected) in [
            ("", "cluster.json cannot be read"),
            ("not json", "cluster.json cannot be read"),
            ("{}", "names no version"),
            (r#"{"version":2}"#, "has version 2"),
            (r#"{"version":1,"cluster":"x","locks":[],"extents":"127.0.0.1:1"}"#, "names no lock servers"),
            (r#"{"version":1,"cluster":"x","locks":["nonsense:port"],"extents":"127.0.0.1:1"}"#, "nonsense"),
        ] {
            std::fs::write(dir.path().join(NAME), text).unwrap();
            let error = Cluster::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.lines().count() == 1, "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn one_command_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = ClusterLock::take(dir.path()).unwrap();
        assert!(matches!(ClusterLock::take(dir.path()), Err(FileError::Busy { .. })));
        drop(first);
        ClusterLock::take(dir.path()).unwrap();
    }

    #[test]
    fn only_an_empty_directory_is_fresh() {
        let dir = tempfile::tempdir().unwrap();
        check_fresh(&dir.path().join("missing")).unwrap();
        check_fresh(dir.path()).unwrap();
        drop(ClusterLock::take(dir.path()).unwrap());
        check_fresh(dir.path()).unwrap();
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(check_fresh(dir.path()), Err(FileError::Foreign { .. })));
    }

    #[test]
    fn dead_mounts_are_forgotten_unless_still_mounted() {
        let mut cluster = sample();
        let mut dead = ProcessId::of(std::process::id()).unwrap();
        dead.start += 1;
        cluster.add_mount(Path::new("/gone"), dead.clone());
        cluster.add_mount(Path::new("/dangling"), dead);
        cluster.add_mount(Path::new("/alive"), ProcessId::of(std::process::id()).unwrap());
        cluster.prune_mounts(|path| path == Path::new("/dangling"));
        assert_eq!(cluster.mounts, [PathBuf::from("/dangling"), PathBuf::from("/alive")]);
        assert_eq!(cluster.pids.len(), 2);
    }
}
