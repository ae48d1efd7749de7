//! What `yfs status --json` says, which is the scripts' interface too.

use super::ClusterError;
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// The whole answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The newest view that some replica is in.
    pub view: Option<View>,
    /// Every replica, unreachable ones too.
    pub replicas: Vec<Replica>,
    /// The extent server.
    pub extent_server: ExtentServer,
}

/// A view.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    /// Its number.
    pub number: u64,
    /// Its members' addresses.
    pub members: Vec<String>,
    /// Its master's address.
    pub master: Option<String>,
}

/// A replica.
#[derive(Debug, Clone, Deserialize)]
pub struct Replica {
    /// Its address.
    pub address: String,
    /// Its process, when known.
    pub pid: Option<u32>,
    /// `master`, `slave`, …, `unreachable`.
    pub role: String,
    /// What it has applied.
    pub viewstamp: Option<Viewstamp>,
    /// A hash of its state.
    #[serde(default)]
    pub state_hash: Option<serde_json::Value>,
}

/// A place in the replicated log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Viewstamp {
    /// The view.
    pub view: u64,
    /// The sequence number.
    pub seq: u64,
}

/// The extent server.
#[derive(Debug, Clone, Deserialize)]
pub struct ExtentServer {
    /// Its address.
    pub address: String,
    /// Its process, when known.
    pub pid: Option<u32>,
}

/// All replicas have applied the same.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Up to here.
    pub viewstamp: Viewstamp,
    /// And whether their states have the same hash.
    pub states_equal: bool,
}

impl Status {
    /// Whether `n` replicas are there, one of them the master, all at the same viewstamp.
    pub fn agreement(&self, n: usize) -> Option<Agreement> {
        self.view.as_ref()?.master.as_ref()?;
        let first = self.replicas.first()?;
        let viewstamp = first.viewstamp?;
        let hash = first.state_hash.as_ref()?;
        let masters = self.replicas.iter().filter(|r| r.role == "master").count();
        // A large state is not hashed for everybody who asks: ask again.
        let comparable = |r: &Replica| r.viewstamp == Some(viewstamp) && r.state_hash.is_some();
        let together = self.replicas.iter().all(|r| comparable(r) && r.role != "unreachable");
        if self.replicas.len() != n || masters != 1 || !together {
            return None;
        }
        let states_equal = self.replicas.iter().all(|r| r.state_hash.as_ref() == Some(hash));
        Some(Agreement { viewstamp, states_equal })
    }
}

/// Runs `yfs status --json`.
pub(super) fn ask(yfs: &Path, locks: &[String], extents: &str) -> Result<Status, ClusterError> {
    let mut command = Command::new(yfs);
    command.args(["status", "--json", "--locks", &locks.join(","), "--extents", extents]);
    let output = command.stdin(Stdio::null()).output().map_err(super::io_at("run", yfs))?;
    // The exit status may say that something is down, which is what we look for; the answer must be there all the same.
    serde_json::from_slice(&output.stdout).map_err(|e| {
        let said = String::from_utf8_lossy(&output.stderr);
        ClusterError::Status(format!("no answer ({}; {}): {}", output.status, e, said.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hashes: [u64; 2], seqs: [u64; 2], roles: [&str; 2]) -> Status {
        let replica = |i: usize| {
            format!(
                r#"{{"address":"127.0.0.1:{i}","pid":{i},"role":"{}","viewstamp":{{"view":3,"seq":{}}},"state_hash":{}}}"#,
                roles[i], seqs[i], hashes[i]
            )
        };
        let text = format!(
            r#"{{"view":{{"number":3,"members":["127.0.0.1:0","127.0.0.1:1"],"master":"127.0.0.1:0"}},
                "replicas":[{},{}],"extent_server":{{"address":"127.0.0.1:9","pid":null}}}}"#,
            replica(0),
            replica(1)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn agreement_wants_all_of_it() {
        let good = status([7, 7], [5, 5], ["master", "slave"]);
        assert!(good.agreement(2).unwrap().states_equal);
        assert!(good.agreement(3).is_none(), "a replica is missing");
        assert!(!status([7, 8], [5, 5], ["master", "slave"]).agreement(2).unwrap().states_equal);
        assert!(status([7, 7], [5, 4], ["master", "slave"]).agreement(2).is_none());
        assert!(status([7, 7], [5, 5], ["slave", "slave"]).agreement(2).is_none());
        assert!(status([7, 7], [5, 5], ["master", "master"]).agreement(2).is_none());
        assert!(status([7, 7], [5, 5], ["master", "unreachable"]).agreement(2).is_none());
    }
}
