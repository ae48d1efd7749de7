//! Replicated writes by clients that each have one in flight, a connection and an identity of their own.

use super::RsmBenchError;
use super::group::Group;
use super::latency::{Measured, nanos};
use super::register::{PUT, put};
use lock_rsm::rsm::{RsmClient, RsmClientOptions, RsmError};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Barrier;

/// Bytes of a value.
const VALUE_LEN: usize = 100;
/// Writes of each client before the clock runs.
const WARM_UP: usize = 20;
/// A write may take so long before it counts as an error.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Processor time of one operation, in microseconds, user and system: comparable on a busy machine too.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CpuPerOp {
    /// Of the three replicas together.
    pub replicas_us: f64,
    /// Of the process with all clients in it.
    pub clients_us: f64,
}

/// What `clients` clients get done in `time`.
pub async fn measure(
    group: &Group,
    clients: usize,
    time: Duration,
) -> Result<(Measured, CpuPerOp), RsmBenchError> {
    let barrier = Arc::new(Barrier::new(clients + 1));
    let mut tasks = Vec::new();
    for key in 0..clients as u64 {
        let client = RsmClient::connect(group.addresses(), RsmClientOptions::default()).await?;
        tasks.push(tokio::spawn(one(client, key, barrier.clone(), time)));
    }
    barrier.wait().await;
    let (began, cpu_before) = (Instant::now(), cpu(group));
    let mut all = Vec::new();
    let mut failed = None;
    for task in tasks {
        match task.await.expect("a client does not panic") {
            Ok(times) => all.extend(times),
            Err(error) => failed = Some(error),
        }
    }
    let (ran, cpu_after) = (began.elapsed(), cpu(group));
    match failed {
        Some(error) => Err(error.into()),
        None => {
            let each = |after: Duration, before: Duration| {
                after.saturating_sub(before).as_secs_f64() * 1e6 / all.len().max(1) as f64
            };
            let cpu = CpuPerOp {
                replicas_us: each(cpu_after.0, cpu_before.0),
                clients_us: each(cpu_after.1, cpu_before.1),
            };
            Ok((Measured::new(all, ran), cpu))
        }
    }
}

async fn one(
    client: RsmClient,
    key: u64,
    barrier: Arc<Barrier>,
    time: Duration,
) -> Result<Vec<u64>, RsmError> {
    let args = bytes::Bytes::from(put(key, &[b'x'; VALUE_LEN]));
    let mut warm = Ok(());
    for _ in 0..WARM_UP {
        warm = client.invoke_raw(PUT, args.clone(), TIMEOUT).await.map(drop);
        if warm.is_err() {
            break;
        }
    }
    barrier.wait().await; // also after a failure: the others wait here
    warm?;
    let mut times = Vec::with_capacity(1 << 16);
    let began = Instant::now();
    while began.elapsed() < time {
        let asked = Instant::now();
        client.invoke_raw(PUT, args.clone(), TIMEOUT).await?;
        times.push(nanos(asked.elapsed()));
    }
    Ok(times)
}

/// Processor time so far: of the replicas, and of this process.
fn cpu(group: &Group) -> (Duration, Duration) {
    let replicas = group.pids().into_iter().map(cpu_of).sum();
    (replicas, cpu_of(std::process::id()))
}

/// User and system time of a process; nothing when it is gone.
fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // SAFETY: sysconf takes a number and returns one.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    Duration::from_secs_f64(cpu_ticks(&stat).unwrap_or(0) as f64 / per_second)
}

/// Fields 14 and 15 of `/proc/PID/stat`; the name in field 2 may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "42 (a) name) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 9 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks(""), None);
    }
}
