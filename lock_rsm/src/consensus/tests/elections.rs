//! Who becomes master, who votes for whom, and when a master stops (§3.4, §3.6.1, §4.2.3, §6.2, §9.6).

use super::cluster::Cluster;
use super::driven::{Driven, T, append, command, stamp};
use super::setup::{Setup, member};
use crate::consensus::{Body, Membership, Payload, Restored, Role, ViewInfo, Viewstamp};

fn request(last: Viewstamp, hand_over: bool) -> Body {
    Body::RequestVote { last, hand_over }
}

fn granted(view: u64) -> Body {
    Body::PreVoteReply { campaign_view: view, granted: true }
}

#[test]
fn a_silent_group_is_asked_before_a_view_is_opened() {
    let mut one = Driven::new(3);
    one.wait(T - 1);
    assert_eq!(one.core.role(), Role::Slave, "no election before the timeout");
    one.wait(T + 1);
    assert_eq!((one.core.role(), one.core.view()), (Role::PreCandidate, 0));
    let pre_vote = Body::PreVote { last: Viewstamp::ZERO };
    assert_eq!(one.sent(), [(2, pre_vote.clone()), (3, pre_vote)]);
    assert_eq!(one.core.hard_state().voted_for, None);
}

#[test]
fn the_vote_is_asked_for_only_when_the_own_one_is_on_disk() {
    let mut one = Driven::new(3);
    one.wait(2 * T);
    one.sync();
    one.receive(2, 0, granted(1));
    assert_eq!((one.core.role(), one.core.view()), (Role::Candidate, 1));
    let outputs = one.take();
    assert!(outputs.messages.is_empty());
    assert_eq!(outputs.after_persist.len(), 2);
    assert_eq!(outputs.hard_state.and_then(|hard_state| hard_state.voted_for), Some(1));
    assert_eq!(one.core.role(), Role::Candidate);
}

#[test]
fn the_own_vote_counts_only_when_it_is_on_disk() {
    let mut one = Driven::new(3);
    one.wait(2 * T);
    one.receive(2, 0, granted(1));
    let outputs = one.take();
    one.receive(2, 1, Body::Vote { granted: true });
    assert_eq!(one.core.role(), Role::Candidate, "one of three is no majority");
    one.persisted(outputs.number);
    assert_eq!(one.core.role(), Role::Master);
}

#[test]
fn refusals_and_answers_to_other_questions_elect_nobody() {
    let mut one = Driven::new(3);
    one.wait(2 * T);
    one.receive(2, 0, Body::PreVoteReply { campaign_view: 1, granted: false });
    one.receive(3, 0, granted(5));
    one.receive(9, 0, granted(1));
    assert_eq!(one.core.role(), Role::PreCandidate);
    one.receive(2, 0, granted(1));
    one.sync();
    one.receive(2, 1, Body::Vote { granted: false });
    one.receive(9, 1, Body::Vote { granted: true });
    assert_eq!(one.core.role(), Role::Candidate);
}

/// Found by the simulation: who grants a pre-vote may be views behind, and its answer must count all the
/// same.
#[test]
fn a_pre_vote_of_a_replica_in_an_earlier_view_counts() {
    let mut one = Driven::with_log(3, &[4]);
    one.wait(2 * T);
    one.receive(2, 1, granted(5));
    assert_eq!((one.core.role(), one.core.view()), (Role::Candidate, 5));
}

#[test]
fn a_single_replica_elects_itself() {
    let mut one = Driven::new(1);
    one.core.campaign(0);
    one.sync();
    assert_eq!((one.core.role(), one.core.view(), one.core.master()), (Role::Master, 1, Some(1)));
    one.sync();
    assert!(one.core.is_settled() && one.core.is_master_with_quorum(1_000_000));
}

