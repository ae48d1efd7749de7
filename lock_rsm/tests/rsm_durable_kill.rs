//! All replicas are killed at once, again and again, at random moments under load, while they take snapshots and drop the
//! log they cover. Everything acknowledged is there afterwards, exactly once, and all states are equal.
//!
//! `DURABLE_SEED` repeats the moments of a run; `DURABLE_ROUNDS` has it run longer.

#![allow(clippy::unwrap_used, reason = "test code")]

mod durable_support;

use durable_support::{Group, Holder, check_ids};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 4;
/// Commands after which a replica takes a snapshot: many in one run.
const SNAPSHOT_AFTER: u64 = 40;
/// What the clients do at the least between two kills.
const STEPS_MIN: usize = 60;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Moments(u64);

impl Moments {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

async fn work(mut holder: Holder, done: Arc<AtomicUsize>, over: Arc<AtomicBool>) -> Holder {
    while !over.load(Ordering::Relaxed) {
        holder.step().await;
        done.fetch_add(1, Ordering::Relaxed);
    }
    holder
}

async fn wait_for(done: &AtomicUsize, steps: usize) {
    let deadline = Instant::now() + 2 * durable_support::PATIENCE;
    while done.load(Ordering::Relaxed) < steps {
        assert!(Instant::now() < deadline, "the clients do not go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_all_at_once_they_have_everything_acknowledged() {
    let seed = from_env("DURABLE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = from_env("DURABLE_ROUNDS").unwrap_or(4);
    println!("DURABLE_SEED={seed}");
    let mut moments = Moments(seed);
    let mut group = Group::new(SNAPSHOT_AFTER);
    group.start_all();
    let (done, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut working = Vec::new();
    for number in 1..=CLIENTS {
        let holder = Holder::new(&group.addresses(), number).await;
        working.push(tokio::spawn(work(holder, Arc::clone(&done), Arc::clone(&over))));
    }
    for _ in 0..rounds {
        wait_for(&done, done.load(Ordering::Relaxed) + STEPS_MIN).await;
        // The moment of the kill within a commit, a snapshot, a compaction.
        tokio::time::sleep(Duration::from_micros(moments.below(400_000))).await;
        group.kill_all();
        group.start_all();
    }
    wait_for(&done, done.load(Ordering::Relaxed) + STEPS_MIN).await;
    over.store(true, Ordering::Relaxed);
    let mut holders = Vec::new();
    for working in working {
        holders.push(working.await.unwrap());
    }
    check_ids(&holders.iter().map(|holder| &holder.ledger).collect::<Vec<_>>());
    for holder in &holders {
        holder.check().await;
    }
    group.agree(&[0, 1, 2]).await;
    for place in &group.places {
        let snapshots: Vec<_> = std::fs::read_dir(place.data.join("snapshots"))
            .unwrap()
            .map(|file| u64::from_str_radix(file.unwrap().file_name().to_str().unwrap(), 16).unwrap())
            .collect();
        assert!(snapshots.iter().any(|generation| *generation > rounds), "too few snapshots: {snapshots:?}");
    }
    println!("{} steps, {rounds} kills of all", done.load(Ordering::Relaxed));
}
