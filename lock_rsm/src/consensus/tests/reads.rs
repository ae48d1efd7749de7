//! Reads confirmed by a quorum (§6.4).

use super::driven::{Driven, T, append, stamp};
use crate::consensus::{Body, Outputs, ReadError, ReadReady};

fn rounds(outputs: &Outputs) -> Vec<u64> {
    let round = |body: &Body| match body {
        Body::Heartbeat { round, .. } => Some(*round),
        _ => None,
    };
    outputs.messages.iter().filter_map(|(_, message)| round(&message.body)).collect()
}

fn answer(one: &mut Driven, from: u64, round: u64) -> Vec<ReadReady> {
    let (view, sent_ms) = (one.core.view(), one.now_ms);
    one.receive(from, view, Body::HeartbeatReply { round, sent_ms });
    one.sync().reads_ready
}

#[test]
fn a_lone_replica_confirms_at_once() {
    let mut one = Driven::settled_master(1);
    one.core.read(one.now_ms, 5).expect("it is master");
    assert_eq!(one.sync().reads_ready, [ReadReady { token: 5, seq: 1 }]);
}

#[test]
fn a_read_is_confirmed_by_answers_to_a_later_heartbeat() {
    let mut one = Driven::settled_master(3);
    one.core.read(one.now_ms, 5).expect("it is master");
    let outputs = one.sync();
    assert_eq!((rounds(&outputs), outputs.reads_ready), (vec![1, 1], vec![]));
    assert_eq!(answer(&mut one, 2, 0), [], "that heartbeat was sent before the read came");
    assert_eq!(answer(&mut one, 9, 1), [], "that is nobody");
    assert_eq!(answer(&mut one, 3, 1), [ReadReady { token: 5, seq: 1 }]);
    assert_eq!(answer(&mut one, 2, 1), [], "once");
}

#[test]
fn reads_share_a_round_and_later_ones_wait_for_the_next() {
    let mut one = Driven::settled_master(3);
    (0..3).for_each(|token| one.core.read(one.now_ms, token).expect("it is master"));
    assert_eq!(rounds(&one.sync()), [1, 1]);
    one.propose(1);
    (3..6).for_each(|token| one.core.read(one.now_ms, token).expect("it is master"));
    assert!(rounds(&one.sync()).is_empty(), "one round at a time");
    one.agree(3, 2);
    let ready = answer(&mut one, 2, 1);
    assert_eq!(ready, [0, 1, 2].map(|token| ReadReady { token, seq: 1 }));
    let ready = answer(&mut one, 2, 2);
    assert_eq!(
        ready,
        [3, 4, 5].map(|token| ReadReady { token, seq: 2 }),
        "the new round has the new commit position"
    );
}

#[test]
fn a_lost_round_is_repeated_by_the_next_heartbeat() {
    let mut one = Driven::settled_master(3);
    one.core.read(one.now_ms, 5).expect("it is master");
    one.sync();
    one.wait(50);
    assert_eq!(rounds(&one.sync()), [1, 1]);
}

/// Before that a new master does not know what its predecessors committed.
#[test]
fn reads_wait_for_the_first_commit_of_the_view() {
    let mut one = Driven::with_log(3, &[1, 1]);
    one.elect(&[2]);
    one.core.read(one.now_ms, 5).expect("it is master");
    assert!(rounds(&one.sync()).is_empty());
    one.agree(2, 3);
    assert_eq!(rounds(&one.sync()), [1, 1]);
    assert_eq!(answer(&mut one, 2, 1), [ReadReady { token: 5, seq: 3 }]);
}

#[test]
fn reads_fail_when_mastership_is_lost() {
    let mut one = Driven::settled_master(3);
    one.core.read(one.now_ms, 5).expect("it is master");
    one.sync();
    one.core.read(one.now_ms, 6).expect("it is master");
    one.receive(2, 2, append(stamp(1, 1), vec![], 1));
    let outputs = one.sync();
    assert_eq!((outputs.reads_failed, outputs.reads_ready), (vec![5, 6], vec![]));
    assert_eq!(one.core.read(one.now_ms, 7), Err(ReadError::NotMaster { hint: Some(2) }));
}

#[test]
fn reads_fail_when_no_quorum_answers() {
    let mut one = Driven::settled_master(3);
    one.core.read(one.now_ms, 5).expect("it is master");
    one.wait(2 * T);
    assert_eq!(one.sync().reads_failed, [5]);
}
