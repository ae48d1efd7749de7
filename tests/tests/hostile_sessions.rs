//! Clients that misuse sessions, locks, and other clients' identities, against real servers. Who behaves notices nothing
//! but that it is slower.
#![allow(clippy::unwrap_used)] // how a test fails

mod hostile_support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use extent_server::{ExtentClient, ExtentError, ExtentOptions, Op};
use hostile_support::{Group, call, greeted, write_until_stuck};
use lock_rsm::locks::protocol::*;
use lock_rsm::locks::{LockClient, LockClientOptions, Mode, NoHooks};
use lock_rsm::rsm::{RsmClient, RsmClientOptions, RsmError, procs};
use parking_lot::Mutex;
use rpc::{Client, ClientOptions};
use serde::Serialize;

const SOON: Duration = Duration::from_secs(60);
/// Locks that only these tests use.
const THEIRS: LockId = 5000;
const OTHER: LockId = 5001;

async fn rsm(group: &Group) -> RsmClient {
    RsmClient::connect(group.cluster.locks(), RsmClientOptions::default()).await.unwrap()
}

async fn honest(group: &Group, name: &str) -> LockClient {
    let options = LockClientOptions { name: name.to_owned(), ..LockClientOptions::default() };
    LockClient::connect(group.cluster.locks(), options, Arc::new(NoHooks)).await.unwrap()
}

async fn session_of(client: &RsmClient, nonce: u64) -> SessionId {
    let open = OpenSession { name: "hostile".into(), nonce, lease_ms: 10_000 };
    client.invoke(OPEN_SESSION, &open, SOON).await.unwrap()
}

async fn holders(client: &RsmClient, lock: LockId) -> u32 {
    client.invoke(STAT, &lock, SOON).await.unwrap()
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, RsmError>) {
    assert!(matches!(answer, Err(RsmError::Status(NO_SESSION))), "{answer:?}");
}

/// Everything one can say under a session.
async fn everything_is_refused(client: &RsmClient, session: SessionId) {
    let locks = vec![(OTHER, Mode::Exclusive), (THEIRS, Mode::Shared)];
    is_refused(client.invoke::<_, Standings>(ACQUIRE, &Acquire { session, locks }, SOON).await);
    let locks = vec![(THEIRS, None), (OTHER, Some(Mode::Exclusive))];
    is_refused(client.invoke::<_, Standings>(RELEASE, &Release { session, locks }, SOON).await);
    is_refused(client.invoke::<_, Allocated>(ALLOCATE, &Allocate { session, count: 3 }, SOON).await);
    let expired = client.invoke::<_, Ended>(EXPIRE, &EndSession { session }, SOON).await;
    assert!(matches!(expired, Err(RsmError::Status(NOT_YOURS))), "{expired:?}");
    // Ending what is not there, or not one's own, is no error, and does nothing.
    let ended: Ended = client.invoke(CLOSE_SESSION, &EndSession { session }, SOON).await.unwrap();
    assert!(!ended.more);
}

/// Sessions that never were, are closed, or belong to somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_ended_and_foreign_sessions() {
    let group = Group::start().await;
    let victim = honest(&group, "victim").await;
    let guard = victim.acquire(&[(THEIRS, Mode::Exclusive)]).await.unwrap();
    let hostile = rsm(&group).await;
    let closed = session_of(&hostile, 1).await;
    let _: Ended = hostile.invoke(CLOSE_SESSION, &EndSession { session: closed }, SOON).await.unwrap();
    for session in [0, 1, u64::MAX, closed, victim.session(), victim.session() ^ 1] {
        everything_is_refused(&hostile, session).await;
    }
    for session in [1, u64::MAX, closed, victim.session() ^ 1] {
        is_refused(hostile.call_master::<_, Alive>(KEEPALIVE, &Keepalive { session }, SOON).await);
    }
    // The same random number does not give the same session again.
    assert_ne!(session_of(&hostile, 1).await, closed);
    assert_eq!((holders(&hostile, THEIRS).await, holders(&hostile, OTHER).await), (1, 0));
    assert!(!guard.is_void());
    drop(guard);
    victim.close().await.unwrap();
    group.unharmed().await;
}

