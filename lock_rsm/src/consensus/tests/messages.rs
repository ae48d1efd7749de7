//! Messages as they travel, and messages that make no sense.

use super::driven::{Driven, T, append, command, entries, stamp};
use super::setup::founders;
use crate::consensus::types::COUNTED_MAX;
use crate::consensus::{Body, Entry, Membership, Message, Payload, Role, SnapshotMeta, Viewstamp};
use bytes::Bytes;

fn one_of_each() -> Vec<Body> {
    let meta = SnapshotMeta { stamp: stamp(2, 9), membership: founders(3) };
    let noop = Entry { stamp: stamp(1, 3), payload: Payload::Noop };
    let change = Entry { stamp: stamp(1, 4), payload: Payload::Membership(founders(2)) };
    vec![
        Body::PreVote { last: stamp(1, 2) },
        Body::PreVoteReply { campaign_view: 3, granted: true },
        Body::RequestVote { last: stamp(1, 2), hand_over: true },
        Body::Vote { granted: false },
        append(stamp(1, 1), vec![command(1, 2), noop, change], 1),
        Body::Appended { matched: 4 },
        Body::AppendRefused { previous: stamp(1, 7), hint: stamp(1, 2) },
        Body::Heartbeat { committed: 4, round: 9, sent_ms: 1_000 },
        Body::HeartbeatReply { round: 9, sent_ms: 1_000 },
        Body::Snapshot { meta, offset: 5, data: Bytes::from_static(b"piece"), done: false },
        Body::SnapshotReply { stamp: stamp(2, 9), next: 10 },
        Body::TimeoutNow,
    ]
}

#[test]
fn messages_survive_their_encoding() {
    for body in one_of_each() {
        let message = Message { view: 4, body };
        let bytes = serde_json::to_vec(&message).expect("it can be written");
        assert_eq!(serde_json::from_slice::<Message>(&bytes).expect("it can be read"), message);
    }
}

#[test]
fn every_message_makes_sense_in_some_view() {
    assert!(one_of_each().into_iter().all(|body| Message { view: 4, body }.is_well_formed()));
}

#[test]
fn nonsense_is_counted_and_changes_nothing() {
    let twice = Membership::of([founders(1).members, founders(1).members].concat());
    let doubled = Entry { stamp: stamp(1, 1), payload: Payload::Membership(twice.clone()) };
    let meta = |stamp, membership| SnapshotMeta { stamp, membership };
    let snapshot = |meta, offset| Body::Snapshot { meta, offset, data: Bytes::from_static(b"x"), done: true };
    let nonsense = [
        append(Viewstamp::ZERO, vec![command(1, 1), command(1, 3)], 0),
        append(Viewstamp::ZERO, vec![command(1, 2)], 0),
        append(Viewstamp::ZERO, vec![command(0, 1)], 0),
        append(stamp(2, 4), vec![command(1, 5)], 0),
        append(Viewstamp::ZERO, vec![command(8, 1)], 0),
        append(stamp(8, 1), vec![], 0),
        append(stamp(0, 3), vec![], 0),
        append(stamp(3, 0), vec![], 0),
        append(stamp(1, u64::MAX), vec![command(1, 1)], 0),
        append(Viewstamp::ZERO, vec![doubled], 0),
        Body::AppendRefused { previous: stamp(1, 1), hint: stamp(1, 2) },
        snapshot(meta(stamp(8, 1), founders(3)), 0),
        snapshot(meta(stamp(1, 0), founders(3)), 0),
        snapshot(meta(stamp(1, 1), twice), 0),
        snapshot(meta(stamp(1, 1), founders(3)), u64::MAX),
        Body::PreVote { last: stamp(1, u64::MAX) },
        Body::PreVoteReply { campaign_view: u64::MAX, granted: true },
        Body::RequestVote { last: stamp(u64::MAX, 1), hand_over: true },
        append(stamp(1, u64::MAX - 1), vec![command(1, u64::MAX)], u64::MAX - 1),
        append(Viewstamp::ZERO, vec![], u64::MAX),
        Body::Appended { matched: u64::MAX },
        Body::AppendRefused { previous: stamp(1, u64::MAX), hint: stamp(1, 2) },
        Body::Heartbeat { committed: u64::MAX, round: 0, sent_ms: 0 },
        Body::SnapshotReply { stamp: stamp(1, u64::MAX), next: 0 },
    ];
    let mut one = Driven::new(3);
    one.sync();
    for (body, count) in nonsense.into_iter().zip(1..) {
        let what = format!("{body:?}");
        one.receive(2, 7, body);
        assert_eq!((one.core.malformed_messages(), one.core.view()), (count, 0), "{what}");
    }
    let outputs = one.take();
    assert!(!outputs.must_persist() && outputs.messages.is_empty() && outputs.after_persist.is_empty());
}

#[test]
fn a_replica_does_not_listen_to_itself() {
    let mut one = Driven::new(3);
    one.receive(1, 7, append(Viewstamp::ZERO, entries(&[1]), 0));
    assert_eq!((one.core.view(), one.core.malformed_messages()), (0, 1));
}

/// A view that no group ever comes to: whoever believed in it could never open the next one.
#[test]
fn absurd_views_are_not_believed() {
    let mut one = Driven::new(3);
    for (body, count) in one_of_each().into_iter().zip(1..) {
        one.receive(2, u64::MAX, body);
        assert_eq!((one.core.malformed_messages(), one.core.view()), (count, 0));
    }
    assert!(one.sync().hard_state.is_none());
}

/// How far ahead a view is says nothing: a replica that was away may hear of any. But where the numbers end, views end.
#[test]
fn the_last_view_is_followed_and_nobody_campaigns_for_the_next() {
    let mut one = Driven::new(3);
    one.receive(2, COUNTED_MAX, Body::Heartbeat { committed: 0, round: 0, sent_ms: 0 });
    assert_eq!((one.core.view(), one.core.master()), (COUNTED_MAX, Some(2)));
    one.sync();
    one.wait(3 * T);
    assert_eq!((one.core.role(), one.core.view()), (Role::Slave, COUNTED_MAX));
    assert!(one.sync().messages.is_empty());
}

#[test]
fn votes_of_strangers_are_not_even_remembered() {
    let mut one = Driven::new(3);
    one.wait(2 * T);
    (70..99).for_each(|id| one.receive(id, 0, Body::PreVoteReply { campaign_view: 1, granted: true }));
    assert_eq!(one.core.role(), Role::PreCandidate);
}

#[test]
fn messages_of_strangers_are_harmless_to_a_master() {
    let mut one = Driven::settled_master(3);
    for body in [
        Body::Appended { matched: 1 },
        Body::AppendRefused { previous: stamp(1, 1), hint: stamp(0, 0) },
        Body::HeartbeatReply { round: 99, sent_ms: u64::MAX },
        Body::SnapshotReply { stamp: stamp(1, 1), next: 7 },
        Body::Vote { granted: true },
    ] {
        one.receive(77, 1, body);
    }
    let outputs = one.sync();
    assert!(outputs.messages.is_empty() && !outputs.must_persist());
}
