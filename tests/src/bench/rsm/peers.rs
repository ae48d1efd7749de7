//! Other lock services, brought up and measured by a folder of scripts: its `bench.sh locks SET NAME` writes
//! `SET/locks-NAME.json`, with the same closed loops as ours.

use super::RsmBenchError;
use super::latency::Measured;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The services by the names the folder knows them by: three members each, on a disk.
pub const PEERS: [&str; 2] = ["etcd3", "zookeeper3"];

/// Where the folder is and where it works.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder with `bench.sh`.
    pub path: PathBuf,
    /// Where it keeps its state (`PEERS_STATE`): on the ordinary disk, where it makes a fresh file system by itself.
    pub state: PathBuf,
    /// Where its figures go (`PEERS_OUT`).
    pub out: PathBuf,
    /// The size of that file system in GiB.
    pub disk_gib: u32,
}

/// One peer in one round: its loops by name, and how often a second a contended lock changed hands.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Each loop.
    pub loads: BTreeMap<String, Measured>,
    /// `lock_2_handoff`, counting only changes of hand.
    pub hand_overs: Option<f64>,
    /// What its callers complained of.
    pub errors: Vec<String>,
}

impl Folder {
    /// Brings `peer` up, runs each loop once for `seconds`, and takes it down again.
    pub fn measure(&self, peer: &str, seconds: f64) -> Result<Figures, RsmBenchError> {
        let script = self.path.join("bench.sh");
        let mut command = Command::new(&script);
        command.args(["locks", "rsm", peer]).stdin(Stdio::null());
        command.env("PEERS_STATE", &self.state).env("PEERS_OUT", &self.out);
        command.env("PEERS_DISK_GIB", self.disk_gib.to_string());
        command.env("LOCK_ARGS", format!("--secs {seconds} --reps 1"));
        let failed =
            |why: String| RsmBenchError::Peers(format!("{} locks rsm {peer}: {why}", script.display()));
        let status = command.status().map_err(|error| failed(error.to_string()))?;
        let json = self.out.join("rsm").join(format!("locks-{peer}.json"));
        if !status.success() {
            return Err(failed(format!("ended with {status}")));
        }
        let text = std::fs::read_to_string(&json).map_err(|error| failed(format!("no figures: {error}")))?;
        // Taken away, so that a later round that brings nothing up is not taken for this one.
        std::fs::remove_file(&json).map_err(|error| failed(error.to_string()))?;
        parse(&text).map_err(failed)
    }

    /// The version of `peer`, as its last run noted it.
    pub fn version(&self, peer: &str) -> Option<String> {
        let noted: &Path = &self.out.join("rsm").join(format!("version-{peer}.txt"));
        Some(std::fs::read_to_string(noted).ok()?.trim().to_owned())
    }
}

fn parse(text: &str) -> Result<Figures, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let workloads = json["workloads"].as_object().ok_or("its figures have no workloads")?;
    let number = |of: &Value, field: &str| of[field].as_f64().unwrap_or(f64::NAN);
    let loads = workloads.iter().map(|(name, of)| {
        let (rate, p50_us, p99_us) = (number(of, "median"), number(of, "p50_us"), number(of, "p99_us"));
        (name.clone(), Measured { rate, p50_us, p99_us })
    });
    let errors = json["errors"].as_array().into_iter().flatten();
    Ok(Figures {
        loads: loads.collect(),
        hand_overs: workloads.get("lock_2_handoff").and_then(|of| of["handoffs_per_s"].as_f64()),
        errors: errors.map(|error| error.as_str().unwrap_or("?").to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_peer_are_read() {
        let figures = parse(
            r#"{"errors": ["put_1 rep 1: gone"], "workloads": {
                "lock_2_handoff": {"median": 764.4, "p50_us": 2642.9, "p99_us": 3916.6, "handoffs_per_s": 700.5},
                "put_16": {"median": 7031.0, "p50_us": 2127.1, "p99_us": 5697.1, "handoffs_per_s": null}}}"#,
        )
        .unwrap();
        assert_eq!(figures.loads["put_16"], Measured { rate: 7031.0, p50_us: 2127.1, p99_us: 5697.1 });
        assert_eq!(figures.hand_overs, Some(700.5));
        assert_eq!(figures.errors, ["put_1 rep 1: gone"]);
        assert!(parse("{}").is_err() && parse("no").is_err());
    }
}
