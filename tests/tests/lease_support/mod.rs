//! A cluster with a short lease, whose mounts can be frozen.
#![allow(dead_code, clippy::unwrap_used)] // each test uses its part; a test may panic

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options};
use yfs_tests::process::until;

/// Liveness bound: generous, the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The lease of most tests, in seconds.
pub const LEASE_S: f64 = 1.5;

/// A directory, and a cluster in it with one lock server and two mounts. (The directory outlives the cluster.)
pub struct Scene {
    pub cluster: Cluster,
    _dir: tempfile::TempDir,
}

impl Scene {
    pub fn with_lease(seconds: f64) -> Scene {
        Scene::start(seconds, 60)
    }

    /// With operations that give up after `timeout` seconds.
    pub fn start(lease: f64, timeout: u64) -> Scene {
        let dir = tempfile::Builder::new().prefix("yfs-lease-").tempdir().unwrap();
        let options = Options {
            replicas: 1,
            mounts: 2,
            lock_args: vec!["--lease".into(), lease.to_string()],
            mount_args: vec!["--timeout".into(), timeout.to_string()],
            ..Options::default()
        };
        let cluster = Cluster::start(&Binaries::of_this_build(), dir.path(), &options);
        Scene { cluster: cluster.unwrap_or_else(|e| panic!("{e}")), _dir: dir }
    }

    /// A path on mount 0 or 1.
    pub fn on(&self, mount: usize, name: &str) -> std::path::PathBuf {
        self.cluster.mountpoint(mount).join(name)
    }

    /// Stops all threads of a mount's process, until what is returned is dropped.
    ///
    /// Meanwhile this process must not start others while it has files of that mount open: on the way to its program a new
    /// process closes its copies of them, and waits for the mount.
    #[must_use]
    pub fn freeze(&mut self, mount: usize) -> Frozen {
        let process = self.cluster.mount_process(mount);
        process.signal(libc::SIGSTOP);
        let frozen = Frozen(process.pid());
        let status = format!("/proc/{}/status", process.pid());
        eventually("it is stopped", || std::fs::read_to_string(&status).unwrap().contains("State:\tT"));
        frozen
    }

    /// What the log of a mount says so far.
    pub fn log(&self, mount: usize) -> String {
        std::fs::read_to_string(self.cluster.log(&format!("mnt{}", mount + 1))).unwrap()
    }
}

/// A stopped process, which goes on when this is dropped; before the files whose closing would wait for it.
pub struct Frozen(u32);

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: kill takes two integers. The process is the scene's, which outlives this, or was killed by it.
        unsafe { libc::kill(self.0 as i32, libc::SIGCONT) };
    }
}

/// Waits for something that must come.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    assert!(until(PATIENCE, || condition().then_some(())).is_some(), "in vain: {what}");
}

/// Opens for reading and writing, makes it if need be.
pub fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Makes a file of these bytes, on the disk.
pub fn synced(path: &Path, bytes: &[u8]) {
    let file = open(path);
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

/// `len` bytes from the beginning.
pub fn read(file: &File, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The kind of error of something that must fail.
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// close(2), whose error `File` does not hand on.
pub fn close(file: File) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor was the file's alone.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the thread's system call waits for an answer of FUSE, by the kernel's own stack.
pub fn waits_for_fuse(tid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{tid}/stack")).is_ok_and(|stack| stack.contains("fuse"))
}

/// Waits for a thread, which must come to its end.
pub fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while !thread.is_finished() {
        assert!(Instant::now() < deadline, "a thread does not end");
        std::thread::sleep(Duration::from_millis(5)); // between two looks
    }
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether a thread of this test waits for an answer of FUSE.
pub fn any_thread_waits_for_fuse() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let tids = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    tids.into_iter().any(waits_for_fuse)
}
