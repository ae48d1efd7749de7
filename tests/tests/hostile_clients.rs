//! Clients that flood, send too much, stall, or say what they should not, against real servers. Who behaves notices
//! nothing but that it is slower.
#![allow(clippy::unwrap_used)] // how a test fails

mod hostile_support;

use bytes::Bytes;
use extent_server::protocol as extents;
use hostile_support::{Group, call, greeted, hello, write_until_stuck};
use lock_rsm::consensus::{Body, Entry, Member, Membership, Message, Payload, SnapshotMeta, Viewstamp};
use lock_rsm::locks::Mode;
use lock_rsm::locks::protocol::*;
use lock_rsm::rsm::{RsmClient, RsmClientOptions, procs};
use rpc::{Client, ClientOptions};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use yfs_tests::rng::Rng;

const SEED: u64 = 4;
/// Under client 0: asks for a number.
const REGISTER: u32 = 0x9010;
/// A client that nobody numbered.
const NOBODY: u64 = 1 << 40;
const SOON: Duration = Duration::from_secs(30);

/// The head of an INVOKE: client, request, acknowledged, procedure.
fn head(client: u64, request: u64, acked: u64, proc: u32) -> (u64, u64, u64, u32) {
    (client, request, acked, proc)
}

/// Calls as fast as the sockets take them, and no answer is ever read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn floods_by_clients_that_read_no_answers() {
    let group = Group::start().await;
    let mut floods = Vec::new();
    for (nonce, address) in (100..).zip(group.ports().into_iter().cycle().take(16)) {
        floods.push(tokio::task::spawn_blocking(move || flood(&address, nonce)));
    }
    group.others_go_on().await;
    let mut streams = Vec::new();
    for flood in floods {
        let (stream, taken) = flood.await.unwrap();
        assert!(taken > 0, "nothing was taken at all");
        streams.push(stream);
    }
    // They stay, with all that was never read.
    group.others_go_on().await;
    drop(streams);
    group.unharmed().await;
}

fn flood(address: &str, nonce: u64) -> (TcpStream, usize) {
    let mut stream = greeted(address, nonce).unwrap();
    let mut xid = 0;
    let taken = write_until_stuck(&mut stream, 8 << 20, || {
        xid += 1;
        let big = Bytes::from(vec![7; 100_000]);
        match xid % 8 {
            0 => call(procs::STATUS, xid, &(), Bytes::new()),
            1 => call(procs::IDENTITY, xid, &(), Bytes::new()),
            2 => call(procs::INVOKE, xid, &head(NOBODY, xid, 0, STAT), rpc::codec::encode(&9u64).into()),
            3 => call(procs::INVOKE, xid, &head(NOBODY, xid, 0, ACQUIRE), big),
            4 => call(KEEPALIVE, xid, &Keepalive { session: xid }, Bytes::new()),
            5 => call(extents::STATFS, xid, &(), Bytes::new()),
            6 => call(extents::READ, xid, &(9u64, vec![(0u64, 1u32 << 20)]), Bytes::new()),
            _ => call(0x6666, xid, &(), big),
        }
    });
    (stream, taken)
}

