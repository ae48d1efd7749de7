//! The client's driver against the lock table behind a direct link.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::link::Answer;
use super::*;
use crate::locks::protocol::{
    Acquire, Alive, Allocated, Ended, Keepalive, Mode::*, OpenSession, Release, Stamp, Standings,
};
use crate::locks::table::{LockTable, Notices, Refusal};

/// The lock service: a table, and the clients its pushes go to.
struct FakeService {
    state: Mutex<FakeState>,
    lose_pushes: AtomicBool,
    mute: AtomicBool,
    /// While true, acquires are executed but their answers are kept back.
    slow_acquires: watch::Sender<bool>,
    lease_ms: u32,
}

#[derive(Default)]
struct FakeState {
    table: LockTable,
    seq: u64,
    clients: BTreeMap<u64, Weak<Inner>>,
}

impl FakeService {
    fn new() -> Arc<FakeService> {
        Self::with_lease(10_000)
    }

    fn with_lease(lease_ms: u32) -> Arc<FakeService> {
        let (lose_pushes, mute) = (AtomicBool::new(false), AtomicBool::new(false));
        let slow_acquires = watch::Sender::new(false);
        Arc::new(FakeService { state: Mutex::default(), lose_pushes, mute, slow_acquires, lease_ms })
    }

    fn run<T>(&self, command: impl FnOnce(&mut LockTable, Stamp, &mut Notices) -> T) -> T {
        let mut state = self.state.lock();
        state.seq += 1;
        let (stamp, mut notices) = ((1, state.seq), Notices::default());
        let result = command(&mut state.table, stamp, &mut notices);
        if !self.lose_pushes.load(SeqCst) {
            for grant in notices.grants() {
                if let Some(inner) = state.client_of(grant.session) {
                    inner.runtime.clone().spawn(async move { inner.pushed_grant(&grant) });
                }
            }
            for revoke in notices.revokes() {
                if let Some(inner) = state.client_of(revoke.session) {
                    inner.runtime.clone().spawn(async move { inner.pushed_revoke(&revoke) });
                }
            }
        }
        result
    }

    fn expire(&self, session: SessionId) {
        while self.run(|table, stamp, notices| table.end_session(stamp, None, session, notices)) {}
    }

    fn stat(&self, id: LockId) -> u32 {
        self.state.lock().table.stat(id)
    }

    async fn client(self: &Arc<Self>, opts: LockClientOptions, hooks: Arc<dyn LockHooks>) -> LockClient {
        let number = self.state.lock().clients.len() as u64 + 1;
        let link = Arc::new(FakeLink { service: self.clone(), client: number });
        let client = LockClient::start(opts, link, hooks);
        self.state.lock().clients.insert(number, Arc::downgrade(&client.inner));
        client.opened(&[]).await.unwrap()
    }

    async fn plain_client(self: &Arc<Self>) -> LockClient {
        self.client(LockClientOptions::default(), Arc::new(NoHooks)).await
    }
}

impl FakeState {
    fn client_of(&self, session: SessionId) -> Option<Arc<Inner>> {
        self.clients.get(&self.table.client_of(session)?)?.upgrade()
    }
}

struct FakeLink {
    service: Arc<FakeService>,
    client: u64,
}

impl FakeLink {
    fn answer<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut LockTable, Stamp, u64, &mut Notices) -> Result<T, Refusal> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.service.mute.load(SeqCst) {
                return Err(LinkError::Unanswered("mute".to_owned()));
            }
            let result =
                self.service.run(|table, stamp, notices| command(table, stamp, self.client, notices));
            tokio::task::yield_now().await;
            result.map_err(|refusal| match refusal {
                Refusal::NoSession => LinkError::NoSession,
                Refusal::TooLong => LinkError::Refused("too long"),
                Refusal::Full => LinkError::Refused("full"),
            })
        })
    }
}

