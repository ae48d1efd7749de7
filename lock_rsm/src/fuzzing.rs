//! What fuzzers need of this crate: every decoder of bytes from a wire or a disk, and the replicated program itself.

use crate::consensus::{Body, Entry, Former, Member, Membership, Message, Payload, SnapshotMeta, Viewstamp};
use crate::locks::LockId;
use crate::locks::protocol::*;
use crate::locks::table::LockTable;
use bytes::Bytes;
use rpc::fuzzing::{Decoder, coded};
use serde::Serialize;

pub use crate::rsm::fuzzing::{Bench, Done, REPLICAS, SNAPSHOTS, TEXTS};
pub use crate::rsm::store_fuzzing::DECODERS as STORE;

/// What travels between the lock service and its clients, and its state in snapshots.
pub const LOCKS: &[Decoder] = &[
    Decoder { name: "open_session", rewrite: coded::<OpenSession>, samples: open_session },
    Decoder { name: "acquire", rewrite: coded::<Acquire>, samples: acquire },
    Decoder { name: "release", rewrite: coded::<Release>, samples: release },
    Decoder { name: "standings", rewrite: coded::<Standings>, samples: standings },
    Decoder {
        name: "allocate",
        rewrite: coded::<Allocate>,
        samples: || one(&Allocate { session: 9, count: 4096 }),
    },
    Decoder { name: "allocated", rewrite: coded::<Allocated>, samples: allocated },
    Decoder {
        name: "end_session",
        rewrite: coded::<EndSession>,
        samples: || one(&EndSession { session: 1 << 63 }),
    },
    Decoder { name: "ended", rewrite: coded::<Ended>, samples: || one(&Ended { more: true }) },
    Decoder { name: "sessions", rewrite: coded::<SessionsPage>, samples: sessions },
    Decoder { name: "keepalive", rewrite: coded::<Keepalive>, samples: || one(&Keepalive { session: 0 }) },
    Decoder { name: "alive", rewrite: coded::<Alive>, samples: || one(&Alive { lease_ms: 10_000 }) },
    Decoder { name: "stuck", rewrite: coded::<StuckReport>, samples: stuck },
    Decoder { name: "revoke", rewrite: coded::<Revoke>, samples: revoke },
    Decoder { name: "grant", rewrite: coded::<Grant>, samples: grant },
    Decoder { name: "fence", rewrite: coded::<Fence>, samples: || one(&Fence { session: 77 }) },
    Decoder { name: "lock_id", rewrite: coded::<LockId>, samples: || one(&u64::MAX) },
    Decoder { name: "session_id", rewrite: coded::<SessionId>, samples: || one(&(1u64 << 63)) },
    Decoder { name: "holders", rewrite: coded::<u32>, samples: || one(&3u32) },
];

/// The lock table as it stands in snapshots.
pub const TABLES: &[Decoder] = &[Decoder { name: "table", rewrite: rewrite_table, samples: tables }];

/// The messages between replicas.
pub const MESSAGES: &[Decoder] =
    &[Decoder { name: "message", rewrite: rewrite_message, samples: sample_messages }];

pub(crate) fn one<T: Serialize>(value: &T) -> Vec<Vec<u8>> {
    vec![rpc::codec::encode(value)]
}

pub(crate) fn members() -> Membership {
    let member = |id: u64| Member { id, address: format!("127.0.0.1:{}", 7000 + id), voter: id != 3 };
    let former = |id: u64| Former { id, address: format!("127.0.0.1:{}", 7000 + id), retired: id == 4 };
    Membership { members: (1..=3).map(member).collect(), former: (4..=5).map(former).collect() }
}

/// One entry of each kind, from `first` on.
pub(crate) fn entries(first: u64) -> Vec<Entry> {
    let payloads =
        [Payload::Noop, Payload::Command(Bytes::from_static(b"a command")), Payload::Membership(members())];
    let entry = |(seq, payload)| Entry { stamp: Viewstamp::new(2, seq), payload };
    (first..).zip(payloads).map(entry).collect()
}

