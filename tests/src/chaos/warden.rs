//! Nothing of a run survives it.
//!
//! The run is a process of its own, in a mount namespace of its own with a `/run` of its own: what it mounts, and the
//! names of its network namespaces, nobody else sees, and they are gone with its last process. Its servers are killed by
//! the kernel when it ends, however it ends, and it is killed when the warden does. The warden waits, hands signals on,
//! and looks whether something is left.

use super::ChaosError;
use super::network::die_with_parent;
use crate::process::until;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// The namespaces of a run, one number a line, in its directory.
const NAMESPACES: &str = "namespaces";
/// What is left may take so long to go away.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `command`, which calls [`enter`], until it ends; on SIGINT, SIGTERM and SIGHUP it is killed. Fails when anything of
/// it is left: a process, a mount, a namespace (with the rules in it), a loop device. `token` is part of the paths of
/// everything that it starts.
pub fn watch(mut command: Command, dir: &Path, token: &str) -> Result<Option<ExitStatus>, ChaosError> {
    let signals = block_signals();
    // SAFETY: between fork and exec only system calls are made, on a set that was initialised before.
    unsafe {
        command.pre_exec(move || {
            // The run is to hear its signals, and so are its servers, which inherit this from it.
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &signals, std::ptr::null_mut());
            die_with_parent()
        });
    }
    let mut child = command.spawn().map_err(ChaosError::io("starting", "the run"))?;
    let status = wait(&mut child, &signals);
    let left = until(PATIENCE, || leftovers(dir, token).is_empty().then_some(()));
    match left {
        Some(()) => Ok(status),
        None => Err(ChaosError::Wrong(format!("left behind: {}", leftovers(dir, token).join("; ")))),
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: an all-zero set is valid memory for sigemptyset, and all pointers are to that one set.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD] {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

/// Until the child has ended; none when it was killed because we were told to end.
fn wait(child: &mut Child, signals: &libc::sigset_t) -> Option<ExitStatus> {
    loop {
        // SAFETY: the set is initialised; no information about the signal is asked for.
        let signal = unsafe { libc::sigwaitinfo(signals, std::ptr::null_mut()) };
        match signal {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP => {
                child.kill().ok(); // fails only when it is gone already
                child.wait().ok();
                return None;
            }
            _ => {
                if let Ok(Some(status)) = child.try_wait() {
                    return Some(status);
                }
            }
        }
    }
}

/// In the run: from here on mounts are its own.
pub fn enter() -> Result<(), ChaosError> {
    let failed = || {
        let error = std::io::Error::last_os_error();
        ChaosError::io("making", "a mount namespace (this takes root)")(error)
    };
    // SAFETY: the paths are NUL-terminated literals; nothing else is passed.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            return Err(failed());
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let (none, root, run) = (std::ptr::null(), c"/".as_ptr(), c"/run".as_ptr());
        if libc::mount(none, root, none, private, none.cast()) != 0
            || libc::mount(c"tmpfs".as_ptr(), run, c"tmpfs".as_ptr(), 0, none.cast()) != 0
        {
            return Err(failed());
        }
    }
    Ok(())
}

/// In the run: tells the warden which namespaces it made.
pub fn declare(dir: &Path) -> Result<(), ChaosError> {
    let mut spaces = BTreeSet::from([space(Path::new("/proc/self/ns/mnt"))]);
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        spaces.insert(space(&entry.path()));
    }
    let text: String = spaces.into_iter().flatten().map(|number| format!("{number}\n")).collect();
    let path = dir.join(NAMESPACES);
    fs::write(&path, text).map_err(ChaosError::io("writing", path.display()))
}

/// The number of a namespace: its inode, through the link in `/proc` or the mount in `/run/netns`.
fn space(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

/// What is left of a run.
fn leftovers(dir: &Path, token: &str) -> Vec<String> {
    let declared = fs::read_to_string(dir.join(NAMESPACES)).unwrap_or_default();
    let spaces: BTreeSet<u64> = declared.lines().filter_map(|line| line.parse().ok()).collect();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let shown = String::from_utf8_lossy(&command).replace('\0', " ");
        if shown.contains(token) {
            left.push(format!("process {pid} ({shown})"));
        }
        for kind in ["mnt", "net"] {
            if space(&path.join("ns").join(kind)).is_some_and(|number| spaces.contains(&number)) {
                left.push(format!("process {pid} in a namespace of the run ({shown})"));
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(mounts.lines().filter(|line| line.contains(token)).map(|line| format!("mount {line}")));
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if file.contains(token) {
            left.push(format!("{:?} on {}", entry.file_name(), file.trim()));
        }
    }
    left
}