#[test]
fn who_may_not_vote_does_not_campaign() {
    let members = vec![member(1, false), member(2, true)];
    for membership in [Membership::of(members), Membership::default()] {
        let mut one = Driven::restored(Driven::config(), Restored { membership, ..Restored::default() });
        one.wait(10 * T);
        one.core.campaign(one.now_ms);
        assert_eq!(one.core.role(), Role::Slave);
        assert_eq!(one.sent(), []);
    }
}

#[test]
fn a_new_master_begins_with_an_empty_entry() {
    let mut one = Driven::with_log(3, &[1, 1]);
    one.wait(2 * T);
    one.receive(2, 1, granted(2));
    one.sync();
    one.receive(2, 2, Body::Vote { granted: true });
    let outputs = one.take();
    assert_eq!(outputs.append.len(), 1);
    assert_eq!((outputs.append[0].stamp, &outputs.append[0].payload), (stamp(2, 3), &Payload::Noop));
}

#[test]
fn pre_votes_are_for_up_to_date_logs_and_times_without_a_master() {
    let mut one = Driven::with_log(3, &[1, 2]);
    one.wait(T);
    let ask = |one: &mut Driven, view, last| {
        one.receive(2, view, Body::PreVote { last });
        match one.sent_to(2).as_slice() {
            [Body::PreVoteReply { campaign_view, granted }] if *campaign_view == view + 1 => *granted,
            other => panic!("an answer, not {other:?}"),
        }
    };
    assert!(ask(&mut one, 2, stamp(2, 2)));
    assert!(ask(&mut one, 7, stamp(3, 1)), "a later view outweighs a longer log");
    assert!(!ask(&mut one, 2, stamp(2, 1)) && !ask(&mut one, 2, stamp(1, 9)));
    assert!(!ask(&mut one, 1, stamp(2, 2)), "the campaign would be in a view that exists");
    assert_eq!((one.core.view(), one.core.hard_state().voted_for), (2, None), "a pre-vote changes nothing");
    one.receive(3, 2, append(stamp(2, 2), vec![], 0));
    one.sync();
    assert!(!ask(&mut one, 2, stamp(2, 2)), "the master lives");
    one.now_ms += T;
    assert!(ask(&mut one, 2, stamp(2, 2)), "no longer");
}

#[test]
fn a_living_master_is_not_voted_away() {
    let mut one = Driven::new(3);
    one.receive(3, 1, append(Viewstamp::ZERO, vec![], 0));
    one.sync();
    one.now_ms += T - 1;
    one.receive(2, 2, request(stamp(1, 1), false));
    assert_eq!((one.core.view(), one.sent_to(2)), (1, vec![]));
    one.receive(2, 2, request(stamp(1, 1), true));
    assert_eq!(
        (one.core.view(), one.sent_to(2)),
        (2, vec![Body::Vote { granted: true }]),
        "unless it wants that"
    );
}

/// A later view alone, without a master in it, frees nobody from the promise to wait.
#[test]
fn a_view_learned_in_passing_is_no_reason_to_vote_in_it() {
    let mut one = Driven::new(3);
    one.receive(3, 1, append(Viewstamp::ZERO, vec![], 0));
    one.receive(2, 2, Body::Vote { granted: false });
    one.sync();
    one.receive(2, 2, request(stamp(1, 1), false));
    assert_eq!((one.core.view(), one.sent()), (2, vec![]));
    one.now_ms += T;
    one.receive(2, 2, request(stamp(1, 1), false));
    assert_eq!(one.sent(), [(2, Body::Vote { granted: true })]);
}