/// One message of each kind.
pub(crate) fn messages() -> Vec<Message> {
    let stamp = Viewstamp::new(2, 9);
    let meta = SnapshotMeta { stamp, membership: members() };
    let bodies = [
        Body::PreVote { last: stamp },
        Body::PreVoteReply { campaign_view: 3, granted: true },
        Body::RequestVote { last: stamp, hand_over: true },
        Body::Vote { granted: false },
        Body::Append { previous: stamp, entries: entries(10), committed: 9 },
        Body::Appended { matched: 4 },
        Body::AppendRefused { previous: stamp, hint: Viewstamp::new(1, 2) },
        Body::Heartbeat { committed: 4, round: 9, sent_ms: 1_000 },
        Body::HeartbeatReply { round: 9, sent_ms: 1_000 },
        Body::Snapshot { meta, offset: 5, data: Bytes::from_static(b"piece"), done: false },
        Body::SnapshotReply { stamp, next: 10 },
        Body::TimeoutNow,
    ];
    bodies.into_iter().map(|body| Message { view: 4, body }).collect()
}

fn sample_messages() -> Vec<Vec<u8>> {
    messages().iter().map(rpc::codec::encode).collect()
}

/// Besides decoding it: judging whether it makes sense must not stumble over any value in it.
fn rewrite_message(bytes: &[u8]) -> Option<Vec<u8>> {
    let message: Message = rpc::codec::decode(bytes).ok()?;
    let _ = message.is_well_formed();
    coded::<Message>(bytes)
}

fn rewrite_table(bytes: &[u8]) -> Option<Vec<u8>> {
    let table = LockTable::unmarshal(bytes).ok()?;
    let again = table.marshal();
    assert_eq!(LockTable::unmarshal(&again).as_ref(), Ok(&table));
    Some(again)
}

fn tables() -> Vec<Vec<u8>> {
    let mut table = LockTable::default();
    let empty = table.marshal();
    let mut stamp = (1, 0);
    let mut next = || {
        stamp.1 += 1;
        stamp
    };
    let mut ids = Vec::new();
    for client in 1..=3 {
        let args = OpenSession { name: format!("client {client}"), nonce: client, lease_ms: 10_000 };
        ids.push(table.open_session(next(), client, &args).expect("there is room"));
    }
    let mut notices = Default::default();
    let mut acquire = |table: &mut LockTable, who: usize, id: LockId, mode| {
        let args = Acquire { session: ids[who], locks: vec![(id, mode)] };
        table.acquire(next(), who as u64 + 1, &args, &mut notices).expect("its session is open");
    };
    acquire(&mut table, 0, 1, Mode::Exclusive);
    let held = table.marshal();
    acquire(&mut table, 1, 1, Mode::Shared);
    acquire(&mut table, 2, 1, Mode::Exclusive);
    acquire(&mut table, 0, 2, Mode::Shared);
    acquire(&mut table, 1, 2, Mode::Shared);
    acquire(&mut table, 1, u64::MAX, Mode::Shared);
    vec![empty, held, table.marshal()]
}

fn open_session() -> Vec<Vec<u8>> {
    one(&OpenSession { name: "a client".into(), nonce: u64::MAX, lease_ms: 10_000 })
}

fn acquire() -> Vec<Vec<u8>> {
    one(&Acquire { session: 5, locks: vec![(1, Mode::Shared), (u64::MAX, Mode::Exclusive)] })
}

fn release() -> Vec<Vec<u8>> {
    one(&Release { session: 5, locks: vec![(1, None), (2, Some(Mode::Shared))] })
}

fn standings() -> Vec<Vec<u8>> {
    let locks =
        vec![Standing::default(), Standing { held: Some(Mode::Shared), waiting: Some(Mode::Exclusive) }];
    one(&Standings { stamp: (3, 70_000), locks })
}

fn allocated() -> Vec<Vec<u8>> {
    one(&Allocated { stamp: (3, 4), first: FIRST_ALLOCATED, count: 4096 })
}

fn sessions() -> Vec<Vec<u8>> {
    one(&SessionsPage { sessions: vec![(9, "yfs mount /mnt".to_owned())], next: Some(u64::MAX) })
}

fn stuck() -> Vec<Vec<u8>> {
    let stuck = StuckClient {
        session: 5,
        name: "a client".into(),
        address: Some("127.0.0.1:4711".into()),
        lock: 9,
        owed_ms: 70_000,
        waiting: 2,
    };
    one(&StuckReport { sessions: 300, stuck_count: 1, stuck: vec![stuck] })
}

fn revoke() -> Vec<Vec<u8>> {
    one(&Revoke { session: 5, stamp: (1, 2), locks: vec![(9, Mode::Exclusive)] })
}

fn grant() -> Vec<Vec<u8>> {
    one(&Grant { session: 5, stamp: (1, 2), locks: vec![(9, Mode::Shared)] })
}
