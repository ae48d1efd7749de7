//! What leases cost others: how long a frozen client, a dead one, or a dead server is in the way, and how much of the
//! lock service a thousand idle sessions take.

pub mod frozen;
pub mod pauses;
pub mod report;
pub mod sessions;

use crate::binaries::Binaries;
use crate::cluster::{Cluster, ClusterError, Options};
use report::Report;
use std::io;
use std::path::Path;

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum LeasesError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A call on a mount.
    #[error("{what}: {source}")]
    Call {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The lock client.
    #[error(transparent)]
    Lock(#[from] lock_rsm::locks::LockError),
    /// It took too long.
    #[error("{0} took longer than a minute")]
    Slow(String),
}

impl LeasesError {
    fn call(what: impl Into<String>) -> impl FnOnce(io::Error) -> LeasesError {
        let what = what.into();
        move |source| LeasesError::Call { what, source }
    }
}

/// Measures everything with a cluster below `dir`: three replicas, three mounts, all timers as they are by default. Must be
/// called where a thread may block, in a runtime.
pub async fn measure(binaries: &Binaries, dir: &Path, trials: usize) -> Result<Report, LeasesError> {
    let mut report = Report::new(trials);
    let options = Options { mounts: 3, ..Options::default() };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(binaries, dir, &options))?;
    tokio::task::block_in_place(|| -> Result<(), LeasesError> {
        for i in 0..trials {
            let seconds = frozen::measure(&mut cluster, i)?;
            println!("frozen holder {}: another mount gets on after {seconds:.2} s", i + 1);
            report.frozen.push(seconds);
        }
        for victim in pauses::Victim::ALL {
            for i in 0..trials {
                let seconds = pauses::measure(&mut cluster, victim, i)?;
                println!("killed {victim} {}: longest pause of the others {seconds:.2} s", i + 1);
                report.pauses.entry(victim.name()).or_default().push(seconds);
            }
        }
        Ok(())
    })?;
    for idle in [0, 1000] {
        let measured = sessions::measure(cluster.locks(), idle).await?;
        println!("{idle} idle sessions: {measured}");
        report.sessions.push(measured);
    }
    tokio::task::block_in_place(|| cluster.stop())?;
    report.load_average_after();
    Ok(report)
}
