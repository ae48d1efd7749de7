//! Histories of real processes: three replicas that are killed, paused and started again, and clients in this process and
//! in others, some of which are paused too.

mod clients;
mod guards;
mod load;
mod lock_commands;
mod nemesis;
mod register_server;
mod registers;
mod servers;

pub use clients::run_as_client;
pub use load::{Kind, LoadError};
pub use nemesis::Tally;
pub use register_server::serve_registers;
pub use servers::{Program, Servers};

use super::{AnyHistory, Checked, Failure, FileError, Limits};
use crate::binaries::Binaries;
use crate::cluster::ClusterError;
use clients::Clients;
use load::Load;
use nemesis::Nemesis;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// When no client in this process has been answered anything for so long, something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Makes all choices.
    pub seed: u64,
    /// What the clients do, and thereby to which service.
    pub kind: Kind,
    /// At least so many faults.
    pub faults_min: usize,
    /// At least so many operations of the clients in this process.
    pub operations_min: usize,
    /// Something is made wrong, which is to be found out: registers are read at any replica from its own state; guards
    /// are believed in until they are dropped, whatever became of the lease.
    pub cheat: bool,
    /// So much is tried by the checker.
    pub limits: Limits,
}

impl Plan {
    /// The usual amounts. Guards wait for each other, and for the leases of clients that died, so they are fewer.
    pub fn new(kind: Kind, seed: u64) -> Plan {
        let limits = Limits { tries_max: 50_000_000 };
        let operations_min = if kind == Kind::Guards { 1000 } else { 5000 };
        Plan { seed, kind, faults_min: 15, operations_min, cheat: false, limits }
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The processes.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A client.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A history could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It does not get on.
    #[error("no operation was answered for {} s, after {operations} operations and {faults} faults", PATIENCE.as_secs())]
    Stuck {
        /// Of the clients in this process.
        operations: usize,
        /// So far.
        faults: usize,
    },
    /// What the run was for.
    #[error("{failure}\n(the history is kept; check it again with: yfs_linear check {})", file.display())]
    Check {
        /// What the check came to.
        failure: Failure,
        /// Where the history was written.
        file: PathBuf,
    },
}

/// A run that passed.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was done to the processes.
    pub tally: Tally,
    /// For each history what it is called, and what the check says.
    pub checked: Vec<(&'static str, Checked)>,
    /// How long the checks took.
    pub check_time: Duration,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, checked) in &self.checked {
            writeln!(f, "{name}: linearizable: {checked}")?;
        }
        write!(f, "{}; checked in {:.1} s", self.tally, self.check_time.as_secs_f64())
    }
}

/// Runs servers, clients and faults in `dir`, which exists, and checks what the clients saw. On failure the histories and
/// logs stay there.
pub async fn run(binaries: &Binaries, dir: &Path, plan: &Plan) -> Result<Report, RunError> {
    let began = Instant::now();
    let program = match plan.kind {
        Kind::Registers => Program::Registers { local_reads: plan.cheat },
        Kind::LockCommands => Program::Locks { lease: Duration::from_secs(10) },
        Kind::Guards => Program::Locks { lease: Duration::from_secs(1) },
    };
    let mut servers = Servers::start(binaries, dir, program).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let load = Load {
        kind: plan.kind,
        replicas: servers.addresses().to_vec(),
        seed: plan.seed,
        first_process: 1,
        cheat: plan.cheat,
        stop: Arc::clone(&stop),
        done: Arc::clone(&done),
    };
    let mut clients = Clients::start(binaries, dir, &load)?;
    let here = tokio::spawn(load.run());
    let mut nemesis = Nemesis::new(plan.seed, began, plan.kind == Kind::Guards);
    let mut outcome = Ok(());
    let mut progress = (0, Instant::now());
    while nemesis.tally().faults() < plan.faults_min || done.load(Ordering::Relaxed) < plan.operations_min {
        if here.is_finished() {
            break; // a client has failed, and says why below
        }
        let operations = done.load(Ordering::Relaxed);
        if operations > progress.0 {
            progress = (operations, Instant::now());
        }
        if progress.1.elapsed() > PATIENCE {
            outcome = Err(RunError::Stuck { operations, faults: nemesis.tally().faults() });
            break;
        }
        outcome = nemesis.strike(&mut servers, &mut clients).await.map_err(RunError::from);
        if outcome.is_err() {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    if outcome.is_err() {
        here.abort();
        outcome?;
    }
    let seen_here = here.await.expect("a client does not panic")?;
    let histories = clients.finish(seen_here).await?;
    servers.stop().await?;
    judge(dir, plan, histories, *nemesis.tally())
}

fn judge(dir: &Path, plan: &Plan, histories: Vec<AnyHistory>, tally: Tally) -> Result<Report, RunError> {
    let began = Instant::now();
    let mut checked = Vec::new();
    for history in histories {
        match history.check(&plan.limits) {
            Ok(good) => checked.push((history.name(), good)),
            Err(failure) => {
                let file = dir.join(format!("{}.json", history.name()));
                history.write(&file)?;
                return Err(RunError::Check { failure, file });
            }
        }
    }
    Ok(Report { tally, checked, check_time: began.elapsed() })
}
