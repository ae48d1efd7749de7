//! What very many held locks cost a replica.

use super::RsmBenchError;
use super::group::{Group, Program};
use super::io_at;
use crate::binaries::Binaries;
use lock_rsm::locks::{LockClient, LockClientOptions, LockId, Mode, NoHooks};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Clients that share the locks among them.
const CLIENTS: u64 = 10;
/// Locks asked for at once.
const BATCH: u64 = 2000;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// Locks held.
    pub locks: u64,
    /// Seconds to acquire them all.
    pub seconds: f64,
    /// Resident memory of each replica then, in MB.
    pub resident_mb: Vec<f64>,
    /// The most each ever had, in MB.
    pub peak_mb: Vec<f64>,
    /// Seconds until a replica that was killed and started again had caught up.
    pub restart_seconds: f64,
}

/// Has clients hold `locks` locks, and looks at the replicas.
pub async fn measure(binaries: &Binaries, dir: &Path, locks: u64) -> Result<Held, RsmBenchError> {
    let mut group = Group::start(Program::Locks, binaries, dir).await?;
    let began = Instant::now();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        clients.push(hold(&group, client, locks / CLIENTS).await?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let master = group.whole().await?;
    let resident_mb = memory(&group, "VmRSS:")?;
    let peak_mb = memory(&group, "VmHWM:")?;
    let slave = (master + 1) % 3;
    tokio::task::block_in_place(|| group.kill(slave));
    let began = Instant::now();
    group.start_replica(slave)?;
    group.whole().await?;
    let restart_seconds = began.elapsed().as_secs_f64();
    drop(clients); // their sessions end with the group
    tokio::task::block_in_place(|| group.stop())?;
    Ok(Held { locks: locks / CLIENTS * CLIENTS, seconds, resident_mb, peak_mb, restart_seconds })
}

async fn hold(group: &Group, client: u64, locks: u64) -> Result<LockClient, RsmBenchError> {
    let options = LockClientOptions { idle_max: usize::MAX, ..LockClientOptions::default() };
    let holder = LockClient::connect(group.addresses(), options, Arc::new(NoHooks)).await?;
    let first: LockId = (client + 1) << 32;
    let mut next = 0;
    while next < locks {
        let end = (next + BATCH).min(locks);
        let wants: Vec<_> = (next..end).map(|i| (first + i, Mode::Exclusive)).collect();
        drop(holder.acquire(&wants).await?); // kept: cached until somebody else wants it
        next = end;
    }
    Ok(holder)
}

/// A figure of `/proc/PID/status` for each replica, in MB.
fn memory(group: &Group, field: &str) -> Result<Vec<f64>, RsmBenchError> {
    let of = |pid: u32| {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).map_err(io_at(format!("reading {path}")))?;
        Ok(kilobytes(&status, field).unwrap_or(f64::NAN) / 1024.0)
    };
    group.pids().into_iter().map(of).collect()
}

fn kilobytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "Name:\tlock_server\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1024.0));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }
}
