//! How long a client that wants a lock waits when the master was just killed.

use crate::cluster::{Cluster, ClusterError};
use lock_rsm::locks::{LockClient, LockClientOptions, LockError, Mode, NoHooks};
use std::sync::Arc;
use std::time::Instant;

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum FailOverError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The client got no lock.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Kills the master `times` times; returns the milliseconds from each kill to the next lock acquired.
pub async fn measure(
    cluster: &mut Cluster,
    times: usize,
    mut progress: impl FnMut(usize, f64),
) -> Result<Vec<f64>, FailOverError> {
    let client =
        LockClient::connect(cluster.locks(), LockClientOptions::default(), Arc::new(NoHooks)).await?;
    let mut all = Vec::new();
    for i in 0..times {
        let master = tokio::task::block_in_place(|| {
            cluster.wait_for_agreement()?;
            cluster.wait_for_master()
        })?;
        // A lock never asked for before, each time: the master must be asked. None of the file system's is below 2^20.
        let lock = |k: usize| 500_000 + (2 * i + k) as u64;
        drop(client.acquire(&[(lock(0), Mode::Exclusive)]).await?);
        let began = Instant::now();
        tokio::task::block_in_place(|| cluster.kill_replica(master));
        drop(client.acquire(&[(lock(1), Mode::Exclusive)]).await?);
        let ms = began.elapsed().as_secs_f64() * 1e3;
        progress(i, ms);
        all.push(ms);
        tokio::task::block_in_place(|| cluster.start_replica(master))?;
    }
    client.close().await?;
    Ok(all)
}