impl Link for FakeLink {
    fn open_session(&self, args: OpenSession, _: Duration) -> Answer<'_, SessionId> {
        self.answer(move |table, stamp, client, _| table.open_session(stamp, client, &args))
    }

    fn acquire(&self, args: Acquire, _: Duration) -> Answer<'_, Standings> {
        let answer = self.answer(move |table, stamp, client, notices| {
            table.acquire(stamp, client, &args, notices).map(|locks| Standings { stamp, locks })
        });
        let mut slow = self.service.slow_acquires.subscribe();
        Box::pin(async move {
            let answer = answer.await;
            slow.wait_for(|slow| !slow).await.expect("the service lives");
            answer
        })
    }

    fn release(&self, args: Release, _: Duration) -> Answer<'_, Standings> {
        self.answer(move |table, stamp, client, notices| {
            table.release(stamp, client, &args, notices).map(|locks| Standings { stamp, locks })
        })
    }

    fn allocate(&self, args: Allocate, _: Duration) -> Answer<'_, Allocated> {
        self.answer(move |table, stamp, client, _| {
            table.allocate(stamp, client, &args).map(|first| Allocated { stamp, first, count: args.count })
        })
    }

    fn close_session(&self, args: EndSession, _: Duration) -> Answer<'_, Ended> {
        self.answer(move |table, stamp, client, notices| {
            Ok(Ended { more: table.end_session(stamp, Some(client), args.session, notices) })
        })
    }

    fn keepalive(&self, args: Keepalive, _: Duration) -> Answer<'_, Alive> {
        let lease_ms = self.service.lease_ms;
        self.answer(move |table, _, _, _| match args.session {
            0 => Ok(Alive { lease_ms }),
            session => table.lease_ms(session).map(|lease_ms| Alive { lease_ms }).ok_or(Refusal::NoSession),
        })
    }
}

/// Writes down what it is told; a release waits while `gate` is shut.
#[derive(Default)]
struct Diary {
    lines: Mutex<Vec<String>>,
    shut: AtomicBool,
    open: Notify,
    panics: AtomicBool,
}

impl Diary {
    fn note(&self, line: String) {
        self.lines.lock().push(line);
    }

    fn read(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
}

struct DiaryHooks(Arc<Diary>);

impl LockHooks for DiaryHooks {
    fn before_release(&self, lock: LockId, keep: Option<Mode>) -> BoxFuture<'static, ()> {
        let diary = self.0.clone();
        Box::pin(async move {
            assert!(!diary.panics.load(SeqCst), "the hook fails");
            diary.note(format!("before {lock} keep {keep:?}"));
            while diary.shut.load(SeqCst) {
                diary.open.notified().await;
            }
            diary.note(format!("after {lock}"));
        })
    }

    fn session_lost(&self, _: SessionId) {
        self.0.note("lost".to_owned());
    }

    fn lease_ran_out(&self, _: SessionId) {
        self.0.note("ran out".to_owned());
    }
}

/// Waits until something is so; the runtime does its work in between.
async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn a_lock_once_acquired_is_cached() {
    let service = FakeService::new();
    let client = service.plain_client().await;
    assert!(client.try_acquire(&[(1, Shared)]).is_none());
    drop(client.acquire(&[(1, Exclusive)]).await.unwrap());
    for mode in [Shared, Exclusive] {
        let guard = client.try_acquire(&[(1, mode)]).unwrap();
        assert!(client.try_acquire(&[(1, Exclusive)]).is_none());
        assert_eq!(guard.locks().collect::<Vec<_>>(), [(1, mode)]);
    }
    let stats = client.stats();
    assert_eq!((stats.acquire_rpcs, stats.hits, stats.waits, stats.held), (1, 2, 1, 1));
}

