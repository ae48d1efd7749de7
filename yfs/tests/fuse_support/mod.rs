//! A cluster of real processes with mounts, for one test; everything is gone again when the test ends, however it ends.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part; a test may panic

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use yfs::cluster::file::{Cluster, mount_part};
use yfs::cluster::process::ProcessId;

/// Longer than anything should take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub fn yfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yfs"));
    command.stdin(Stdio::null());
    command
}

/// Runs `yfs` to its end.
pub fn run<const N: usize>(args: [&str; N]) -> Output {
    yfs().args(args).output().unwrap()
}

/// Runs `yfs`, which must succeed, and returns what it says.
pub fn succeed<const N: usize>(args: [&str; N]) -> String {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "yfs {args:?}: {}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `yfs`, which must fail with one line, and returns the line.
pub fn fail<const N: usize>(args: [&str; N]) -> String {
    let output = run(args);
    assert!(!output.status.success(), "yfs {args:?} should have failed");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "not one line: {stderr}");
    stderr.trim_end().to_owned()
}

/// The servers' programs stand beside `yfs`; they belong to other packages, so they are built here if need be.
fn build_servers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let release = Path::new(env!("CARGO_BIN_EXE_yfs")).parent().unwrap().ends_with("release");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "lock_rsm", "-p", "extent_server", "--bins"]);
        if release {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(status.success(), "the servers do not build");
    });
}

/// A cluster in a temporary directory, with mounts `a`, `b`, … in it.
pub struct TestCluster {
    dir: tempfile::TempDir,
}

impl TestCluster {
    /// A cluster with `replicas` lock servers, mounted at `a`.
    pub fn up(replicas: usize) -> TestCluster {
        build_servers();
        let cluster = TestCluster { dir: tempfile::Builder::new().prefix("yfs-test-").tempdir().unwrap() };
        fs::create_dir(cluster.path("a")).unwrap();
        succeed([
            "up",
            &cluster.text("a"),
            "--data",
            &cluster.text("data"),
            "--replicas",
            &replicas.to_string(),
        ]);
        cluster
    }

    /// A cluster with one lock server and two mounts, `a` and `b`.
    pub fn with_two_mounts() -> (TestCluster, PathBuf, PathBuf) {
        let cluster = TestCluster::up(1);
        cluster.mount("b");
        let (a, b) = (cluster.path("a"), cluster.path("b"));
        (cluster, a, b)
    }

    /// Mounts once more.
    pub fn mount(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        succeed(["mount", &self.text(name), "--data", &self.text("data")]);
        path
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As [`TestCluster::path`], for a command line.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// What `cluster.json` says now.
    pub fn file(&self) -> Cluster {
        Cluster::load(&self.path("data")).unwrap()
    }

    /// The process that serves a mount.
    pub fn mount_process(&self, name: &str) -> ProcessId {
        let part = mount_part(&self.path(name).canonicalize().unwrap_or_else(|_| self.path(name)));
        self.file().pids.get(&part).unwrap_or_else(|| panic!("{part} is not in cluster.json")).clone()
    }

    /// The log of a mount.
    pub fn mount_log(&self, name: &str) -> String {
        let name = yfs::cluster::up::mount_log_name(&self.path(name));
        fs::read_to_string(self.path("data").join("logs").join(name)).unwrap_or_default()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        for name in ["a", "b", "c"] {
            if is_mounted(&self.path(name)) {
                let _ = run(["umount", "--force", &self.text(name)]);
            }
        }
        if let Ok(cluster) = Cluster::load(&self.path("data")) {
            for process in cluster.pids.values() {
                process.signal(libc::SIGKILL);
                process.wait_gone(PATIENCE);
            }
        }
    }
}

impl TestCluster {
    fn show_logs(&self) {
        let Ok(logs) = fs::read_dir(self.path("data/logs")) else { return };
        for log in logs.flatten() {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- {}\n{}", log.path().display(), tail.join("\n"));
        }
    }
}

/// Whether one of our file systems is mounted exactly there, found without touching it.
pub fn is_mounted(path: &Path) -> bool {
    yfs::cluster::status::is_mounted(path)
}

/// Waits for something that must come.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The kind of error of something that must fail.
pub fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}
