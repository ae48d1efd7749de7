//! Sending the log, comparing logs, committing (§3.5, §3.6.2, §10.2).

use super::cluster::Cluster;
use super::driven::{Driven, append, command, entries, stamp};
use super::network::Weather;
use super::setup::Setup;
use crate::consensus::{Body, Config, Entry, ProposeError, Viewstamp};
use bytes::Bytes;

fn appends(bodies: &[Body]) -> Vec<(Viewstamp, Vec<u64>)> {
    let seqs = |entries: &[Entry]| entries.iter().map(|entry| entry.stamp.seq).collect();
    let parts = |body: &Body| match body {
        Body::Append { previous, entries, .. } => Some((*previous, seqs(entries))),
        _ => None,
    };
    bodies.iter().filter_map(parts).collect()
}

#[test]
fn proposals_get_consecutive_stamps_of_the_view() {
    let mut one = Driven::settled_master(3);
    assert_eq!(one.propose(3), stamp(1, 2));
    assert_eq!(one.propose(1), stamp(1, 5));
}

#[test]
fn who_is_not_master_names_it() {
    let mut one = Driven::new(3);
    let propose = |one: &mut Driven| one.core.propose(0, vec![Bytes::from_static(b"x")]);
    assert_eq!(propose(&mut one), Err(ProposeError::NotMaster { hint: None }));
    one.receive(2, 1, append(Viewstamp::ZERO, vec![], 0));
    assert_eq!(propose(&mut one), Err(ProposeError::NotMaster { hint: Some(2) }));
}

#[test]
fn what_was_proposed_meanwhile_travels_together() {
    let mut one = Driven::settled_master(3);
    for _ in 0..10 {
        one.propose(2);
    }
    assert_eq!(appends(&one.sent_to(2)), [(stamp(1, 1), (2..=21).collect())]);
}

#[test]
fn the_window_bounds_what_is_on_its_way() {
    let config = Config { append_entries_max: 2, inflight_messages_max: 3, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    one.propose(10);
    let sent = appends(&one.sent_to(2));
    assert_eq!(sent, [(stamp(1, 1), vec![2, 3]), (stamp(1, 3), vec![4, 5]), (stamp(1, 5), vec![6, 7])]);
    assert_eq!(one.sent_to(2), []);
    one.agree(2, 3);
    assert_eq!(appends(&one.sent_to(2)), [(stamp(1, 7), vec![8, 9])]);
}

#[test]
fn bytes_bound_messages_and_window() {
    let size = command(1, 2).size_bytes() + 20;
    let config = Config { append_bytes_max: 2 * size, inflight_bytes_max: 3 * size, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    one.propose(40);
    let sent = appends(&one.sent_to(2));
    assert!(sent.iter().all(|(_, seqs)| (2..=3).contains(&seqs.len())), "{sent:?}");
    assert_eq!(sent.len(), 2);
}

/// Nothing tells that the last message was lost but the silence about it.
#[test]
fn a_lost_append_is_noticed_by_the_next_heartbeat() {
    let mut one = Driven::settled_master(3);
    one.propose(1);
    one.sent();
    one.hear(&[2]); // `matched` grew since the heartbeat before
    one.sent();
    one.hear(&[2]);
    assert_eq!(appends(&one.sent_to(2)), [(stamp(1, 2), vec![])], "a question about the entry that was sent");
    one.receive(2, 1, Body::AppendRefused { previous: stamp(1, 2), hint: stamp(1, 1) });
    assert_eq!(appends(&one.sent_to(2)), [(stamp(1, 1), vec![2])]);
    one.sent();
    one.hear(&[2]);
    assert_eq!(
        appends(&one.sent_to(2)),
        [(stamp(1, 1), vec![2])],
        "a probe is repeated as long as it is not answered"
    );
}

#[test]
fn stale_refusals_are_ignored() {
    let mut one = Driven::settled_master(3);
    one.propose(4);
    one.sent();
    one.agree(2, 5);
    one.receive(2, 1, Body::AppendRefused { previous: stamp(1, 4), hint: stamp(0, 0) });
    assert_eq!(one.sent_to(2), []);
}

/// It lost its disk, which its driver should have noticed. One question a heartbeat is enough for it.
#[test]
fn a_member_that_forgot_what_it_acknowledged_is_not_argued_with() {
    let mut one = Driven::settled_master(3);
    one.propose(1);
    one.sent();
    for previous in [stamp(1, 2), stamp(1, 1)] {
        one.receive(2, 1, Body::AppendRefused { previous, hint: Viewstamp::ZERO });
        assert_eq!(one.sent_to(2).len(), usize::from(previous.seq == 2), "{previous}");
    }
    one.hear(&[2]);
    assert_eq!(one.sent_to(2).len(), 1);
}

#[test]
fn a_log_that_lacks_the_previous_entry_says_where_to_look() {
    let mut one = Driven::with_log(3, &[1, 1, 3, 3]);
    one.receive(2, 4, append(stamp(4, 9), vec![], 0));
    assert_eq!(one.sent_to(2), [Body::AppendRefused { previous: stamp(4, 9), hint: stamp(3, 4) }]);
    one.receive(2, 4, append(stamp(2, 4), vec![], 0));
    assert_eq!(one.sent_to(2), [Body::AppendRefused { previous: stamp(2, 4), hint: stamp(1, 2) }]);
}

#[test]
fn a_whole_view_of_differences_takes_one_round_trip() {
    let mut views = vec![1; 5];
    views.extend([3; 50]);
    let mut one = Driven::with_log(3, &views);
    one.elect(&[2]);
    // The other has 40 entries of view 2, which were never committed, after the 5 they share.
    one.receive(2, 4, Body::AppendRefused { previous: stamp(3, 55), hint: stamp(2, 45) });
    assert_eq!(appends(&one.sent_to(2))[0].0, stamp(1, 5));
}

#[test]
fn contradicting_entries_give_way_and_agreeing_ones_stay() {
    let mut one = Driven::with_log(3, &[1, 1, 1, 1]);
    one.receive(2, 2, append(stamp(1, 1), vec![command(1, 2), command(2, 3)], 0));
    let outputs = one.sync();
    assert_eq!((outputs.truncate_from, outputs.append), (Some(3), vec![command(2, 3)]));
    assert_eq!(one.core.last(), stamp(2, 3));
}

#[test]
fn an_overtaken_append_does_not_shorten_the_log() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1, 1, 1]), 0));
    one.sync();
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1]), 0));
    let outputs = one.sync();
    assert_eq!((outputs.truncate_from, one.core.last()), (None, stamp(1, 3)));
    assert_eq!(
        outputs.messages[0].1.body,
        Body::Appended { matched: 1 },
        "no more than was asked about is known to agree"
    );
}