#[test]
fn one_vote_a_view() {
    let mut one = Driven::with_log(3, &[1, 1]);
    one.wait(T);
    one.receive(2, 2, request(stamp(1, 2), false));
    one.receive(3, 2, request(stamp(1, 2), false));
    one.receive(2, 2, request(stamp(1, 2), false));
    let sent = one.sent();
    assert_eq!(sent.iter().filter(|(_, body)| *body == Body::Vote { granted: true }).count(), 2);
    assert!(sent.contains(&(3, Body::Vote { granted: false })));
    assert_eq!(one.core.hard_state().voted_for, Some(2));
    one.receive(3, 3, request(stamp(1, 1), false));
    assert_eq!(one.sent(), [(3, Body::Vote { granted: false })], "its log is shorter");
    assert_eq!((one.core.view(), one.core.hard_state().voted_for), (3, None));
    one.receive(2, 3, request(stamp(1, 2), false));
    assert_eq!(one.sent(), [(2, Body::Vote { granted: true })], "a refusal is no vote");
}

#[test]
fn who_votes_for_another_gives_up_its_own_plans() {
    let mut one = Driven::new(3);
    one.wait(2 * T);
    one.sync();
    one.receive(2, 1, request(Viewstamp::ZERO, false));
    one.receive(3, 1, granted(2));
    assert_eq!((one.core.role(), one.core.view()), (Role::Slave, 1));
}

/// It may have answered its master just before it stopped.
#[test]
fn a_restarted_replica_waits_before_it_votes() {
    let mut one = Driven::with_log(3, &[1]);
    one.now_ms = T - 1;
    one.receive(2, 2, request(stamp(1, 1), false));
    assert_eq!((one.core.view(), one.sent()), (1, vec![]));
    one.now_ms = T;
    one.receive(2, 2, request(stamp(1, 1), false));
    assert_eq!(one.sent(), [(2, Body::Vote { granted: true })]);
}

#[test]
fn old_masters_and_candidates_learn_of_the_later_view() {
    let mut one = Driven::with_log(3, &[5]);
    one.receive(2, 4, append(Viewstamp::ZERO, vec![], 0));
    one.receive(3, 4, request(stamp(4, 9), false));
    one.now_ms += T;
    one.receive(3, 4, request(stamp(4, 9), false));
    let views: Vec<_> = one.sync().messages.into_iter().map(|(to, message)| (to, message.view)).collect();
    assert_eq!(views, [(2, 5), (3, 5), (3, 5)]);
}

#[test]
fn a_master_gives_way_to_a_later_view() {
    let mut one = Driven::settled_master(3);
    one.receive(2, 2, append(stamp(1, 1), vec![], 1));
    assert_eq!((one.core.role(), one.core.view(), one.core.master()), (Role::Slave, 2, Some(2)));
}

#[test]
fn a_master_does_not_listen_to_another_one_in_its_view() {
    let mut one = Driven::settled_master(3);
    one.receive(2, 1, append(stamp(1, 1), vec![command(1, 2)], 2));
    assert_eq!((one.core.role(), one.core.last()), (Role::Master, stamp(1, 1)));
    assert_eq!(one.core.malformed_messages(), 1);
}

#[test]
fn a_slave_does_not_follow_two_masters_of_a_view() {
    let mut one = Driven::new(3);
    one.receive(2, 1, append(Viewstamp::ZERO, vec![command(1, 1)], 0));
    one.sync();
    one.receive(3, 1, append(Viewstamp::ZERO, vec![], 0));
    one.receive(3, 1, Body::Heartbeat { committed: 0, round: 0, sent_ms: 0 });
    assert_eq!((one.core.master(), one.core.malformed_messages()), (Some(2), 2));
    assert!(one.sync().messages.is_empty(), "the second one is not even answered");
}

#[test]
fn a_master_that_nobody_answers_stops_acting_and_then_steps_down() {
    let mut one = Driven::settled_master(3);
    let start_ms = one.now_ms;
    assert!(one.core.is_master_with_quorum(start_ms + T - 1));
    assert!(!one.core.is_master_with_quorum(start_ms + T));
    one.wait(T);
    one.hear(&[2]);
    assert!(one.core.is_master_with_quorum(one.now_ms), "one other is a majority of three");
    one.wait(T);
    assert_eq!(one.core.role(), Role::Master);
    assert!(!one.core.is_master_with_quorum(one.now_ms));
    one.wait(T);
    assert_eq!((one.core.role(), one.core.view(), one.core.master()), (Role::Slave, 1, None));
}

