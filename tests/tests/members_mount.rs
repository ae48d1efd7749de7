//! All lock replicas are replaced, one after the other, by fresh ones at other addresses, while a mount is written to.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options, Status};
use yfs_tests::process::{Process, until};

/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Written while each replica is replaced, before and after as well.
const FILES_EACH: u64 = 20;

/// Writes one file after the other until told to stop, each synced.
struct Writer {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
}

fn content(number: u64) -> String {
    format!("file {number}\n").repeat(1 + number as usize % 50)
}

impl Writer {
    fn start(dir: PathBuf) -> Writer {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                let (new, path) = (dir.join("new"), dir.join(format!("{number}")));
                fs::write(&new, content(number))?;
                fs::File::open(&new)?.sync_all()?;
                fs::rename(&new, &path)?;
                count.store(number + 1, Ordering::Relaxed);
            }
            Ok(())
        });
        Writer { stop, done, thread }
    }

    /// Waits until so many more are written.
    fn goes_on(&self) {
        let from = self.done.load(Ordering::Relaxed);
        let went_on = || (self.done.load(Ordering::Relaxed) >= from + FILES_EACH).then_some(());
        assert!(until(PATIENCE, went_on).is_some(), "the mount does not go on after file {from}");
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().expect("no error is seen on the mount");
        self.done.load(Ordering::Relaxed)
    }
}

/// Replicas that come later.
struct Fresh<'a> {
    binaries: &'a Binaries,
    dir: &'a Path,
    extents: String,
    running: Vec<Process>,
}

impl Fresh<'_> {
    /// Starts one at `address`, which joins the group that `member` belongs to.
    fn start(&mut self, address: &str, member: &str) {
        let name = format!("fresh-{}", self.running.len() + 1);
        let mut command = Command::new(self.binaries.path("lock_server").unwrap());
        command.args([member, address, "--fence", &self.extents]).arg("--data").arg(self.dir.join(&name));
        let log = self.dir.join(format!("logs/{name}.log"));
        self.running.push(Process::spawn(&name, command, &log).unwrap());
    }
}

fn status(binaries: &Binaries, locks: &str, extents: &str) -> Status {
    let mut command = Command::new(binaries.path("yfs").unwrap());
    command.args(["status", "--json", "--locks", locks, "--extents", extents]).stdin(Stdio::null());
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_mount_outlives_all_replicas_that_it_was_given() {
    let binaries = Binaries::of_this_build();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { mounts: 1, ..Options::default() };
    let mut cluster = Cluster::start(&binaries, dir.path(), &options).unwrap_or_else(|e| panic!("{e}"));
    let mount = cluster.mountpoint(0).to_owned();
    let (old, extents) = (cluster.locks().to_vec(), cluster.extents_address().to_owned());
    let new: Vec<String> =
        yfs_tests::ports::free(3).into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut fresh =
        Fresh { binaries: &binaries, dir: dir.path(), extents: extents.clone(), running: Vec::new() };
    let writer = Writer::start(mount.clone());
    writer.goes_on();
    for i in 0..3 {
        // One is dead, the others live while they are replaced.
        if i == 1 {
            cluster.kill_replica(i);
        }
        fresh.start(&new[i], [&new[0], &old[1], &old[2]][if i == 2 { 0 } else { i + 1 }]);
        let mut replace = Command::new(binaries.path("lock_server").unwrap());
        replace.args(["--replace", &old[i], &new[i]]).stdin(Stdio::null());
        let output = replace.output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "replacing {i}: {complaint}; logs: {}", dir.path().display());
        writer.goes_on();
        // Asked by an address that is a member still, it shows who has come.
        let members = status(&binaries, &new[0], &extents).view.unwrap().members;
        assert!(members.contains(&new[i]) && !members.contains(&old[i]), "{i}: {members:?}");
    }
    for i in [0, 2] {
        let ended = until(PATIENCE, || cluster.replica(i).unwrap().ended());
        assert!(!ended.expect("a replica that was replaced ends").success());
    }
    // It does not depend on any that it was given.
    for i in 0..3 {
        cluster.kill_replica(i);
    }
    writer.goes_on();
    let written = writer.end();
    assert!(written >= 5 * FILES_EACH, "{written}");
    for number in 0..written {
        let read = fs::read_to_string(mount.join(format!("{number}"))).unwrap();
        assert_eq!(read, content(number), "file {number}");
    }
    let last = status(&binaries, &new.join(","), &extents);
    assert!(last.replicas.iter().all(|replica| replica.role != "unreachable"), "{last:?}");
    assert!(last.agreement(3).is_none_or(|agreement| agreement.states_equal), "{last:?}");
    cluster.unmount_all().unwrap_or_else(|e| panic!("{e}"));
}
