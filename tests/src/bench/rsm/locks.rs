//! What one lock costs: asked for the first time, given back each time, cached, and handed from client to client.

use super::RsmBenchError;
use super::latency::{Measured, nanos};
use lock_rsm::locks::{LockClient, LockClientOptions, LockError, LockId, Mode, NoHooks};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Acquisitions of a cached lock in one series.
const CACHED: u32 = 1_000_000;
/// The lock that is given back each time, the cached one, and the contended one.
const GIVEN_BACK: LockId = 1;
const KEPT: LockId = 2;
const CONTENDED: LockId = 3;
/// Locks never asked for before start here.
const FRESH: LockId = 1000;

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Locks {
    /// A lock never asked for before, each time: acquire and release, which leaves it cached.
    pub first: Measured,
    /// The same lock again and again with caching off: acquire and give back.
    pub given_back: Measured,
    /// A cached lock: acquire and release, in nanoseconds.
    pub cached_ns: f64,
    /// One lock, which each of two clients asks for as soon as the other has it: how often a second it changes hands.
    pub hand_overs: f64,
    /// How often two clients held it at once. Anything but 0 is a fault.
    pub broken: u64,
}

/// Measures each for `time`.
pub async fn measure(addresses: &[String], time: Duration) -> Result<Locks, RsmBenchError> {
    let (a, b) = (connect(addresses, true).await?, connect(addresses, true).await?);
    let without = connect(addresses, false).await?;
    let first = first(&a, time).await?;
    let given_back = again(&without, time).await?;
    let cached_ns = cached(&a).await?;
    let (hand_overs, broken) = hand_over(&a, &b, time).await?;
    for client in [a, b, without] {
        client.close().await?;
    }
    Ok(Locks { first, given_back, cached_ns, hand_overs, broken })
}

async fn connect(addresses: &[String], cache: bool) -> Result<LockClient, LockError> {
    let options = LockClientOptions { cache, ..LockClientOptions::default() };
    LockClient::connect(addresses, options, Arc::new(NoHooks)).await
}

async fn first(client: &LockClient, time: Duration) -> Result<Measured, LockError> {
    let mut next = FRESH;
    series(client, time, || {
        next += 1;
        next
    })
    .await
}

async fn again(client: &LockClient, time: Duration) -> Result<Measured, LockError> {
    series(client, time, || GIVEN_BACK).await
}

async fn series(
    client: &LockClient,
    time: Duration,
    mut which: impl FnMut() -> LockId,
) -> Result<Measured, LockError> {
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let asked = Instant::now();
        drop(client.acquire(&[(which(), Mode::Exclusive)]).await?);
        times.push(nanos(asked.elapsed()));
    }
    Ok(Measured::new(times, began.elapsed()))
}

async fn cached(client: &LockClient) -> Result<f64, LockError> {
    drop(client.acquire(&[(KEPT, Mode::Exclusive)]).await?);
    let began = Instant::now();
    for _ in 0..CACHED {
        drop(client.acquire(&[(KEPT, Mode::Exclusive)]).await?);
    }
    Ok(began.elapsed().as_nanos() as f64 / f64::from(CACHED))
}

/// Two clients that take turns with one lock: each asks for it as soon as the other one has it. Changes of hand a second,
/// and how often both had it.
async fn hand_over(a: &LockClient, b: &LockClient, time: Duration) -> Result<(f64, u64), LockError> {
    let table = Arc::new(Table { inside: AtomicU64::new(0), broken: AtomicU64::new(0) });
    let turns = watch::Sender::new(0);
    let began = Instant::now();
    let tasks: Vec<_> = [a, b]
        .into_iter()
        .zip(0..)
        .map(|(client, who)| {
            tokio::spawn(take_turns(client.clone(), who, turns.clone(), table.clone(), began + time))
        })
        .collect();
    for task in tasks {
        task.await.expect("a contender does not panic")?;
    }
    let rate = *turns.borrow() as f64 / began.elapsed().as_secs_f64();
    Ok((rate, table.broken.load(Ordering::SeqCst)))
}

struct Table {
    inside: AtomicU64,
    broken: AtomicU64,
}

/// Client `who` of two takes every turn whose number leaves `who` when divided by two.
async fn take_turns(
    client: LockClient,
    who: u64,
    turns: watch::Sender<u64>,
    table: Arc<Table>,
    until: Instant,
) -> Result<(), LockError> {
    let mut news = turns.subscribe();
    let over = || Instant::now() >= until;
    loop {
        let mine = news.wait_for(|turn| turn % 2 == who || over()).await;
        mine.expect("the sender is held here");
        if over() {
            turns.send_modify(|_| {}); // the other one may be waiting for a turn of ours
            return Ok(());
        }
        let guard = client.acquire(&[(CONTENDED, Mode::Exclusive)]).await?;
        if table.inside.fetch_add(1, Ordering::SeqCst) != 0 {
            table.broken.fetch_add(1, Ordering::SeqCst);
        }
        turns.send_modify(|turn| *turn += 1);
        table.inside.fetch_sub(1, Ordering::SeqCst);
        drop(guard);
    }
}