#[tokio::test]
async fn many_locks_are_asked_for_in_one_command() {
    let service = FakeService::new();
    let client = service.plain_client().await;
    let wants: Vec<_> = (0..50).rev().map(|id| (id, Exclusive)).collect();
    let guard = client.acquire(&wants).await.unwrap();
    assert!(guard.locks().map(|(id, _)| id).eq(0..50));
    assert_eq!(client.stats().acquire_rpcs, 1);
    drop(guard);
    assert!(client.try_acquire(&[(3, Shared), (1, Exclusive), (3, Exclusive)]).is_some());
    assert!(client.try_acquire(&[(3, Shared), (77, Shared)]).is_none());
    assert!(client.try_acquire(&[(3, Exclusive)]).is_some(), "a failed attempt leaves nothing taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_exclude_each_other() {
    let service = FakeService::new();
    let owner = Arc::new(AtomicUsize::new(0));
    let clients = futures_util::future::join_all([(); 4].map(|()| service.plain_client())).await;
    let mut tasks = Vec::new();
    for client in &clients {
        for _ in 0..3 {
            let (client, owner) = (client.clone(), owner.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0..200 {
                    let mode = if round % 3 == 0 { Shared } else { Exclusive };
                    let guard = client.acquire(&[(1, mode), (2, Exclusive)]).await.unwrap();
                    assert_eq!(owner.fetch_add(1, SeqCst), 0, "two holders of lock 2");
                    tokio::task::yield_now().await;
                    owner.fetch_sub(1, SeqCst);
                    drop(guard);
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_on_several_locks_do_not_deadlock() {
    let service = FakeService::new();
    let clients = futures_util::future::join_all([(); 4].map(|()| service.plain_client())).await;
    let mut tasks = Vec::new();
    for (turn, client) in (0u64..).zip(clients.clone()) {
        tasks.push(tokio::spawn(async move {
            for round in 0..100 {
                let wants =
                    [0, 1, 2].map(|k| ((turn + round * k) % 5, if k == 0 { Shared } else { Exclusive }));
                drop(client.acquire(&wants).await.unwrap());
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn retry_is_taken_literally_when_pushes_are_lost() {
    let service = FakeService::new();
    let opts = LockClientOptions { retry: Duration::from_millis(20), ..LockClientOptions::default() };
    let (a, b) = (
        service.client(opts.clone(), Arc::new(NoHooks)).await,
        service.client(opts, Arc::new(NoHooks)).await,
    );
    drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    service.lose_pushes.store(true, SeqCst);
    let waiting = tokio::spawn({
        let b = b.clone();
        async move { b.acquire(&[(1, Exclusive)]).await.map(drop) }
    });
    until("asks again", || b.stats().acquire_rpcs >= 3).await;
    assert_eq!(a.stats().release_rpcs, 0);
    service.lose_pushes.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
    assert_eq!(a.stats().release_rpcs, 1, "the revoke was sent again");
}

#[tokio::test]
async fn a_release_waits_for_its_hook() {
    let service = FakeService::new();
    let diary = Arc::new(Diary::default());
    let a = service.client(LockClientOptions::default(), Arc::new(DiaryHooks(diary.clone()))).await;
    let b = service.plain_client().await;
    drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    diary.shut.store(true, SeqCst);
    let reading = tokio::spawn({
        let b = b.clone();
        async move { b.acquire(&[(1, Shared)]).await.map(drop) }
    });
    until("the hook runs", || !diary.read().is_empty()).await;
    assert!(a.try_acquire(&[(1, Shared)]).is_none(), "the hook has the lock for itself");
    assert_eq!(a.stats().release_rpcs, 0);
    assert!(!reading.is_finished());
    diary.shut.store(false, SeqCst);
    diary.open.notify_one();
    reading.await.unwrap().unwrap();
    assert_eq!(diary.read(), ["before 1 keep Some(Shared)", "after 1"], "a reader costs a downgrade only");
    until("the downgrade is answered", || a.try_acquire(&[(1, Shared)]).is_some()).await;
    drop(b.acquire(&[(1, Exclusive)]).await.unwrap());
    assert_eq!(diary.read()[2..], ["before 1 keep None", "after 1"]);
}

#[tokio::test]
async fn a_guard_is_not_taken_away() {
    let service = FakeService::new();
    let (a, b) = (service.plain_client().await, service.plain_client().await);
    let guard = a.acquire(&[(1, Exclusive)]).await.unwrap();
    let waiting = tokio::spawn(async move { b.acquire(&[(1, Exclusive)]).await.map(drop) });
    until("revoked", || a.stats().revokes == 1).await;
    assert_eq!(a.stats().release_rpcs, 0);
    drop(guard);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_session_is_replaced_and_waiting_operations_start_over() {
    let service = FakeService::new();
    let diary = Arc::new(Diary::default());
    let a = service.client(LockClientOptions::default(), Arc::new(DiaryHooks(diary.clone()))).await;
    let b = service.plain_client().await;
    let old = a.session();
    let guard = a.acquire(&[(1, Exclusive)]).await.unwrap();
    service.expire(old);
    drop(b.acquire(&[(1, Exclusive)]).await.unwrap());
    assert!(!guard.is_void(), "nobody told it yet");
    drop(a.acquire(&[(2, Shared)]).await.unwrap());
    assert!(guard.is_void());
    assert_ne!(a.session(), old);
    assert_eq!(diary.read(), ["lost"]);
    assert!(a.try_acquire(&[(1, Shared)]).is_none());
    let again = tokio::spawn({
        let a = a.clone();
        async move { a.acquire(&[(1, Exclusive)]).await.map(drop) }
    });
    until("the lock came back", || a.stats().held == 2).await;
    assert!(!again.is_finished(), "the void guard still keeps operations apart");
    drop(guard);
    again.await.unwrap().unwrap();
    assert_eq!(a.stats().sessions, 2);
}

#[tokio::test]
async fn an_abandoned_session_is_lost_but_not_ended() {
    let service = FakeService::new();
    let a = service.plain_client().await;
    let old = a.session();
    drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    a.abandon(old);
    a.abandon(old);
    until("a new session", || a.session() != 0).await;
    assert_ne!(a.session(), old);
    assert_eq!(service.stat(1), 1, "what it sent elsewhere may still arrive: only fencing frees its locks");
}

#[tokio::test]
async fn a_failed_hook_costs_the_session() {
    let service = FakeService::new();
    let diary = Arc::new(Diary::default());
    let a = service.client(LockClientOptions::default(), Arc::new(DiaryHooks(diary.clone()))).await;
    let old = a.session();
    drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    diary.panics.store(true, SeqCst);
    let opts = LockClientOptions { wait_max: Duration::from_millis(50), ..LockClientOptions::default() };
    let b = service.client(opts, Arc::new(NoHooks)).await;
    assert!(matches!(b.acquire(&[(1, Shared)]).await, Err(LockError::Timeout { lock: 1, .. })));
    assert_eq!(diary.read(), ["lost"]);
    assert_ne!(a.session(), old);
}

#[tokio::test]
async fn without_a_lease_nothing_is_taken() {
    let service = FakeService::with_lease(200);
    let a = service.plain_client().await;
    drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    service.mute.store(true, SeqCst);
    until("the lease ends", || a.lease_left().is_zero()).await;
    assert!(a.try_acquire(&[(1, Shared)]).is_none());
    let waiting = tokio::spawn({
        let a = a.clone();
        async move { a.acquire(&[(1, Shared)]).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    service.mute.store(false, SeqCst);
    waiting.await.unwrap().unwrap();
    assert!(!a.lease_left().is_zero());
    assert_eq!(a.stats().sessions, 1, "the service had not expired it");
}

#[tokio::test]
async fn the_owner_is_told_once_when_the_lease_runs_out_and_once_more_the_next_time() {
    let service = FakeService::with_lease(200);
    let diary = Arc::new(Diary::default());
    let a = service.client(LockClientOptions::default(), Arc::new(DiaryHooks(diary.clone()))).await;
    for times in 1..=2 {
        service.mute.store(true, SeqCst);
        until("the owner is told", || diary.read().len() == times).await;
        assert!(a.lease_left().is_zero());
        service.mute.store(false, SeqCst);
        until("the lease is good again", || !a.lease_left().is_zero()).await;
    }
    assert_eq!(diary.read(), ["ran out", "ran out"]);
}

#[tokio::test]
async fn an_acquisition_ends_after_wait_max() {
    let service = FakeService::new();
    let opts = LockClientOptions { wait_max: Duration::from_millis(30), ..LockClientOptions::default() };
    let (a, b) = (service.plain_client().await, service.client(opts, Arc::new(NoHooks)).await);
    let guard = a.acquire(&[(5, Exclusive)]).await.unwrap();
    let error = b.acquire(&[(4, Shared), (5, Shared)]).await.unwrap_err();
    assert_eq!(error.to_string(), "lock 5 was not granted within 30ms");
    drop(guard);
    until("what was asked for comes and is cached", || b.try_acquire(&[(4, Shared), (5, Shared)]).is_some())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_acquisitions_leave_nothing_taken() {
    let service = FakeService::new();
    let (a, b) = (service.plain_client().await, service.plain_client().await);
    for round in 0..300u64 {
        let tasks: Vec<_> = (0..6u64)
            .map(|n| {
                let client = if n % 2 == 0 { a.clone() } else { b.clone() };
                let mode = if n % 3 == 0 { Shared } else { Exclusive };
                tokio::spawn(async move { client.acquire(&[(1, mode), (2, mode)]).await.map(drop) })
            })
            .collect();
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        for (n, task) in tasks.into_iter().enumerate() {
            if n as u64 % 4 == round % 4 {
                task.await.unwrap().unwrap();
            } else {
                task.abort();
            }
        }
    }
    for client in [&a, &b, &a] {
        drop(client.acquire(&[(1, Exclusive), (2, Exclusive)]).await.unwrap());
    }
}

#[tokio::test]
async fn too_many_idle_locks_go_back_the_oldest_first() {
    let service = FakeService::new();
    let opts = LockClientOptions { idle_max: 16, ..LockClientOptions::default() };
    let a = service.client(opts, Arc::new(NoHooks)).await;
    for id in 0..16 {
        drop(a.acquire(&[(id, Exclusive)]).await.unwrap());
    }
    drop(a.try_acquire(&[(0, Exclusive)]).unwrap());
    drop(a.acquire(&[(16, Exclusive)]).await.unwrap());
    until("room is made", || a.stats().held == 14).await;
    let stats = a.stats();
    assert_eq!((stats.evicted, stats.release_rpcs), (3, 1), "in one batch");
    let cached: Vec<_> = (0..17).filter(|&id| a.try_acquire(&[(id, Shared)]).is_some()).collect();
    assert_eq!(cached, [0].into_iter().chain(4..17).collect::<Vec<_>>());
}

#[tokio::test]
async fn allocated_locks_are_held() {
    let service = FakeService::new();
    let a = service.plain_client().await;
    let ids = a.allocate(10).await.unwrap();
    assert_eq!(ids.clone().count(), 10);
    for id in ids {
        assert!(a.try_acquire(&[(id, Exclusive)]).is_some());
    }
    assert_eq!((a.stats().acquire_rpcs, a.stats().allocate_rpcs), (0, 1));
    assert_eq!(
        a.allocate(BATCH_MAX as u32 + 1).await.unwrap_err().to_string(),
        "the lock service refuses: more ids at once than it gives"
    );
}

#[tokio::test]
async fn closing_gives_everything_back_after_its_hook() {
    let service = FakeService::new();
    let diary = Arc::new(Diary::default());
    let a = service.client(LockClientOptions::default(), Arc::new(DiaryHooks(diary.clone()))).await;
    drop(a.acquire(&[(1, Exclusive), (2, Shared)]).await.unwrap());
    let guard = a.acquire(&[(3, Exclusive)]).await.unwrap();
    let (left, waiting) = (a.clone(), a.clone());
    let waiting = tokio::spawn(async move { waiting.acquire(&[(3, Shared)]).await.map(drop) });
    until("it waits", || left.stats().waits == 3).await;
    let closing = tokio::spawn(a.close());
    assert_eq!(waiting.await.unwrap(), Err(LockError::Closed));
    until("the idle ones go back", || service.stat(1) + service.stat(2) == 0).await;
    assert!(!closing.is_finished(), "a guard is waited for");
    drop(guard);
    closing.await.unwrap().unwrap();
    assert_eq!(diary.read().iter().filter(|line| line.starts_with("after")).count(), 3);
    assert_eq!(service.state.lock().table.load(), 0);
    assert_eq!(left.acquire(&[(9, Shared)]).await.unwrap_err(), LockError::Closed);
}

/// The grant may overtake the answer to the acquire. Until that answer is there the lock cannot go back.
#[tokio::test]
async fn closing_waits_for_the_answer_to_an_acquire_and_not_longer() {
    let service = FakeService::new();
    let (a, b) = (service.plain_client().await, service.plain_client().await);
    let guard = a.acquire(&[(1, Exclusive)]).await.unwrap();
    service.slow_acquires.send_replace(true);
    let asking = tokio::spawn({
        let b = b.clone();
        async move { b.acquire(&[(1, Exclusive)]).await.map(drop) }
    });
    until("b is in the queue", || service.state.lock().table.load() == 2).await;
    drop(guard);
    asking.await.unwrap().unwrap();
    let left = b.clone();
    let closing = tokio::spawn(b.close());
    until("it closes", || left.inner.is_closing()).await;
    assert!(!closing.is_finished(), "an answer is waited for");
    service.slow_acquires.send_replace(false);
    closing.await.unwrap().unwrap();
    assert_eq!(service.stat(1), 0);
}

#[tokio::test]
async fn a_close_that_must_wait_too_long_names_the_lock() {
    let service = FakeService::new();
    let opts = LockClientOptions { wait_max: Duration::from_millis(50), ..LockClientOptions::default() };
    let a = service.client(opts, Arc::new(NoHooks)).await;
    let _guard = a.acquire(&[(7, Exclusive)]).await.unwrap();
    assert!(matches!(a.close().await, Err(LockError::Kept { lock: 7, .. })));
}

#[tokio::test]
async fn without_a_cache_every_acquisition_asks() {
    let service = FakeService::new();
    let opts = LockClientOptions { cache: false, ..LockClientOptions::default() };
    let a = service.client(opts, Arc::new(NoHooks)).await;
    for _ in 0..10 {
        drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    }
    until("given back", || service.stat(1) == 0).await;
    assert_eq!((a.stats().acquire_rpcs, a.stats().release_rpcs), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_lock_is_ready_at_the_first_poll_on_any_thread() {
    let service = FakeService::new();
    let a = service.plain_client().await;
    drop(a.acquire(&[(1, Exclusive)]).await.unwrap());
    service.mute.store(true, SeqCst);
    let (ready, pending) = std::thread::spawn(move || {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let ready = Box::pin(a.acquire(&[(1, Exclusive)])).as_mut().poll(&mut context).is_ready();
        let pending = Box::pin(a.acquire(&[(2, Exclusive)])).as_mut().poll(&mut context).is_pending();
        (ready, pending)
    })
    .join()
    .unwrap();
    assert!(ready && pending);
}

#[tokio::test]
async fn connecting_to_nothing_says_so() {
    let service = FakeService::new();
    service.mute.store(true, SeqCst);
    let opts = LockClientOptions { connect_max: Duration::from_millis(30), ..LockClientOptions::default() };
    let link = Arc::new(FakeLink { service, client: 1 });
    let error =
        LockClient::start(opts, link, Arc::new(NoHooks)).opened(&["h:1".to_owned()]).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "the lock service at h:1 cannot be used: no answer from the lock service: mute; are its lock_server processes running?"
    );
}
