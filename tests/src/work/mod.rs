//! Real work on a mount: unpack a source archive, build a project, use git, use SQLite; each checked against what it
//! should have made, on both mounts; and all of it once more with the master killed half-way.

mod archive;
mod command;
mod compare;
mod steps;

pub use compare::compare;

use crate::binaries::Binaries;
use crate::cluster::{Cluster, ClusterError, Options};
use archive::Archive;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Files in the source archive.
    pub files: usize,
    /// The cargo workspace to build a package of on the mount.
    pub project: PathBuf,
    /// Its package.
    pub package: String,
    /// Only these steps (all when empty).
    pub steps: Vec<String>,
    /// All once more, with the master killed half-way through each step.
    pub kill_master: bool,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A step could not be prepared.
    #[error("{0}")]
    Prepare(String),
    /// A command failed.
    #[error("{step}: `{command}` failed ({why}):\n{output}")]
    Command {
        /// Which step.
        step: &'static str,
        /// The command.
        command: String,
        /// How it ended.
        why: String,
        /// The end of what it printed.
        output: String,
    },
    /// What it made is not right.
    #[error("{step}: {what}")]
    Wrong {
        /// Which step.
        step: &'static str,
        /// What is wrong.
        what: String,
    },
}

/// One pass over all steps: where it works, and how disturbed.
struct Pass<'a> {
    cluster: &'a mut Cluster,
    archive: &'a Archive,
    plan: &'a Plan,
    /// Name of its directory on the mounts.
    name: &'static str,
    /// Lines that each step's command printed when undisturbed; a kill comes at half of them.
    lines: Option<&'a [usize]>,
}

/// Does the plan on a new cluster in `dir`.
pub fn run(binaries: &Binaries, dir: &Path, plan: &Plan) -> Result<(), WorkError> {
    std::fs::create_dir_all(dir).map_err(|e| WorkError::Prepare(format!("mkdir {}: {e}", dir.display())))?;
    let archive = Archive::make(&dir.join("plain"), plan.files)?;
    println!("source archive: {} files, {:.1} MB", archive.files, archive.bytes as f64 / 1e6);
    let mut cluster = Cluster::start(binaries, &dir.join("cluster"), &Options::default())?;
    let undisturbed =
        Pass { cluster: &mut cluster, archive: &archive, plan, name: "quiet", lines: None }.all()?;
    cluster.fsck()?;
    if plan.kill_master {
        Pass { cluster: &mut cluster, archive: &archive, plan, name: "fire", lines: Some(&undisturbed) }
            .all()?;
        cluster.fsck()?;
    }
    Ok(cluster.stop()?)
}

impl Pass<'_> {
    /// Does every step; returns the number of lines each one's command printed.
    fn all(&mut self) -> Result<Vec<usize>, WorkError> {
        let base = self.cluster.mountpoint(0).join(self.name);
        std::fs::create_dir(&base)
            .map_err(|e| WorkError::Prepare(format!("mkdir {}: {e}", base.display())))?;
        let mut lines = Vec::new();
        for (i, (name, step)) in steps::ALL.iter().enumerate() {
            if self.plan.steps.is_empty() || self.plan.steps.iter().any(|s| s == name) {
                lines.push(self.step(name, *step, self.lines.map(|l| l[i] / 2))?);
            } else {
                lines.push(0);
            }
        }
        Ok(lines)
    }

    fn step(
        &mut self,
        name: &'static str,
        step: steps::Step,
        kill_at: Option<usize>,
    ) -> Result<usize, WorkError> {
        let mounts = [0, 1].map(|i| self.cluster.mountpoint(i).join(self.name));
        let began = Instant::now();
        let mut killed = None;
        let lines = {
            let cluster = &mut *self.cluster;
            let mut on_line = |line: usize| {
                if Some(line) == kill_at {
                    killed = cluster.master();
                    killed.and_then(|i| cluster.kill_replica(i));
                }
            };
            let mut work = steps::Work {
                name,
                mounts: &mounts,
                archive: self.archive,
                plan: self.plan,
                on_line: &mut on_line,
            };
            step(&mut work)?
        };
        let time = began.elapsed().as_secs_f64();
        match (kill_at, killed) {
            (None, _) => println!("{name}: {time:.1} s"),
            (Some(at), Some(replica)) => {
                println!(
                    "{name}: {time:.1} s, {} (master) killed after {at} of {lines} lines",
                    Cluster::replica_part(replica)
                );
                self.cluster.start_replica(replica)?;
            }
            (Some(at), None) => {
                let what =
                    format!("no master could be killed at line {at}; the command printed {lines} lines");
                return Err(WorkError::Wrong { step: name, what });
            }
        }
        self.cluster.check_running()?;
        self.cluster.wait_for_agreement()?;
        Ok(lines)
    }
}
