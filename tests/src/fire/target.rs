//! What is under fire: the lab programs and the mounts.

use super::FireError;
use crate::binaries::Binaries;
use crate::cluster::io_at;
use crate::labs::Name;
use crate::process::until;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A running lab test; killed when dropped.
pub struct LabProcess {
    lab: Name,
    child: Child,
    output: std::fs::File,
}

impl LabProcess {
    /// Starts it on its directories.
    pub fn start(
        binaries: &Binaries,
        lab: Name,
        dirs: &[PathBuf],
        seed: u64,
    ) -> Result<LabProcess, FireError> {
        let program = binaries.path("yfs_labs").map_err(crate::cluster::ClusterError::from)?;
        let failed = io_at("run", &program);
        let start = || {
            let output = tempfile::tempfile()?;
            let mut command = Command::new(&program);
            command.args(["--seed", &seed.to_string(), lab.as_str()]).args(dirs).stdin(Stdio::null());
            let child = command.stdout(output.try_clone()?).stderr(output.try_clone()?).spawn()?;
            Ok(LabProcess { lab, child, output })
        };
        Ok(start().map_err(failed)?)
    }

    /// Waits for its success.
    pub fn finish(&mut self, deadline: Instant) -> Result<(), FireError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let why = match until(patience, || self.child.try_wait().ok().flatten()) {
            Some(status) if status.success() => return Ok(()),
            Some(status) => status.to_string(),
            None => format!("not over after {} s", patience.as_secs()),
        };
        let mut output = String::new();
        self.output.rewind().and_then(|()| self.output.read_to_string(&mut output)).ok();
        Err(FireError::Lab { lab: self.lab.as_str(), why, output })
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        // Not waited for: it may be inside a call of the mount under test, which ends when the mount does.
        self.child.try_wait().ok();
    }
}

/// Both mounts take a file, show it to each other, and list the same.
pub fn mounts_work(one: &Path, two: &Path) -> Result<(), String> {
    for (from, to) in [(one, two), (two, one)] {
        let name = "after-the-fire";
        let fail = |what: &str, e: std::io::Error| {
            format!("{what} through {} after {}: {e}", to.display(), from.display())
        };
        std::fs::write(from.join(name), from.as_os_str().as_encoded_bytes()).map_err(|e| fail("write", e))?;
        let got = std::fs::read(to.join(name)).map_err(|e| fail("read", e))?;
        if got != from.as_os_str().as_encoded_bytes() {
            return Err(format!(
                "{} does not show what was written through {}",
                to.display(),
                from.display()
            ));
        }
        std::fs::remove_file(to.join(name)).map_err(|e| fail("unlink", e))?;
    }
    let (first, second) = (names(one)?, names(two)?);
    if first == second {
        Ok(())
    } else {
        Err(format!("the mounts list different names: {first:?} and {second:?}"))
    }
}

fn names(dir: &Path) -> Result<BTreeSet<OsString>, String> {
    let list = || -> std::io::Result<BTreeSet<OsString>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    list().map_err(|e| format!("list {}: {e}", dir.display()))
}
