//! `yfs fsck` at a running cluster: what a run that killed something ends with.

use super::{Cluster, ClusterError};
use std::process::{Command, Stdio};

impl Cluster {
    /// Checks the store as it is now, mounts at work or not: there must be no error. Bulk data is compared with its
    /// checksums, too.
    pub fn fsck(&self) -> Result<(), ClusterError> {
        let program = self.binaries.path("yfs")?;
        let mut command = Command::new(&program);
        command.args(["fsck", "--locks", &self.locks.join(","), "--extents", &self.extents_address]);
        let output = command.stdin(Stdio::null()).output().map_err(super::io_at("run", &program))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(ClusterError::Fsck(format!("{}:\n{}", output.status, String::from_utf8_lossy(&said).trim_end())))
    }
}
