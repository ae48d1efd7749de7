//! How long callers wait when the master is killed, and whether any of them sees an error.

use super::RsmBenchError;
use super::group::{Group, Program};
use crate::bench::report::median;
use crate::binaries::Binaries;
use lock_rsm::locks::{LockClient, LockClientOptions, LockId, Mode, NoHooks};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Callers beside the one that is timed.
const OTHERS: u64 = 2;

/// What the trials came to.
#[derive(Debug, Clone, Serialize)]
pub struct FailOvers {
    /// From each kill to the next lock acquired, in milliseconds.
    pub all_ms: Vec<f64>,
    /// Their median.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
    /// Errors that callers saw.
    pub errors: u64,
    /// Locks that were acquired meanwhile by all callers.
    pub acquired: u64,
}

/// Kills the master `trials` times, each time in a whole group, while callers acquire locks without pause.
pub async fn measure(
    binaries: &Binaries,
    dir: &Path,
    trials: usize,
    mut progress: impl FnMut(usize, f64),
) -> Result<FailOvers, RsmBenchError> {
    let mut group = Group::start(Program::Locks, binaries, dir).await?;
    let tally = Arc::new(Tally::default());
    let mut tasks = Vec::new();
    for caller in 1..=OTHERS {
        let client = connect(&group).await?;
        tasks.push(tokio::spawn(call(client, caller << 32, tally.clone())));
    }
    let timed = connect(&group).await?;
    let mut all_ms = Vec::new();
    for trial in 0..trials {
        let ms = one(&mut group, &timed, trial as LockId, &tally).await?;
        progress(trial, ms);
        all_ms.push(ms);
    }
    tally.enough.store(true, Ordering::Release);
    for task in tasks {
        task.await.expect("a caller does not panic");
    }
    timed.close().await?;
    tokio::task::block_in_place(|| group.stop())?;
    Ok(FailOvers {
        median_ms: median(&all_ms),
        worst_ms: all_ms.iter().copied().fold(0.0, f64::max),
        all_ms,
        errors: tally.errors.load(Ordering::Acquire),
        acquired: tally.acquired.load(Ordering::Acquire),
    })
}

#[derive(Default)]
struct Tally {
    /// The callers hold back while the group gathers itself between two trials.
    pause: AtomicBool,
    enough: AtomicBool,
    errors: AtomicU64,
    acquired: AtomicU64,
}

async fn connect(group: &Group) -> Result<LockClient, RsmBenchError> {
    Ok(LockClient::connect(group.addresses(), LockClientOptions::default(), Arc::new(NoHooks)).await?)
}

async fn call(client: LockClient, base: LockId, tally: Arc<Tally>) {
    let mut next = base;
    while !tally.enough.load(Ordering::Acquire) {
        if tally.pause.load(Ordering::Acquire) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await; // pacing, not waiting for anything
            continue;
        }
        next += 1;
        match client.acquire(&[(next, Mode::Exclusive)]).await {
            Ok(_) => tally.acquired.fetch_add(1, Ordering::AcqRel),
            Err(error) => {
                println!("a caller got an error: {error}");
                tally.errors.fetch_add(1, Ordering::AcqRel)
            }
        };
    }
    if let Err(error) = client.close().await {
        println!("a caller got an error: {error}");
        tally.errors.fetch_add(1, Ordering::AcqRel);
    }
}

/// One trial: milliseconds from the kill to the next lock acquired.
async fn one(group: &mut Group, timed: &LockClient, trial: u64, tally: &Tally) -> Result<f64, RsmBenchError> {
    tally.pause.store(true, Ordering::Release);
    let master = group.whole().await?;
    tally.pause.store(false, Ordering::Release);
    // Never asked for before, each time: the master must be asked.
    drop(timed.acquire(&[(2 * trial + 1, Mode::Exclusive)]).await?);
    let killed = Instant::now();
    tokio::task::block_in_place(|| group.kill(master));
    drop(timed.acquire(&[(2 * trial + 2, Mode::Exclusive)]).await?);
    let ms = killed.elapsed().as_secs_f64() * 1e3;
    group.start_replica(master)?;
    Ok(ms)
}
