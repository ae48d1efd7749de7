//! How many commands the lock service does while a thousand sessions are kept alive.

use super::LeasesError;
use futures_util::future::try_join_all;
use lock_rsm::locks::{LockClient, LockClientOptions, Mode, NoHooks};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients that work, each in a session of its own.
const WORKERS: u64 = 16;
/// For so long, after the others have sent some keepalives.
const TIME: Duration = Duration::from_secs(10);
/// Locks of this measurement begin here; none of the file system's is below 2^20.
const FIRST_LOCK: u64 = 600_000;
/// So many sessions are opened at once.
const AT_ONCE: usize = 50;

/// A measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Sessions that do nothing but live.
    pub idle: usize,
    /// Locks taken and given back in a second by 16 clients that keep none.
    pub pairs_per_second: f64,
    /// Half of all took less (milliseconds).
    pub median_ms: f64,
    /// And 99 of 100 less than this.
    pub p99_ms: f64,
    /// Idle sessions that were lost meanwhile, which none should be.
    pub lost: usize,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { pairs_per_second, median_ms, p99_ms, lost, .. } = self;
        write!(f, "{pairs_per_second:.0} locks taken and given back a second by {WORKERS} clients ")?;
        write!(f, "(median {median_ms:.2} ms, p99 {p99_ms:.2} ms), {lost} sessions lost")
    }
}

/// Measures with `idle` more sessions.
pub async fn measure(locks: &[String], idle: usize) -> Result<Measured, LeasesError> {
    let mut sleepers = Vec::new();
    while sleepers.len() < idle {
        let more = AT_ONCE.min(idle - sleepers.len());
        sleepers.extend(try_join_all((0..more).map(|_| connect(locks, true))).await?);
    }
    let before: Vec<u64> = sleepers.iter().map(LockClient::session).collect();
    let workers = try_join_all((0..WORKERS).map(|_| connect(locks, false))).await?;
    let began = Instant::now();
    let work =
        workers.iter().zip(FIRST_LOCK..).map(|(client, lock)| work(client.clone(), lock, began + TIME));
    let mut times: Vec<f64> = try_join_all(work.map(tokio::spawn))
        .await
        .expect("no worker panics")
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let seconds = began.elapsed().as_secs_f64();
    let lost = sleepers.iter().zip(&before).filter(|(client, session)| client.session() != **session).count();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN);
    let measured = Measured {
        idle,
        pairs_per_second: times.len() as f64 / seconds,
        median_ms: at(50),
        p99_ms: at(99),
        lost,
    };
    for chunk in workers.into_iter().chain(sleepers).collect::<Vec<_>>().chunks(AT_ONCE) {
        try_join_all(chunk.iter().cloned().map(LockClient::close)).await?;
    }
    Ok(measured)
}

async fn connect(locks: &[String], cache: bool) -> Result<LockClient, LeasesError> {
    let options = LockClientOptions { cache, ..LockClientOptions::default() };
    Ok(LockClient::connect(locks, options, Arc::new(NoHooks)).await?)
}

/// Takes and drops a lock of its own until then; the milliseconds of each.
async fn work(client: LockClient, lock: u64, until: Instant) -> Result<Vec<f64>, LeasesError> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        drop(client.acquire(&[(lock, Mode::Exclusive)]).await?);
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}
