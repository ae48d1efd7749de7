//! Locks die with their holder: after its lease, and after it has been fenced.
#![allow(clippy::unwrap_used, reason = "test code may unwrap")]

mod lock_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lock_rsm::locks::protocol::{
    Acquire, EXPIRE, EndSession, Ended, FENCE, Fence, KEEPALIVE, Keepalive, NO_SESSION, NOT_YOURS, STUCK,
    SessionId, Standings, StuckReport,
};
use lock_rsm::locks::{LockClient, LockHooks, LockId, LockServiceOptions, Mode, protocol};
use lock_rsm::rsm::{RsmClient, RsmClientOptions, RsmError};
use lock_support::{Group, PATIENCE, eventually, free_addresses};
use parking_lot::Mutex;
use rpc::{BoxFuture, Request, Response, Server, ServerBuilder, ServerOptions, Status};
use tokio::sync::Notify;

const LEASE: Duration = Duration::from_millis(800);

/// Plays the extent server: notes who is fenced, and answers when told to.
struct FenceServer {
    fenced: Arc<Mutex<Vec<SessionId>>>,
    answer: Arc<Notify>,
    _server: Server,
}

impl FenceServer {
    async fn listen(address: &str) -> FenceServer {
        let (fenced, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let mut builder = ServerBuilder::new(ServerOptions::default());
        let (noted, gate) = (fenced.clone(), answer.clone());
        builder.register_async(
            FENCE,
            rpc::asynchronous(move |request: Request| {
                let (noted, gate) = (noted.clone(), gate.clone());
                async move {
                    let fence: Fence = request.decode()?;
                    noted.lock().push(fence.session);
                    gate.notified().await;
                    Ok::<_, Status>(Response::of(&()))
                }
            }),
        );
        let server = builder.listen(address).await.unwrap();
        FenceServer { fenced, answer, _server: server }
    }

    /// From now on it answers whatever comes, also what comes again because an answer was late.
    fn answer_all(&self) {
        let answer = self.answer.clone();
        tokio::spawn(async move {
            loop {
                answer.notify_one();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
}

async fn group_with_fence(address: &str) -> Group {
    let fences = vec![address.to_owned()];
    let fence_timeout = PATIENCE;
    Group::start(LockServiceOptions { lease: LEASE, fences, fence_timeout, ..Default::default() }).await
}

/// A client that holds `lock` and is gone without a word; its session.
async fn dead_holder(group: &Group, lock: LockId) -> SessionId {
    let client = group.client("dead").await;
    drop(client.acquire(&[(lock, Mode::Exclusive)]).await.unwrap());
    client.session()
}

fn acquire(client: &LockClient, lock: LockId) -> tokio::task::JoinHandle<Instant> {
    let client = client.clone();
    tokio::spawn(async move {
        drop(client.acquire(&[(lock, Mode::Exclusive)]).await.unwrap());
        Instant::now()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_holder_is_fenced_before_its_locks_move() {
    let address = free_addresses(1).remove(0);
    let extents = FenceServer::listen(&address).await;
    let group = group_with_fence(&address).await;
    let b = group.client("b").await;
    let dead = dead_holder(&group, 1).await;
    let silent_since = Instant::now();
    let waiting = acquire(&b, 1);
    eventually("the fence", || (!extents.fenced.lock().is_empty()).then_some(())).await;
    assert!(silent_since.elapsed() >= LEASE, "not before its lease has run out");
    assert_eq!(*extents.fenced.lock(), [dead]);
    assert!(!waiting.is_finished(), "no lock moves before the extent server has answered");
    let answered = Instant::now();
    extents.answer.notify_one();
    assert!(waiting.await.unwrap() >= answered);
    assert_eq!(b.stats().sessions, 1, "who is heard keeps its session");
    group.check_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extent_server_that_cannot_be_reached_keeps_the_locks_where_they_are() {
    let address = free_addresses(1).remove(0);
    let group = group_with_fence(&address).await;
    let b = group.client("b").await;
    dead_holder(&group, 1).await;
    let waiting = acquire(&b, 1);
    let service = group.places[group.master().await].running.as_ref().unwrap().1.clone();
    eventually("b waits", || (b.stats().acquire_rpcs > 0).then_some(())).await;
    tokio::time::sleep(LEASE * 2).await;
    assert!(!waiting.is_finished(), "it may still write");
    assert_eq!(service.load(), 2);
    let extents = FenceServer::listen(&address).await;
    extents.answer.notify_one();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_gives_everybody_a_whole_lease() {
    let mut group = Group::with_lease(LEASE).await;
    let b = group.client("b").await;
    dead_holder(&group, 1).await;
    let waiting = acquire(&b, 1);
    tokio::time::sleep(LEASE / 2).await;
    let killed = Instant::now();
    let master = group.master().await;
    group.kill(master).await;
    assert!(waiting.await.unwrap() >= killed + LEASE);
    assert_eq!(b.stats().sessions, 1);
}

/// Writes down what it is told.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl LockHooks for Diary {
    fn before_release(&self, lock: LockId, keep: Option<Mode>) -> BoxFuture<'static, ()> {
        self.0.lock().push(format!("before release of {lock}, keep {keep:?}"));
        Box::pin(std::future::ready(()))
    }

    fn session_lost(&self, old: SessionId) {
        self.0.lock().push(format!("lost {old}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_client_is_told_and_goes_on_under_a_new_session() {
    let group = Group::with_lease(LEASE).await;
    let diary = Arc::new(Diary::default());
    let a = group.client_with("a", diary.clone()).await;
    let b = group.client("b").await;
    let old = a.session();
    let guard = a.acquire(&[(1, Mode::Exclusive)]).await.unwrap();
    drop(a.acquire(&[(2, Mode::Exclusive)]).await.unwrap());

    let replica = group.replica(group.master().await);
    let expire = rpc::codec::encode(&EndSession { session: old });
    let reply = replica.propose(EXPIRE, expire.into()).await.unwrap();
    assert_eq!(rpc::codec::decode::<Ended>(&reply).unwrap(), Ended { more: false });
    drop(b.acquire(&[(1, Mode::Exclusive), (2, Mode::Exclusive)]).await.unwrap());
    eventually("a hears of it", || guard.is_void().then_some(())).await;
    assert_eq!(*diary.0.lock(), [format!("lost {old}")], "nothing is flushed under a session that is lost");
    drop(guard);
    drop(a.acquire(&[(2, Mode::Shared)]).await.unwrap());
    assert_ne!(a.session(), old);
    assert!(!a.lease_left().is_zero());
    drop(b.acquire(&[(2, Mode::Exclusive)]).await.unwrap());
    assert_eq!(diary.0.lock()[1..], ["before release of 2, keep None".to_owned()]);
    a.close().await.unwrap();
    b.close().await.unwrap();
    group.check_equal().await;
}

/// Lives, and never gets done with what it must do before a release.
struct Stuck(Mutex<Vec<SessionId>>);

impl LockHooks for Stuck {
    fn before_release(&self, _: LockId, _: Option<Mode>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn session_lost(&self, old: SessionId) {
        self.0.lock().push(old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_client_that_gives_nothing_back_is_fenced_and_ended() {
    let address = free_addresses(1).remove(0);
    let extents = FenceServer::listen(&address).await;
    extents.answer.notify_one();
    let stuck_after = Some(LEASE * 3);
    let options = LockServiceOptions {
        lease: LEASE,
        fences: vec![address],
        fence_timeout: PATIENCE,
        stuck_after,
        ..Default::default()
    };
    let group = Group::start(options).await;
    let hooks = Arc::new(Stuck(Mutex::default()));
    let a = group.client_with("a", hooks.clone()).await;
    let b = group.client("b").await;
    let old = a.session();
    drop(a.acquire(&[(1, Mode::Exclusive)]).await.unwrap());
    let asked = Instant::now();
    let got = acquire(&b, 1).await.unwrap();
    assert!(a.session() != old || a.lease_left().is_zero(), "nobody else believes in having it");
    assert!(got >= asked + LEASE * 3, "it was given time");
    assert_eq!(*extents.fenced.lock(), [old]);
    eventually("a hears of it", || (!hooks.0.lock().is_empty()).then_some(())).await;
    assert_eq!(*hooks.0.lock(), [old]);
    assert_eq!(b.stats().sessions, 1);
    drop(a.acquire(&[(2, Mode::Exclusive)]).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_shown_who_is_stuck() {
    let group = Group::start(LockServiceOptions { lease: LEASE, ..Default::default() }).await;
    let a = group.client_with("a", Arc::new(Stuck(Mutex::default()))).await;
    let b = group.client("b").await;
    drop(a.acquire(&[(1, Mode::Exclusive)]).await.unwrap());
    let operator = RsmClient::connect(&group.addresses(), RsmClientOptions::default()).await.unwrap();
    let ask = async || operator.call_master::<_, StuckReport>(STUCK, &(), PATIENCE).await.unwrap();
    assert_eq!(ask().await, StuckReport { sessions: 2, ..StuckReport::default() });
    let waiting = acquire(&b, 1);
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        let report = ask().await;
        if !report.stuck.is_empty() {
            break report;
        }
        assert!(Instant::now() < deadline && !waiting.is_finished());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let [named] = &report.stuck[..] else { panic!("one is stuck: {report:?}") };
    assert_eq!((report.sessions, report.stuck_count), (2, 1));
    assert_eq!((named.session, named.name.as_str(), named.lock, named.waiting), (a.session(), "a", 1, 1));
    assert!(named.owed_ms >= 800, "{named:?}");
    let address = named.address.as_deref().unwrap_or_default();
    assert!(address.contains("127.0.0.1:"), "{named:?}");
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_flush_is_not_ended_for_it() {
    let address = free_addresses(1).remove(0);
    let options = LockServiceOptions {
        lease: LEASE,
        fences: vec![address.clone()],
        fence_timeout: LEASE / 4,
        stuck_after: Some(LEASE * 2),
        ..Default::default()
    };
    let group = Group::start(options).await;
    let hooks = Arc::new(Stuck(Mutex::default()));
    let a = group.client_with("a", hooks.clone()).await;
    let b = group.client("b").await;
    drop(a.acquire(&[(1, Mode::Exclusive)]).await.unwrap());
    let waiting = acquire(&b, 1);
    tokio::time::sleep(LEASE * 6).await;
    assert!(hooks.0.lock().is_empty() && !waiting.is_finished(), "no extent server, no flush");
    let extents = FenceServer::listen(&address).await;
    extents.answer_all();
    waiting.await.unwrap();
    eventually("a hears of it", || (!hooks.0.lock().is_empty()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused() {
    let group = Group::with_lease(LEASE).await;
    let a = group.client("a").await;
    drop(a.acquire(&[(1, Mode::Exclusive)]).await.unwrap());
    let session = a.session();
    let stranger = RsmClient::connect(&group.addresses(), RsmClientOptions::default()).await.unwrap();

    let expired: Result<Ended, _> = stranger.invoke(EXPIRE, &EndSession { session }, PATIENCE).await;
    assert!(matches!(expired, Err(RsmError::Status(NOT_YOURS))), "{expired:?}");
    let theft = Acquire { session, locks: vec![(2, Mode::Shared)] };
    let stolen: Result<Standings, _> = stranger.invoke(protocol::ACQUIRE, &theft, PATIENCE).await;
    assert!(matches!(stolen, Err(RsmError::Status(NO_SESSION))), "{stolen:?}");
    let ended: Result<Ended, _> =
        stranger.invoke(protocol::CLOSE_SESSION, &EndSession { session }, PATIENCE).await;
    assert_eq!(ended.unwrap(), Ended { more: false });
    let alive: Result<protocol::Alive, _> =
        stranger.call_master(KEEPALIVE, &Keepalive { session: session ^ 1 }, PATIENCE).await;
    assert!(matches!(alive, Err(RsmError::Status(NO_SESSION))), "{alive:?}");
    let garbage: Result<(), _> = stranger.invoke(protocol::RELEASE, &"garbage", PATIENCE).await;
    assert!(garbage.is_err());
    let holders: u32 = stranger.invoke(protocol::STAT, &1u64, PATIENCE).await.unwrap();
    assert_eq!(holders, 1, "none of this harmed the holder");
    assert!(a.try_acquire(&[(1, Mode::Exclusive)]).is_some());
}