#[test]
#[should_panic(expected = "is committed")]
fn what_is_committed_is_never_taken_back() {
    let mut one = Driven::with_log(3, &[1, 1, 1]);
    one.receive(2, 1, append(stamp(1, 3), vec![], 2));
    one.core.truncate_log(2);
}

#[test]
fn the_commit_position_reaches_no_further_than_the_agreement() {
    let mut one = Driven::with_log(3, &[1, 1, 1]);
    one.receive(2, 2, append(stamp(1, 1), vec![command(1, 2)], 3));
    let outputs = one.sync();
    let seqs: Vec<_> = outputs.committed.iter().map(|entry| entry.stamp.seq).collect();
    assert_eq!(seqs, [1, 2], "entry 3 may be another one at the master");
}

/// The dissertation's figure 3.7: an entry of an earlier view is on a majority and may still be lost.
#[test]
fn entries_of_earlier_views_are_not_committed_by_counting() {
    let mut one = Driven::with_log(5, &[1, 2]);
    one.elect(&[2, 3]);
    one.agree(2, 2);
    one.agree(3, 2);
    assert_eq!(one.core.committed(), 0);
    one.agree(2, 3);
    assert_eq!(one.core.committed(), 0);
    one.agree(3, 3);
    assert_eq!(one.core.committed(), 3, "with an entry of this view, all before it");
    assert_eq!(one.sync().committed.len(), 3);
}

#[test]
fn heartbeats_carry_the_commit_position_as_far_as_the_member_has_it() {
    let mut one = Driven::settled_master(3);
    one.propose(2);
    one.sync();
    one.agree(2, 3);
    one.wait(50);
    let committed = |to: u64, outputs: &crate::consensus::Outputs| {
        outputs.messages.iter().find_map(|(id, message)| match message.body {
            Body::Heartbeat { committed, .. } if *id == to => Some(committed),
            _ => None,
        })
    };
    let outputs = one.sync();
    assert_eq!((committed(2, &outputs), committed(3, &outputs)), (Some(3), Some(1)));
}

#[test]
fn a_slave_commits_nothing_that_it_does_not_have() {
    let mut one = Driven::with_log(3, &[1]);
    one.receive(2, 1, Body::Heartbeat { committed: 5, round: 0, sent_ms: 0 });
    assert_eq!((one.core.committed(), one.core.malformed_messages()), (0, 1));
}

#[test]
fn a_master_believes_no_acknowledgement_of_what_it_did_not_send() {
    let mut one = Driven::settled_master(3);
    one.agree(2, 2);
    one.agree(3, 1 << 62);
    one.agree(3, u64::MAX);
    assert_eq!((one.core.committed(), one.core.malformed_messages()), (1, 3));
}

#[test]
fn every_command_is_delivered_everywhere_in_order() {
    for seed in 1..=5 {
        let mut cluster = Cluster::new(Setup { weather: Weather::ROUGH, ..Setup::new(5, seed) });
        let mut proposed = 0;
        while proposed < 200 {
            if let Some(master) = cluster.master()
                && cluster.propose(master, 5)
            {
                proposed += 5;
            }
            cluster.run_for(7);
        }
        cluster.recover();
        assert!(cluster.checker.committed_seq() > 100);
    }
}
