//! Groups of replicas in one process: invoking, failing over, restarting, catching up.

#![allow(clippy::unwrap_used, reason = "test code")]

mod rsm_support;

use futures_util::future::join_all;
use lock_rsm::rsm::{Limits, RsmClient, RsmClientOptions, RsmError};
use rsm_support::{ADD, GET, Group, ONCE, PATIENCE, PUT, WHERE, eventually, free_addresses, start_replica};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_execute_in_the_same_order() {
    let group = Group::start(3).await;
    assert_eq!(group.master().await, 0, "the designated master begins");
    let client = group.client().await;
    for by in 1..=10u64 {
        let sum: u64 = client.invoke(ADD, &by, PATIENCE).await.unwrap();
        assert_eq!(sum, (1..=by).sum());
    }
    let (who, at): (u64, (u64, u64)) = client.invoke(WHERE, &(), PATIENCE).await.unwrap();
    let (_, later): (u64, (u64, u64)) = client.invoke(WHERE, &(), PATIENCE).await.unwrap();
    assert_eq!(who, client.id());
    assert!(later > at);
    group.check_equal().await;
    let view = client.view().await.unwrap();
    assert_eq!(view.members, group.addresses());
    assert_eq!(view.master.as_ref(), Some(&group.addresses()[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_works() {
    let mut group = Group::start(1).await;
    let client = group.client().await;
    assert_eq!(client.invoke::<_, u64>(ADD, &5u64, PATIENCE).await.unwrap(), 5);
    group.shutdown(0).await;
    group.start_one(0).await;
    assert_eq!(client.invoke::<_, u64>(GET, &(), PATIENCE).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_the_caller_as_what_they_are() {
    let group = Group::start(1).await;
    let client = group.client().await;
    let unknown = client.invoke::<_, u64>(99, &(), PATIENCE).await;
    assert!(matches!(unknown, Err(RsmError::NoSuchProc(99))), "{unknown:?}");
    let bad = client.invoke::<_, u64>(ADD, &"five", PATIENCE).await;
    assert!(matches!(bad, Err(RsmError::BadArgs(ADD))), "{bad:?}");
    let reply = client.invoke::<_, String>(ADD, &5u64, PATIENCE).await;
    assert!(matches!(reply, Err(RsmError::BadReply(_))), "{reply:?}");
    let large = client.invoke::<_, ()>(PUT, &(1u64, vec![0u8; 5 << 20]), PATIENCE).await;
    assert!(matches!(large, Err(RsmError::TooLarge(PUT))), "{large:?}");
    assert_eq!(client.invoke::<_, u64>(GET, &(), PATIENCE).await.unwrap(), 5);
}

/// What concurrent clients did to the counter.
#[derive(Default)]
struct Tally {
    attempted: AtomicU64,
    acknowledged: AtomicU64,
}

/// Adds one under a token of its own again and again until told to stop. `ONCE` refuses a token it has seen, so that an
/// execution that happened twice fails the test here.
async fn count(client: RsmClient, tally: Arc<Tally>, stop: Arc<AtomicBool>, tokens: Arc<AtomicU64>) {
    let mut highest = 0;
    while !stop.load(Ordering::Relaxed) {
        let token = tokens.fetch_add(1, Ordering::Relaxed);
        tally.attempted.fetch_add(1, Ordering::Relaxed);
        let sum: u64 = client.invoke(ONCE, &token, PATIENCE).await.unwrap();
        assert!(sum > highest, "a later increment gives a greater sum");
        highest = sum;
        tally.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_executed_once_while_masters_die() {
    let mut group = Group::start(3).await;
    let tally = Arc::new(Tally::default());
    let stop = Arc::new(AtomicBool::new(false));
    let tokens = Arc::new(AtomicU64::new(0));
    let mut counting = Vec::new();
    for _ in 0..4 {
        let client = group.client().await;
        for _ in 0..4 {
            counting.push(tokio::spawn(count(
                client.clone(),
                Arc::clone(&tally),
                Arc::clone(&stop),
                Arc::clone(&tokens),
            )));
        }
    }
    for round in 0..4 {
        let master = group.master().await;
        progress(&tally, 200).await;
        if round % 2 == 0 {
            group.kill(master).await;
        } else {
            group.shutdown(master).await;
        }
        progress(&tally, 200).await;
        group.start_one(master).await;
    }
    stop.store(true, Ordering::Relaxed);
    for counted in join_all(counting).await {
        counted.unwrap();
    }
    let client = group.client().await;
    let sum: u64 = client.invoke(GET, &(), PATIENCE).await.unwrap();
    let (attempted, acknowledged) = (&tally.attempted, &tally.acknowledged);
    assert_eq!(attempted.load(Ordering::Relaxed), acknowledged.load(Ordering::Relaxed), "nobody gave up");
    assert_eq!(sum, acknowledged.load(Ordering::Relaxed));
    group.check_equal().await;
}

async fn progress(tally: &Tally, by: u64) {
    let from = tally.acknowledged.load(Ordering::Relaxed);
    eventually("progress", || (tally.acknowledged.load(Ordering::Relaxed) >= from + by).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_slave_is_not_missed_and_catches_up() {
    let mut group = Group::start(3).await;
    let client = group.client().await;
    group.kill(2).await;
    for _ in 0..50 {
        client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    }
    group.start_one(2).await;
    group.check_equal().await;
    assert_eq!(group.places[2].running.as_ref().unwrap().1.sum(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_everybody_loses_nothing() {
    let mut group = Group::start(3).await;
    let client = group.client().await;
    for kill in [true, false] {
        for _ in 0..20 {
            client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
        }
        for i in 0..3 {
            if kill { group.kill(i).await } else { group.shutdown(i).await }
        }
        group.start_all().await;
    }
    assert_eq!(client.invoke::<_, u64>(GET, &(), PATIENCE).await.unwrap(), 40);
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laggard_gets_a_snapshot() {
    let limits = Limits { snapshot_after_entries: 8, ..Limits::default() };
    let mut group = Group::start_with(3, limits).await;
    let client = group.client().await;
    group.kill(2).await;
    // More than a master keeps of its log for those behind, and more than one piece of a snapshot.
    for n in 0..24u64 {
        let blob = vec![u8::try_from(n).unwrap(); 512 << 10];
        client.invoke::<_, ()>(PUT, &(n % 4, blob), PATIENCE).await.unwrap();
    }
    for _ in 0..20 {
        client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    }
    group.start_one(2).await;
    group.check_equal().await;
    let counter = &group.places[2].running.as_ref().unwrap().1;
    assert_eq!(counter.sum(), 20);
    assert!(counter.restored.load(Ordering::Relaxed) > 0, "it came by a snapshot");
    // And it can serve from what it got, alone with one other.
    group.kill(0).await;
    assert_eq!(client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap(), 21);
    // Its own disk has it too.
    group.kill(2).await;
    group.start_one(2).await;
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_one_replica_and_one_address() {
    let group = Group::start(1).await;
    let in_use = start_replica(group.options(0)).await.err().unwrap();
    assert!(in_use.to_string().contains("is in use by another process"), "{in_use}");
    let mut group = group;
    group.shutdown(0).await;
    let mut options = group.options(0);
    options.me = free_addresses(1).remove(0);
    options.master.clone_from(&options.me);
    options.members = vec![options.me.clone()];
    let other = start_replica(options).await.err().unwrap();
    assert!(other.to_string().contains("belongs to the replica"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_the_master_from_any_address() {
    let group = Group::start(3).await;
    let master = group.master().await;
    let slave = group.addresses()[(master + 1) % 3].clone();
    let dead = free_addresses(1).remove(0);
    for addresses in [vec![slave.clone()], vec![dead.clone(), slave]] {
        let client = RsmClient::connect(&addresses, RsmClientOptions::default()).await.unwrap();
        client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    }
    let options =
        RsmClientOptions { connect_timeout: Duration::from_millis(200), ..RsmClientOptions::default() };
    let nobody = RsmClient::connect(std::slice::from_ref(&dead), options).await.err().unwrap();
    assert!(matches!(nobody, RsmError::Unreachable { .. }), "{nobody:?}");
    assert!(nobody.to_string().contains(&dead), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_promised() {
    let mut group = Group::start(3).await;
    let client = group.client().await;
    client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    group.kill(1).await;
    group.kill(2).await;
    let alone = group.replica(0).clone();
    eventually("the master to notice", || (!alone.am_master()).then_some(())).await;
    assert!(!alone.push(client.id(), 1, bytes::Bytes::new()), "only a master speaks");
    let late = client.invoke::<_, u64>(ADD, &1u64, Duration::from_millis(500)).await;
    assert!(matches!(late, Err(RsmError::Timeout { .. })), "{late:?}");
    group.start_one(1).await;
    let sum: u64 = client.invoke(GET, &(), PATIENCE).await.unwrap();
    assert!((1..=2).contains(&sum), "the request without answer happened at most once: {sum}");
    group.start_one(2).await;
    group.check_equal().await;
}