/// Whatever is as large as may be, and larger.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_at_the_bounds_and_over_them() {
    let mut group = Group::start().await;
    let client = RsmClient::connect(group.cluster.locks(), RsmClientOptions::default()).await.unwrap();
    let session = OpenSession { name: "n".repeat(255), nonce: 5, lease_ms: 600_000 };
    let session: SessionId = client.invoke(OPEN_SESSION, &session, SOON).await.unwrap();
    let acquire = |first: u64, count: usize| {
        let locks = (first..).take(count).map(|id| (id, Mode::Exclusive)).collect();
        Acquire { session, locks }
    };
    let most: Standings = client.invoke(ACQUIRE, &acquire(1 << 30, BATCH_MAX), SOON).await.unwrap();
    assert_eq!(most.locks.len(), BATCH_MAX);
    let more = client.invoke::<_, Standings>(ACQUIRE, &acquire(1 << 31, BATCH_MAX + 1), SOON).await;
    assert!(more.unwrap_err().to_string().contains(&TOO_LONG.to_string()));
    for (count, fits) in [(BATCH_MAX as u32, true), (BATCH_MAX as u32 + 1, false), (u32::MAX, false)] {
        let given = client.invoke::<_, Allocated>(ALLOCATE, &Allocate { session, count }, SOON).await;
        assert_eq!(given.is_ok(), fits, "{count} ids: {given:?}");
    }
    // Commands of the largest size and beyond it; what is in them means nothing.
    for size in [(4 << 20) - 100, 4 << 20, (4 << 20) + 1, 15 << 20, 17 << 20] {
        let answer = client.invoke_raw(0x6666, Bytes::from(vec![1; size]), SOON).await;
        assert!(answer.is_err(), "{size} bytes of nonsense were executed");
    }
    group.others_go_on().await;
    let master = group.master().await;
    let many = (0..1000).map(|nonce| {
        let client = client.clone();
        async move {
            let session = OpenSession { name: "one of many".into(), nonce, lease_ms: 1000 };
            client.invoke::<_, SessionId>(OPEN_SESSION, &session, SOON).await.unwrap()
        }
    });
    let sessions = futures_util::future::join_all(many).await;
    assert_eq!(sessions.len(), 1000);
    group.others_go_on().await;

    // The extent server, and frames beyond every bound on a connection of the master.
    let address = group.cluster.extents_address().to_owned();
    let client = Client::new(&address, ClientOptions::default());
    let keys = |count: usize| (vec![Bytes::from_static(b"k").to_vec(); count],);
    for count in [extents::KEYS_MAX, extents::KEYS_MAX + 1, 1 << 20] {
        client
            .call_raw(extents::GET, rpc::codec::encode(&keys(count)).into(), Bytes::new(), SOON)
            .await
            .unwrap();
    }
    for ranges in [vec![(0u64, u32::MAX); 4], vec![(u64::MAX, 1)], vec![(0, 1); extents::RANGES_MAX + 1]] {
        let args = rpc::codec::encode(&(1u64, ranges)).into();
        client.call_raw(extents::READ, args, Bytes::new(), SOON).await.unwrap();
    }
    let nothing = rpc::codec::encode(&(
        7u64,
        vec![extents::WireOp::Remove { object: 1 }; 1 << 17],
        Vec::<(u64, u64)>::new(),
    ));
    client.call_raw(extents::COMMIT, nothing.into(), Bytes::new(), SOON).await.unwrap();
    for address in [&address, &master] {
        let mut stream = greeted(address, 9).unwrap();
        stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
    }
    group.unharmed().await;
}

/// Connections that end, stop, or crawl in the middle of what they say.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_vanish_stall_and_crawl() {
    let group = Group::start().await;
    let mut rng = Rng::new(SEED);
    let whole = call(procs::INVOKE, 1, &head(0, 0, 0, STAT), Bytes::from(vec![1; 200_000]));
    let mut open = Vec::new();
    for address in group.ports() {
        for n in 0..150u64 {
            let greeting = hello(1000 + n);
            // Some go away in the middle of their greeting or call, some stay and are silent.
            let mut stream = match n % 3 {
                0 => TcpStream::connect(&address).unwrap(),
                _ => greeted(&address, 1000 + n).unwrap(),
            };
            let wire = if n % 3 == 0 { &greeting } else { &whole };
            stream.write_all(&wire[..rng.below(wire.len())]).ok();
            match n % 4 {
                0 => drop(stream),
                1 => drop(stream.shutdown(Shutdown::Write).map(|()| open.push(stream))),
                _ => open.push(stream),
            }
        }
    }
    let crawlers: Vec<_> = group
        .ports()
        .into_iter()
        .map(|address| tokio::task::spawn_blocking(move || crawl(&address)))
        .collect();
    group.others_go_on().await;
    for crawler in crawlers {
        crawler.await.unwrap();
    }
    group.others_go_on().await;
    drop(open);
    group.unharmed().await;
}

/// A greeting and a call, one byte at a time, each in a packet of its own.
fn crawl(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let status = call(procs::STATUS, 1, &(), Bytes::new());
    for byte in [&hello(7)[..], &status, &status[..20]].concat() {
        if stream.write_all(&[byte]).is_err() {
            return; // it lost its patience, which is its right
        }
        std::thread::sleep(Duration::from_millis(5)); // this is what is tested: a crawl
    }
}

