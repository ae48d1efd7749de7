//! Members come and go: joining under load, removal, return with and without the disk.

#![allow(clippy::unwrap_used, reason = "test code")]

mod rsm_support;

use lock_rsm::rsm::{Limits, ReplicaOptions, RsmClient, RsmClientOptions};
use rsm_support::{ADD, GET, Group, PATIENCE, PUT, eventually};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Short enough for a test, long enough for a busy machine.
const REMOVE_AFTER: Duration = Duration::from_secs(2);

/// Adds one again and again until told to stop; returns how often.
fn load(client: RsmClient) -> (Arc<AtomicBool>, Arc<AtomicU64>, tokio::task::JoinHandle<u64>) {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
    let adding = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
        counted.load(Ordering::Relaxed)
    });
    (stop, done, adding)
}

async fn progress(done: &AtomicU64, by: u64) {
    let from = done.load(Ordering::Relaxed);
    eventually("progress", || (done.load(Ordering::Relaxed) >= from + by).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_grows_under_load_and_outlives_its_founder() {
    let limits = Limits { snapshot_after_entries: 64, ..Limits::default() };
    let mut group = Group::lone(3, limits).await;
    // The client knows the founder only.
    let client = RsmClient::connect(&group.addresses()[..1], RsmClientOptions::default()).await.unwrap();
    for n in 0..20u64 {
        client.invoke::<_, ()>(PUT, &(n, vec![7u8; 512 << 10]), PATIENCE).await.unwrap();
    }
    let (stop, done, adding) = load(client);
    progress(&done, 100).await;
    group.start_one(1).await;
    group.until_members(&[0, 1]).await;
    progress(&done, 100).await;
    group.start_one(2).await;
    group.until_members(&[0, 1, 2]).await;
    progress(&done, 100).await;
    group.check_views_equal(&[0, 1, 2]).await;
    group.kill(0).await;
    progress(&done, 100).await;
    group.until_members(&[1, 2]).await;
    progress(&done, 100).await;
    stop.store(true, Ordering::Relaxed);
    let added = adding.await.unwrap();
    let sum: u64 = group.client().await.invoke(GET, &(), PATIENCE).await.unwrap();
    assert_eq!(sum, added);
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_silent_are_removed_and_return_with_their_disk() {
    let mut group = Group::start_removing(3, REMOVE_AFTER).await;
    let client = group.client().await;
    client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    for victim in [2, 0] {
        group.kill(victim).await;
        let rest: Vec<usize> = (0..3).filter(|i| *i != victim).collect();
        group.until_member_set(&rest).await;
        client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
        group.start_one(victim).await;
        group.until_member_set(&[0, 1, 2]).await;
        client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
        group.check_equal().await;
    }
    let sum: u64 = client.invoke(GET, &(), PATIENCE).await.unwrap();
    assert_eq!(sum, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_disk_returns_as_a_new_member() {
    let mut group = Group::start(3).await;
    let client = group.client().await;
    client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    group.kill(1).await;
    std::fs::remove_dir_all(&group.places[1].data).unwrap();
    group.start_one(1).await;
    group.until_members(&[0, 2, 1]).await;
    group.check_equal().await;
    // Its vote counts again.
    group.kill(0).await;
    assert_eq!(client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_join_at_once() {
    let mut group = Group::lone(3, Limits::default()).await;
    let client = group.client().await;
    client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    group.start_all().await;
    group.until_member_set(&[0, 1, 2]).await;
    group.check_equal().await;
    assert_eq!(client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap(), 2);
}

/// A client that was given the first members only goes on when every one of them has been replaced by another one.
#[tokio::test(flavor = "multi_thread")]
async fn clients_follow_a_group_whose_members_are_all_replaced() {
    let mut group = Group::lone(6, Limits::default()).await;
    group.remove_after = Some(REMOVE_AFTER);
    for i in [1, 2] {
        group.start_one(i).await;
    }
    group.until_member_set(&[0, 1, 2]).await;
    let client = RsmClient::connect(&group.addresses()[..1], RsmClientOptions::default()).await.unwrap();
    let (stop, done, adding) = load(client);
    for old in 0..3 {
        progress(&done, 50).await;
        group.kill(old).await;
        group.until_member_set(&(old + 1..old + 3).collect::<Vec<_>>()).await;
        group.start_one(old + 3).await;
        group.until_member_set(&(old + 1..old + 4).collect::<Vec<_>>()).await;
    }
    progress(&done, 50).await;
    stop.store(true, Ordering::Relaxed);
    let added = adding.await.unwrap();
    group.check_equal().await;
    assert_eq!(group.places[5].running.as_ref().unwrap().1.sum(), added);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_none_goes_on_alone() {
    let mut group = Group::start_removing(2, Duration::from_millis(500)).await;
    let client = group.client().await;
    client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap();
    group.kill(1).await;
    let alone = group.replica(0).clone();
    eventually("the master to notice", || (!alone.am_master()).then_some(())).await;
    let late = client.invoke::<_, u64>(ADD, &1u64, Duration::from_secs(2)).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(alone.view().members.len(), 2);
    group.start_one(1).await;
    let sum: u64 = client.invoke(GET, &(), PATIENCE).await.unwrap();
    assert!((1..=2).contains(&sum), "{sum}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_not_removed_for_the_length_of_an_election() {
    let dir = tempfile::tempdir().unwrap();
    let address = rsm_support::free_addresses(1).remove(0);
    let options = ReplicaOptions {
        remove_after: Some(Duration::from_millis(400)),
        ..ReplicaOptions::new(&address, &address, std::slice::from_ref(&address), dir.path())
    };
    let refused = rsm_support::start_replica(options).await.err().unwrap().to_string();
    assert!(refused.contains("--remove-after") && refused.contains("450 ms"), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was begun");
}