/// A holder that answers a revoke with everything but the release that is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nonsense_in_answer_to_a_revoke() {
    let group = Group::start().await;
    let hostile = rsm(&group).await;
    let revoked = Arc::new(Mutex::new(Vec::new()));
    let heard = revoked.clone();
    hostile.on_push(
        REVOKE,
        Arc::new(move |push: rpc::Notify| {
            let revoke: Revoke = push.decode().expect("the service sends what decodes");
            heard.lock().extend(revoke.locks);
        }),
    );
    let session = session_of(&hostile, 2).await;
    let _: Alive = hostile.call_master(KEEPALIVE, &Keepalive { session }, SOON).await.unwrap();
    let locks = vec![(THEIRS, Mode::Exclusive)];
    let taken: Standings = hostile.invoke(ACQUIRE, &Acquire { session, locks }, SOON).await.unwrap();
    assert_eq!(taken.locks[0].held, Some(Mode::Exclusive));
    let bystander = honest(&group, "bystander").await;
    drop(bystander.acquire(&[(OTHER, Mode::Exclusive)]).await.unwrap());
    let waiter = honest(&group, "waiter").await;
    let waiting = tokio::spawn(async move {
        drop(waiter.acquire(&[(THEIRS, Mode::Exclusive)]).await.unwrap());
        waiter.close().await.unwrap();
    });
    let asked = async {
        while revoked.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
        }
    };
    tokio::time::timeout(SOON, asked).await.expect("the holder is asked");

    let nonsense: Vec<Vec<(LockId, Option<Mode>)>> = vec![
        vec![],
        vec![(OTHER, None)],                                // held by somebody else
        vec![(OTHER, Some(Mode::Exclusive)); 3],            // and would be taken by this
        vec![(77_777, None), (77_777, None)],               // held by nobody
        vec![(THEIRS, Some(Mode::Exclusive))],              // kept as it is
        vec![(0, None), (u64::MAX, Some(Mode::Exclusive))], // at the edges
    ];
    for locks in nonsense {
        let said: Standings =
            hostile.invoke(RELEASE, &Release { session, locks: locks.clone() }, SOON).await.unwrap();
        for ((lock, _), standing) in locks.iter().zip(said.locks) {
            let held = (*lock == THEIRS).then_some(Mode::Exclusive);
            assert_eq!(standing.held, held, "lock {lock}");
        }
        let again = vec![(THEIRS, Mode::Shared), (THEIRS, Mode::Exclusive)];
        let _: Standings = hostile.invoke(ACQUIRE, &Acquire { session, locks: again }, SOON).await.unwrap();
    }
    assert_eq!((holders(&hostile, THEIRS).await, holders(&hostile, OTHER).await), (1, 1));
    assert!(bystander.try_acquire(&[(OTHER, Mode::Exclusive)]).is_some(), "nobody was asked for it");
    assert!(!waiting.is_finished());
    group.others_go_on().await;

    // A downgrade is not enough for the waiter; the release is, also when it is said twice in one breath and once more.
    let down = vec![(THEIRS, Some(Mode::Shared)), (THEIRS, Some(Mode::Exclusive))];
    let said: Standings = hostile.invoke(RELEASE, &Release { session, locks: down }, SOON).await.unwrap();
    assert_eq!(said.locks[1].held, Some(Mode::Shared), "nobody gets more by releasing");
    let locks = vec![(THEIRS, None), (THEIRS, None)];
    let _: Standings =
        hostile.invoke(RELEASE, &Release { session, locks: locks.clone() }, SOON).await.unwrap();
    let late: Standings = hostile.invoke(RELEASE, &Release { session, locks }, SOON).await.unwrap();
    assert_eq!(late.locks, [Standing::default(); 2]);
    tokio::time::timeout(SOON, waiting).await.expect("the waiter gets it").unwrap();
    bystander.close().await.unwrap();
    group.unharmed().await;
}