#[test]
fn the_lease_counts_from_when_the_heartbeat_was_sent() {
    let mut one = Driven::settled_master(3);
    let sent_ms = one.now_ms + 50;
    one.wait(50);
    one.wait(90);
    one.receive(2, 1, Body::HeartbeatReply { round: 0, sent_ms });
    assert!(one.core.is_master_with_quorum(sent_ms + T - 1) && !one.core.is_master_with_quorum(sent_ms + T));
}

#[test]
fn a_new_master_is_not_sure_of_its_quorum_before_a_heartbeat_is_answered() {
    let mut one = Driven::new(3);
    one.elect(&[2]);
    assert!(!one.core.is_master_with_quorum(one.now_ms));
    one.hear(&[2]);
    assert!(one.core.is_master_with_quorum(one.now_ms));
}

#[test]
fn a_first_heartbeat_is_answered_when_the_view_is_on_disk() {
    let mut one = Driven::new(3);
    let heartbeat = Body::Heartbeat { committed: 0, round: 3, sent_ms: 10 };
    one.receive(2, 1, heartbeat.clone());
    let outputs = one.take();
    assert_eq!((outputs.messages.len(), outputs.after_persist.len()), (0, 1));
    one.persisted(outputs.number);
    one.receive(2, 1, heartbeat);
    let outputs = one.take();
    assert_eq!((outputs.messages.len(), outputs.after_persist.len()), (1, 0));
}

#[test]
fn views_are_announced_once_each() {
    let mut one = Driven::new(3);
    let info = |number, master| {
        let membership = super::setup::founders(3);
        Some(ViewInfo { number, master, membership })
    };
    assert_eq!(one.sync().view_changed, info(0, None));
    assert_eq!(one.sync().view_changed, None);
    one.receive(2, 1, append(Viewstamp::ZERO, vec![], 0));
    assert_eq!(one.sync().view_changed, info(1, Some(2)));
    one.receive(2, 1, append(Viewstamp::ZERO, vec![], 0));
    assert_eq!(one.sync().view_changed, None);
    one.wait(2 * T);
    assert_eq!(one.sync().view_changed, info(1, None));
}

#[test]
fn campaigning_at_once_saves_the_timeout_and_respects_a_master() {
    let mut cluster = Cluster::new(Setup::new(3, 1));
    cluster.input(1, |core, now_ms| core.campaign(now_ms));
    cluster.run_until(T, "the first master", |cluster| cluster.core(1).is_settled());
    cluster.input(2, |core, now_ms| core.campaign(now_ms));
    cluster.run_for(2 * T);
    assert_eq!((cluster.master(), cluster.core(1).view()), (Some(1), 1));
}

#[test]
fn a_dead_master_is_replaced_in_well_under_a_second() {
    let mut cluster = Cluster::new(Setup::new(3, 2));
    let master = cluster.elect();
    cluster.crash(master);
    let died_ms = cluster.now_ms;
    let successor = cluster.elect();
    assert_ne!(successor, master);
    assert!(cluster.now_ms - died_ms < 800, "took {} ms", cluster.now_ms - died_ms);
}

#[test]
fn a_replica_that_was_cut_off_does_not_disturb_when_it_returns() {
    let mut cluster = Cluster::new(Setup::new(3, 3));
    let master = cluster.elect();
    let view = cluster.core(master).view();
    let slave = cluster.ids().into_iter().find(|&id| id != master).expect("there are three");
    cluster.network.cut_off(&[slave].into(), &[1, 2, 3]);
    cluster.run_for(3_000);
    cluster.network.heal();
    cluster.run_for(1_000);
    assert_eq!((cluster.master(), cluster.core(slave).view()), (Some(master), view));
    cluster.recover();
}
