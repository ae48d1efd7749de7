//! The lock service goes on when replicas die, and its clients see a pause at most.
#![allow(clippy::unwrap_used, reason = "test code may unwrap")]

mod lock_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use lock_rsm::locks::{LockClient, Mode};
use lock_support::{Group, eventually};

const LEASE: Duration = Duration::from_secs(10);

/// Clients that compete for locks 1 and 2 until told to stop, and count.
struct Competition {
    clients: Vec<LockClient>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl Competition {
    async fn start(group: &Group) -> Competition {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (writers, readers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (mut clients, mut tasks) = (Vec::new(), Vec::new());
        for c in 0..4 {
            let client = group.client(&format!("competitor {c}")).await;
            clients.push(client.clone());
            for t in 0..2 {
                let (client, stop, rounds) = (client.clone(), stop.clone(), rounds.clone());
                let (writers, readers) = (writers.clone(), readers.clone());
                tasks.push(tokio::spawn(async move {
                    for round in c + t.. {
                        if stop.load(SeqCst) {
                            return;
                        }
                        let mode = if round % 3 == 0 { Mode::Shared } else { Mode::Exclusive };
                        let guard = client.acquire(&[(1, mode), (2, Mode::Shared)]).await.unwrap();
                        assert!(!guard.is_void());
                        if mode == Mode::Exclusive {
                            assert_eq!(writers.fetch_add(1, SeqCst), 0, "two writers");
                            assert_eq!(readers.load(SeqCst), 0, "a writer among readers");
                            tokio::task::yield_now().await;
                            writers.fetch_sub(1, SeqCst);
                        } else {
                            readers.fetch_add(1, SeqCst);
                            assert_eq!(writers.load(SeqCst), 0, "a reader beside a writer");
                            tokio::task::yield_now().await;
                            readers.fetch_sub(1, SeqCst);
                        }
                        drop(guard);
                        rounds.fetch_add(1, SeqCst);
                    }
                }));
            }
        }
        Competition { clients, tasks, stop, rounds }
    }

    /// Waits until `count` more rounds have been won.
    async fn go_on(&self, count: u64) {
        let until = self.rounds.load(SeqCst) + count;
        eventually("more rounds", || (self.rounds.load(SeqCst) >= until).then_some(())).await;
    }

    async fn end(self) {
        self.stop.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        for client in self.clients {
            assert_eq!(client.stats().sessions, 1, "nobody lost its session");
            client.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_stay_exclusive_when_the_master_dies_and_comes_back() {
    let mut group = Group::with_lease(LEASE).await;
    let competition = Competition::start(&group).await;
    for _ in 0..2 {
        competition.go_on(50).await;
        let master = group.master().await;
        group.kill(master).await;
        competition.go_on(50).await;
        group.restart(master).await;
    }
    competition.end().await;
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_told_to_stop_hands_over() {
    let mut group = Group::with_lease(LEASE).await;
    let competition = Competition::start(&group).await;
    competition.go_on(50).await;
    let master = group.master().await;
    group.shutdown(master).await;
    competition.go_on(50).await;
    competition.end().await;
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slave_may_die_without_anybody_noticing() {
    let mut group = Group::with_lease(LEASE).await;
    let competition = Competition::start(&group).await;
    competition.go_on(20).await;
    let master = group.master().await;
    group.kill((master + 1) % 3).await;
    competition.go_on(50).await;
    competition.end().await;
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_repeats_what_the_old_one_may_not_have_said() {
    let mut group = Group::with_lease(Duration::from_secs(2)).await;
    let (a, b) = (group.client("holder").await, group.client("waiter").await);
    let guard = a.acquire(&[(1, Mode::Exclusive)]).await.unwrap();
    let waiting = tokio::spawn({
        let b = b.clone();
        async move { b.acquire(&[(1, Mode::Exclusive)]).await.map(drop) }
    });
    eventually("the first revoke", || (a.stats().revokes > 0).then_some(())).await;
    let master = group.master().await;
    group.kill(master).await;
    let before = a.stats().revokes;
    eventually("the revoke of the new master", || (a.stats().revokes > before).then_some(())).await;
    drop(guard);
    waiting.await.unwrap().unwrap();
    assert_eq!((a.stats().sessions, b.stats().sessions), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_hold_a_lock_together_and_a_writer_alone() {
    let group = Group::with_lease(LEASE).await;
    let (a, b, c) = (group.client("a").await, group.client("b").await, group.client("c").await);
    let readers =
        [a.acquire(&[(1, Mode::Shared)]).await.unwrap(), b.acquire(&[(1, Mode::Shared)]).await.unwrap()];
    let writing = tokio::spawn({
        let c = c.clone();
        async move { c.acquire(&[(1, Mode::Exclusive)]).await }
    });
    eventually("both are asked to make room", || (a.stats().revokes + b.stats().revokes >= 2).then_some(()))
        .await;
    assert!(!writing.is_finished());
    drop(readers);
    let writer = writing.await.unwrap().unwrap();
    assert!(a.try_acquire(&[(1, Mode::Shared)]).is_none());
    drop(writer);
    let reader = a.acquire(&[(1, Mode::Shared)]).await.unwrap();
    // The answer to its downgrade may come a moment after the reader's grant.
    let asked = c.stats().acquire_rpcs;
    let told = || c.try_acquire(&[(1, Mode::Shared)]);
    let kept = eventually("a reader costs the writer only a downgrade", told).await;
    assert_eq!(c.stats().acquire_rpcs, asked, "it did not have to ask again");
    drop((reader, kept));
    let ids = a.allocate(100).await.unwrap();
    let all: Vec<_> = ids.map(|id| (id, Mode::Exclusive)).collect();
    assert!(a.try_acquire(&all).is_some(), "allocated locks are held");
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_session_is_told() {
    let group = Group::with_lease(LEASE).await;
    let (one, two) = (group.client("one").await, group.client("two").await);
    let of = |sessions: Vec<(u64, String)>, client: &LockClient| {
        sessions.into_iter().find(|(id, _)| *id == client.session()).map(|(_, name)| name)
    };
    let told =
        || async { lock_rsm::locks::sessions(&group.addresses(), lock_support::PATIENCE).await.unwrap() };
    let all = told().await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(of(all.clone(), &one).as_deref(), Some("one"));
    assert_eq!(of(all, &two).as_deref(), Some("two"));
    one.close().await.unwrap();
    assert_eq!(told().await, [(two.session(), "two".to_owned())]);
}