/// Keepalives as fast as the sockets take them, for sessions that are and that are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_keepalives() {
    let mut group = Group::start().await;
    let master = group.master().await;
    let own = rsm(&group).await;
    let session = session_of(&own, 3).await;
    let mut floods = Vec::new();
    for nonce in 0..8 {
        let master = master.clone();
        floods.push(tokio::task::spawn_blocking(move || {
            let mut stream = greeted(&master, 7000 + nonce).unwrap();
            let mut xid = 0;
            let taken = write_until_stuck(&mut stream, 4 << 20, || {
                xid += 1;
                let session = [session, 0, xid][xid as usize % 3];
                call(KEEPALIVE, xid, &Keepalive { session }, Bytes::new())
            });
            assert!(taken > 0, "nothing was taken at all");
            stream
        }));
    }
    // Besides, one that reads the answers and never rests.
    let busy = tokio::spawn(async move {
        for _ in 0..5000 {
            let _: Alive = own.call_master(KEEPALIVE, &Keepalive { session }, SOON).await.unwrap();
        }
    });
    group.others_go_on().await;
    let mut streams = Vec::new();
    for flood in floods {
        streams.push(flood.await.unwrap());
    }
    busy.await.unwrap();
    group.others_go_on().await;
    drop(streams);
    group.unharmed().await;
}

fn invoke_head(client: u64, request: u64, proc: u32) -> Bytes {
    rpc::codec::encode(&(client, request, 0u64, proc)).into()
}

fn encoded(args: &impl Serialize) -> Bytes {
    rpc::codec::encode(args).into()
}

/// Two processes with one client number: what one has asked the other gets the answer to, and nothing happens twice. And
/// somebody who takes the pushes of all clients for himself: they ask again, and take them back with their next keepalive.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_clients_with_one_identity() {
    let mut group = Group::start().await;
    let first = rsm(&group).await;
    let session = session_of(&first, 4).await;
    let master = group.master().await;
    let second = Client::new(&master, ClientOptions::default());
    let third = Client::new(&master, ClientOptions::default());
    let allocate = encoded(&Allocate { session, count: 10 });
    let mut answers = Vec::new();
    for client in [&second, &third, &second] {
        let head = invoke_head(first.id(), 2, ALLOCATE);
        let answer = client.call_raw(procs::INVOKE, head, allocate.clone(), SOON).await.unwrap();
        answers.push(rpc::codec::decode::<Allocated>(&answer.payload).unwrap());
    }
    assert!(answers.iter().all(|answer| answer == &answers[0]), "one request, one execution: {answers:?}");
    // The number of a request that was another command before: its answer, and no execution.
    let locks = vec![(OTHER, Mode::Exclusive)];
    let head = invoke_head(first.id(), 2, ACQUIRE);
    let acquire = encoded(&Acquire { session, locks });
    second.call_raw(procs::INVOKE, head, acquire, SOON).await.unwrap();
    let stranger = rsm(&group).await;
    assert_eq!(holders(&stranger, OTHER).await, 0);
    for client in 0..=stranger.id() {
        second.call_raw(procs::ATTACH, encoded(&client), Bytes::new(), SOON).await.unwrap();
    }
    group.others_go_on().await;
    group.unharmed().await;
}

/// At the extent server: sessions that were fenced, before and after a restart, and one that fences itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fenced_sessions_at_the_extent_server() {
    let mut group = Group::start().await;
    let address = group.cluster.extents_address().to_owned();
    let client = ExtentClient::connect(&address, ExtentOptions::default()).await.unwrap();
    let put = |text: &'static str| vec![Op::Put { key: Bytes::from_static(b"k"), value: Bytes::from(text) }];
    client.commit(7, put("before"), vec![]).await.unwrap();
    let boot = client.write(7, 9, vec![(0, 4)], Bytes::from_static(b"data")).await.unwrap();
    client.fence(7).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            tokio::task::block_in_place(|| {
                group.cluster.kill_extents();
                group.cluster.start_extents().unwrap();
            });
        }
        let fenced = Err(ExtentError::Fenced { session: 7 });
        assert_eq!(client.commit(7, put("late"), vec![]).await, fenced);
        let named = client.commit(7, vec![], vec![(9, boot)]).await;
        assert!(named == fenced || restarted && named == Err(ExtentError::Restarted), "{named:?}");
        let written = client.write(7, 9, vec![(0, 4)], Bytes::from_static(b"late")).await;
        assert!(matches!(written, Err(ExtentError::Fenced { session: 7 })), "{written:?}");
        let found = client.get(vec![Bytes::from_static(b"k")]).await.unwrap();
        assert_eq!(found, [Some(Bytes::from_static(b"before"))]);
        assert_eq!(client.read(9, vec![(0, 4)]).await.unwrap(), [0; 4][..]);
    }
    client.commit(8, put("another"), vec![]).await.unwrap();
    group.unharmed().await;
}
