//! The labs under fire: every lab test runs on two mounts while lock replicas are killed and started again, and the
//! replicas must be equal afterwards.

mod nemesis;
mod target;

pub use nemesis::Tally;

use crate::binaries::Binaries;
use crate::cluster::{Cluster, ClusterError, Options};
use crate::labs::Name;
use crate::rng::Rng;
use nemesis::Nemesis;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use target::LabProcess;

/// A run of the labs must be over by then.
const LAB_PATIENCE: Duration = Duration::from_secs(240);
/// So often a lab is run again when it was over before the master was killed.
const TRIES_MAX: usize = 40;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Makes all choices.
    pub seed: u64,
    /// Which labs.
    pub labs: Vec<Name>,
    /// Each lab is repeated for at least so long …
    pub lab_time: Duration,
    /// … and until the master was killed so often while it ran.
    pub master_kills_min: usize,
    /// All labs are repeated until so much time has passed (once at least).
    pub total_time: Duration,
    /// Percent of loss at the lock servers, besides.
    pub lossy: Option<u32>,
}

/// Why the run failed.
#[derive(Debug, thiserror::Error)]
pub enum FireError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A lab test did not pass.
    #[error("{lab} failed under fire ({why}):\n{output}")]
    Lab {
        /// Which.
        lab: &'static str,
        /// How it ended.
        why: String,
        /// What it printed.
        output: String,
    },
    /// No kill happened.
    #[error("{lab}: the master was killed only {kills} times while it ran, {wanted} wanted")]
    NotUnderFire {
        /// Which lab.
        lab: &'static str,
        /// So often.
        kills: usize,
        /// And should have been.
        wanted: usize,
    },
    /// The mounts disagree or do not work.
    #[error("after {lab}: {why}")]
    Mounts {
        /// Which lab.
        lab: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// What one lab went through.
#[derive(Debug, Clone, Default)]
pub struct LabReport {
    /// Completed runs, all passed.
    pub runs: usize,
    /// Kills while it ran.
    pub tally: Tally,
    /// Time taken.
    pub time: Duration,
}

/// Runs the plan in `dir`, printing what happens; the directory is kept on failure for the caller to name.
pub fn run(binaries: &Binaries, dir: &Path, plan: &Plan) -> Result<(), FireError> {
    let start = Instant::now();
    let options = Options { lossy: plan.lossy, ..Options::default() };
    let cluster = Arc::new(Mutex::new(Cluster::start(binaries, dir, &options)?));
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < plan.total_time {
        for lab in &plan.labs {
            let mut rng = Rng::new(plan.seed.wrapping_add(1000 * rounds).wrapping_add(*lab as u64));
            let report = one_lab(&cluster, *lab, plan, start, &mut rng)?;
            after_lab(&cluster, *lab, &report)?;
        }
        rounds += 1;
    }
    let cluster = Arc::into_inner(cluster).expect("the nemesis has ended and holds the cluster no more");
    Ok(cluster.into_inner().stop()?)
}

/// Runs one lab again and again, under fire, until time and kills are enough.
fn one_lab(
    cluster: &Arc<Mutex<Cluster>>,
    lab: Name,
    plan: &Plan,
    start: Instant,
    rng: &mut Rng,
) -> Result<LabReport, FireError> {
    let began = Instant::now();
    let mut report = LabReport::default();
    while began.elapsed() < plan.lab_time || report.tally.masters < plan.master_kills_min {
        if report.runs >= TRIES_MAX && report.tally.masters < plan.master_kills_min {
            let (kills, wanted) = (report.tally.masters, plan.master_kills_min);
            return Err(FireError::NotUnderFire { lab: lab.as_str(), kills, wanted });
        }
        let dirs = fresh_dirs(cluster, lab)?;
        cluster.lock().wait_for_master()?;
        let nemesis = Nemesis::unleash(cluster.clone(), lab.as_str(), start, rng.next_u64());
        let result = run_lab(cluster, lab, &dirs, rng.next_u64() >> 40, &nemesis);
        // The nemesis brings back whom it killed, also when the lab failed: the state is to be looked at then.
        report.tally.add(&nemesis.calm()?);
        result?;
        remove_dirs(lab, &dirs)?;
        report.runs += 1;
    }
    report.time = began.elapsed();
    Ok(report)
}

/// An empty directory for one run, as both mounts show it.
fn fresh_dirs(cluster: &Mutex<Cluster>, lab: Name) -> Result<[PathBuf; 2], FireError> {
    let mounts = {
        let c = cluster.lock();
        [c.mountpoint(0).to_owned(), c.mountpoint(1).to_owned()]
    };
    let name = format!("{}-{}", lab.as_str(), Rng::new(Rng::fresh_seed()).letters(8));
    let dirs = mounts.map(|mount| mount.join(&name));
    std::fs::create_dir(&dirs[0]).map_err(crate::cluster::io_at("mkdir", &dirs[0]))?;
    Ok(dirs)
}

/// One run: a test for a single mount runs on both at the same time.
fn run_lab(
    cluster: &Mutex<Cluster>,
    lab: Name,
    dirs: &[PathBuf; 2],
    seed: u64,
    nemesis: &Nemesis,
) -> Result<(), FireError> {
    let binaries = cluster.lock().binaries().clone();
    let mut processes = Vec::new();
    let sets =
        if lab.mounts() == 1 { dirs.iter().map(std::slice::from_ref).collect() } else { vec![&dirs[..]] };
    for (i, set) in sets.into_iter().enumerate() {
        processes.push(LabProcess::start(&binaries, lab, set, seed + i as u64)?);
    }
    let deadline = Instant::now() + LAB_PATIENCE;
    processes.iter_mut().try_for_each(|process| {
        let result = process.finish(deadline);
        nemesis.lab_ended(); // from now on a kill does not count
        result
    })
}

fn remove_dirs(lab: Name, dirs: &[PathBuf; 2]) -> Result<(), FireError> {
    let failed = |why: String| FireError::Mounts { lab: lab.as_str(), why };
    // What one mount made, the other removes; and then the first does not see it any more.
    std::fs::remove_dir_all(&dirs[1]).map_err(|e| failed(format!("rm -r {}: {e}", dirs[1].display())))?;
    if dirs[0].exists() {
        return Err(failed(format!(
            "{} is still there, though removed through the other mount",
            dirs[0].display()
        )));
    }
    Ok(())
}

/// All replicas equal, both mounts alive and of one mind, and nothing wrong with what stands in the store.
fn after_lab(cluster: &Mutex<Cluster>, lab: Name, report: &LabReport) -> Result<(), FireError> {
    let mut cluster = cluster.lock();
    let agreed = cluster.wait_for_agreement()?;
    cluster.check_running()?;
    target::mounts_work(cluster.mountpoint(0), cluster.mountpoint(1))
        .map_err(|why| FireError::Mounts { lab: lab.as_str(), why })?;
    cluster.fsck()?;
    let LabReport { runs, tally, time } = report;
    println!(
        "{}: passed {runs} times in {:.0} s; {} replicas killed meanwhile, the master {} times; all states equal at ({}, {}), the store clean",
        lab.as_str(),
        time.as_secs_f64(),
        tally.kills,
        tally.masters,
        agreed.viewstamp.view,
        agreed.viewstamp.seq,
    );
    Ok(())
}
