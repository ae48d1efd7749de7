//! One mount under test.

use super::{ClusterError, io_at};
use crate::process::{Process, until};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);

/// Whether something is mounted at exactly this (canonical) path.
pub fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let wanted = path.as_os_str().as_bytes();
    // The fifth field is the mountpoint; our scratch paths have no characters that are escaped there.
    table.split(|b| *b == b'\n').any(|line| line.split(|b| *b == b' ').nth(4) == Some(wanted))
}

/// A mounted directory and the process behind it; unmounted (by force if need be) when dropped.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    process: Process,
    yfs: PathBuf,
}

impl Mount {
    /// Waits until `process` has mounted `path`.
    pub fn wait(mut process: Process, path: &Path, yfs: PathBuf) -> Result<Mount, ClusterError> {
        let up = until(PATIENCE, || {
            if process.ended().is_some() { Some(false) } else { is_mounted(path).then_some(true) }
        });
        let mount = Mount { path: path.to_owned(), process, yfs };
        let failed = |mount: &Mount, what: &str| ClusterError::Part {
            part: format!("the mount at {}", mount.path.display()),
            what: what.into(),
            log: mount.process.log().to_owned(),
        };
        match up {
            Some(true) => {
                // Mounted is not yet serving; the first answer is.
                std::fs::metadata(path).map_err(io_at("stat", path))?;
                Ok(mount)
            }
            Some(false) => Err(failed(&mount, "did not come up")),
            None => Err(failed(&mount, "is not there yet")),
        }
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process that serves it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// `yfs umount`; its process must end with success.
    pub fn unmount(mut self) -> Result<(), ClusterError> {
        let failed = |what: String, mount: &Mount| ClusterError::Part {
            part: format!("yfs umount {}", mount.path.display()),
            what,
            log: mount.process.log().to_owned(),
        };
        let output = Command::new(&self.yfs).arg("umount").arg(&self.path).stdin(Stdio::null()).output();
        let output = output.map_err(io_at("run", &self.yfs))?;
        if !output.status.success() {
            return Err(failed(format!("failed: {}", String::from_utf8_lossy(&output.stderr).trim()), &self));
        }
        match until(PATIENCE, || self.process.ended()) {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                Err(failed(format!("worked, but the mount's process ended with {status}"), &self))
            }
            None => Err(failed("worked, but the mount's process goes on".into(), &self)),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.process.kill();
        if is_mounted(&self.path) {
            // The process is gone, so nothing can be flushed any more: take the dead mount out of the way.
            detach(&self.path);
        }
    }
}

/// Takes a mount out of the tree, also when it is busy.
fn detach(path: &Path) {
    let c_path = CString::new(path.as_os_str().as_bytes()).expect("a mounted path holds no NUL");
    // SAFETY: umount2 gets a NUL-terminated path that outlives the call.
    let failed = unsafe { libc::umount2(c_path.as_ptr(), libc::MNT_DETACH) } != 0;
    if failed {
        // Not root: the set-uid helper may.
        Command::new("fusermount3").args(["-u", "-z"]).arg(path).status().ok();
    }
}