/// Messages between replicas, by one who is none: of another group, for another replica, or no messages at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forged_messages_between_replicas() {
    let group = Group::start().await;
    let mut rng = Rng::new(SEED);
    for address in group.cluster.locks() {
        let client = Client::new(address, ClientOptions::default());
        let (me, _, formed): (u64, Vec<String>, Option<Vec<Member>>) =
            client.call(procs::IDENTITY, &(), SOON).await.unwrap();
        let members = Membership::of(formed.expect("the group is formed"));
        let cluster = fnv(&rpc::codec::encode(&members.members));
        let other = members.members.iter().map(|member| member.id).find(|id| *id != me).unwrap();
        for view in [0, 1, 1 << 40, u64::MAX - 1, u64::MAX] {
            for body in bodies(&members) {
                let message = Message { view, body };
                for forged in
                    [(cluster ^ 1, other, me), (0, other, me), (cluster, other, me ^ 1), (cluster, me, other)]
                {
                    client.notify(
                        procs::MESSAGE,
                        rpc::codec::encode(&(forged, &message)).into(),
                        Bytes::new(),
                    );
                }
            }
            let noise = rng.bytes(300);
            let right = [&rpc::codec::encode(&(cluster, other, me))[..], &noise].concat();
            client.notify(procs::MESSAGE, right.into(), Bytes::new());
            client.notify(procs::MESSAGE, noise.clone().into(), noise.clone().into());
            let _ = client.call_raw(procs::IDENTITY, noise.into(), Bytes::new(), SOON).await;
        }
        // An answer on the same connection: all that was sent before has been looked at.
        client.call::<_, lock_rsm::rsm::View>(procs::MEMBERS, &(), SOON).await.unwrap();
    }
    group.unharmed().await;
}

/// How a group is named: FNV-1a of its founding members.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn bodies(members: &Membership) -> Vec<Body> {
    let far = Viewstamp::new(u64::MAX, u64::MAX);
    let entry = |stamp, payload| Entry { stamp, payload };
    let meta = SnapshotMeta { stamp: far, membership: members.clone() };
    vec![
        Body::PreVote { last: far },
        Body::PreVoteReply { campaign_view: u64::MAX, granted: true },
        Body::RequestVote { last: far, hand_over: true },
        Body::Vote { granted: true },
        Body::Append {
            previous: Viewstamp::ZERO,
            entries: vec![entry(Viewstamp::new(1, 1), Payload::Noop)],
            committed: u64::MAX,
        },
        Body::Append {
            previous: far,
            entries: vec![entry(far, Payload::Membership(Membership::default()))],
            committed: 0,
        },
        Body::Appended { matched: u64::MAX },
        Body::AppendRefused { previous: far, hint: far },
        Body::Heartbeat { committed: u64::MAX, round: u64::MAX, sent_ms: u64::MAX },
        Body::HeartbeatReply { round: u64::MAX, sent_ms: u64::MAX },
        Body::Snapshot { meta, offset: 0, data: Bytes::from_static(b"not a state"), done: true },
        Body::SnapshotReply { stamp: far, next: u64::MAX },
        Body::TimeoutNow,
    ]
}

/// Requests under numbers that nobody was given, used numbers, and numbers at the edges.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_and_repeated_numbers_of_clients_and_requests() {
    let mut group = Group::start().await;
    let master = group.master().await;
    let own = RsmClient::connect(group.cluster.locks(), RsmClientOptions::default()).await.unwrap().id();
    let client = Client::new(&master, ClientOptions::default());
    let stat: Bytes = rpc::codec::encode(&1u64).into();
    for id in [own, own + 1000, u64::MAX - 1, u64::MAX] {
        for (request, acked) in [
            (1, 0),
            (1, 0),
            (7, 0),
            (7, 7),
            (3, 9),
            (2, u64::MAX),
            (u64::MAX, u64::MAX),
            (u64::MAX, 0),
            (0, 0),
        ] {
            for proc in [STAT, ACQUIRE, EXPIRE, REGISTER, 0] {
                let args = rpc::codec::encode(&head(id, request, acked, proc)).into();
                client.call_raw(procs::INVOKE, args, stat.clone(), SOON).await.unwrap();
            }
        }
        client.call_raw(procs::ATTACH, rpc::codec::encode(&id).into(), Bytes::new(), SOON).await.unwrap();
    }
    // The group's own commands are not for others, and thousands of numbers may be asked for.
    let end = rpc::codec::encode(&EndSession { session: 1 });
    let forged = rpc::codec::encode(&head(0, 0, 0, EXPIRE)).into();
    let refused = client.call_raw(procs::INVOKE, forged, end.into(), SOON).await;
    assert!(matches!(refused, Err(rpc::RpcError::BadArgs)), "{refused:?}");
    let asked = (0..2000).map(|_| {
        let head = rpc::codec::encode(&head(0, 0, 0, REGISTER)).into();
        client.call_raw(procs::INVOKE, head, Bytes::new(), SOON)
    });
    for answer in futures_util::future::join_all(asked).await {
        answer.unwrap();
    }
    group.unharmed().await;
}
