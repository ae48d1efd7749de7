//! Nothing is claimed before it is on disk (§3.8, §10.2.1).

use super::driven::{Driven, T, append, command, entries, stamp};
use crate::consensus::{Body, Viewstamp};

#[test]
fn a_slave_acknowledges_after_its_disk() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1, 1]), 0));
    let outputs = one.take();
    assert!(outputs.must_persist() && outputs.messages.is_empty());
    assert_eq!(outputs.append, entries(&[1, 1]));
    assert_eq!(outputs.after_persist.len(), 1);
    assert_eq!(outputs.after_persist[0].1.body, Body::Appended { matched: 2 });
}

#[test]
fn a_repeated_append_is_acknowledged_after_the_disk_too() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1]), 0));
    let first = one.take();
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1]), 0));
    let second = one.take();
    assert!(!second.must_persist() && second.messages.is_empty() && second.number > first.number);
    assert_eq!(second.after_persist.len(), 1, "the first may not be on disk yet");
}

#[test]
fn acknowledgements_of_one_batch_are_one() {
    let mut one = Driven::new(3);
    for seq in 1..=5 {
        let previous = if seq == 1 { Viewstamp::ZERO } else { stamp(1, seq - 1) };
        one.receive(2, 1, append(previous, vec![command(1, seq)], 0));
    }
    assert_eq!(one.sent(), [(2, Body::Appended { matched: 5 })]);
}

#[test]
fn a_vote_leaves_after_the_disk() {
    let mut one = Driven::new(3);
    one.receive(2, 1, Body::RequestVote { last: Viewstamp::ZERO, hand_over: false });
    let outputs = one.take();
    assert!(outputs.messages.is_empty());
    assert_eq!(outputs.hard_state.and_then(|hard_state| hard_state.voted_for), Some(2));
    assert_eq!(outputs.after_persist[0].1.body, Body::Vote { granted: true });
}

#[test]
fn a_master_counts_itself_only_with_what_its_disk_has() {
    let mut one = Driven::settled_master(3);
    let first = one.propose(1);
    let outputs = one.take();
    assert_eq!(outputs.messages.len(), 2, "the others are told meanwhile");
    one.agree(2, first.seq);
    assert_eq!(one.core.committed(), first.seq - 1);
    one.persisted(outputs.number);
    assert_eq!(one.core.committed(), first.seq);
    assert_eq!(one.take().committed.len(), 1);
}

#[test]
fn a_majority_of_others_commits_without_the_masters_disk() {
    let mut one = Driven::settled_master(3);
    let first = one.propose(1);
    one.take();
    one.agree(2, first.seq);
    one.agree(3, first.seq);
    assert_eq!(one.core.committed(), first.seq);
}

#[test]
fn batches_become_durable_in_order_and_several_at_once() {
    let mut one = Driven::settled_master(3);
    let numbers: Vec<u64> = (0..3)
        .map(|_| {
            one.propose(2);
            one.take().number
        })
        .collect();
    one.agree(2, 7);
    assert_eq!(one.core.committed(), 1);
    one.persisted(numbers[1]);
    assert_eq!(one.core.committed(), 5);
    one.persisted(numbers[0]);
    assert_eq!(one.core.committed(), 5, "an old notice takes nothing back");
    one.persisted(numbers[2]);
    assert_eq!(one.core.committed(), 7);
}

/// The disk has the batch, and the log has gone on to something else.
#[test]
fn what_was_taken_back_is_not_counted() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1, 1, 1]), 0));
    let old = one.take();
    one.receive(3, 2, append(stamp(1, 1), vec![command(2, 2)], 0));
    let new = one.take();
    assert_eq!((new.truncate_from, new.append.len()), (Some(2), 1));
    assert_eq!(one.core.durable, 0);
    one.persisted(old.number);
    assert_eq!(one.core.durable, 0, "entry 3 of view 1 is not in the log, so the batch says nothing of it");
    one.persisted(new.number);
    assert_eq!(one.core.durable, 2);
}

#[test]
fn what_was_not_handed_out_is_taken_back_before_it_is() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1, 1, 1]), 0));
    one.receive(3, 2, append(stamp(1, 1), vec![command(2, 2)], 0));
    let outputs = one.take();
    let stamps: Vec<_> = outputs.append.iter().map(|entry| entry.stamp).collect();
    assert_eq!((outputs.truncate_from, stamps), (Some(2), vec![stamp(1, 1), stamp(2, 2)]));
}

#[test]
fn a_candidate_asks_with_the_log_that_will_be_on_disk() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1, 1]), 0));
    one.take();
    one.wait(2 * T);
    one.receive(3, 1, Body::PreVoteReply { campaign_view: 2, granted: true });
    let outputs = one.take();
    let last = stamp(1, 2);
    assert!(
        outputs
            .after_persist
            .iter()
            .all(|(_, message)| { message.body == Body::RequestVote { last, hand_over: false } })
    );
    assert_eq!(outputs.after_persist.len(), 2);
}

#[test]
#[should_panic(expected = "was never given out")]
fn durability_of_what_was_not_handed_out_is_a_lie() {
    Driven::new(3).persisted(1);
}
