//! Changing the members (§4.1, §4.2).

use super::cluster::Cluster;
use super::driven::{Driven, T, append, command, stamp};
use super::setup::{Setup, founders, member};
use crate::consensus::{Body, Entry, Member, Membership, MembershipError, Payload, Role, Viewstamp};

fn of(members: &[Member]) -> Membership {
    Membership::of(members.to_vec())
}

fn change(one: &mut Driven, membership: Membership) -> Result<Viewstamp, MembershipError> {
    one.core.propose_membership(one.now_ms, membership)
}

#[test]
fn a_new_membership_is_in_force_when_appended() {
    let mut one = Driven::settled_master(3);
    let four = founders(4);
    assert_eq!(change(&mut one, four.clone()), Ok(stamp(1, 2)));
    assert_eq!(one.core.membership(), &four);
    let outputs = one.sync();
    assert_eq!(outputs.view_changed.map(|info| info.membership), Some(four));
    assert!(outputs.messages.iter().any(|(to, _)| *to == 4), "the newcomer is sent the log");
    one.agree(2, 2);
    assert_eq!(one.core.committed(), 1, "two of four are no majority");
    one.agree(4, 2);
    assert_eq!(one.core.committed(), 2);
}

#[test]
fn a_change_that_is_taken_back_is_no_change() {
    let mut one = Driven::with_log(3, &[1]);
    let entry = Entry { stamp: stamp(1, 2), payload: Payload::Membership(founders(4)) };
    one.receive(2, 1, append(stamp(1, 1), vec![entry], 0));
    assert_eq!(one.sync().view_changed.map(|info| info.membership), Some(founders(4)));
    one.receive(3, 2, append(stamp(1, 1), vec![command(2, 2)], 0));
    assert_eq!(one.core.membership(), &founders(3));
    assert_eq!(one.sync().view_changed.map(|info| info.membership), Some(founders(3)));
}

#[test]
fn one_change_at_a_time() {
    let mut one = Driven::settled_master(3);
    change(&mut one, founders(4)).expect("it may");
    assert_eq!(change(&mut one, founders(5)), Err(MembershipError::ChangePending { pending: 2 }));
    one.sync();
    one.agree(2, 2);
    one.agree(3, 2);
    assert_eq!(change(&mut one, founders(5)), Ok(stamp(1, 3)));
}

#[test]
fn what_could_split_the_group_is_refused() {
    let mut one = Driven::settled_master(3);
    assert_eq!(change(&mut one, founders(5)), Err(MembershipError::TooManyChanges { changes: 2 }));
    let exchange = of(&[member(1, true), member(2, true), member(4, true)]);
    assert_eq!(change(&mut one, exchange), Err(MembershipError::TooManyChanges { changes: 2 }));
    assert_eq!(change(&mut one, Membership::default()), Err(MembershipError::NoVoters));
    let twice = of(&[member(1, true), member(2, true), member(3, true), member(3, false)]);
    assert_eq!(change(&mut one, twice), Err(MembershipError::Duplicate));
    assert_eq!(one.core.last().seq, 1);
    assert_eq!(change(&mut Driven::new(3), founders(3)), Err(MembershipError::NotMaster { hint: None }));
}

/// Without this rule two majorities of different memberships could decide differently (raft-dev, July 2015).
#[test]
fn a_new_master_commits_before_it_changes_members() {
    let mut one = Driven::with_log(3, &[1]);
    one.elect(&[2]);
    assert_eq!(change(&mut one, founders(4)), Err(MembershipError::ViewNotSettled));
    one.agree(2, 2);
    assert_eq!(change(&mut one, founders(4)), Ok(stamp(2, 3)));
}

#[test]
fn members_without_a_vote_count_for_nothing() {
    let mut one = Driven::settled_master(3);
    let guests = of(&[member(1, true), member(2, true), member(3, true), member(4, false), member(5, false)]);
    change(&mut one, guests).expect("any number may listen");
    one.sync();
    one.agree(4, 2);
    one.agree(5, 2);
    assert_eq!(one.core.committed(), 1);
    one.now_ms += T;
    one.hear(&[4, 5]);
    assert!(!one.core.is_master_with_quorum(one.now_ms));
    one.core.read(one.now_ms, 1).expect("it is master");
    one.sync();
    for id in [4, 5] {
        one.receive(id, 1, Body::HeartbeatReply { round: 1, sent_ms: one.now_ms });
    }
    assert_eq!(one.sync().reads_ready, []);
    one.agree(2, 2);
    assert_eq!(one.core.committed(), 2);
}

#[test]
fn votes_of_members_without_one_elect_nobody() {
    let mut one = Driven::with_log(3, &[1]);
    let guests = of(&[member(1, true), member(2, true), member(3, true), member(4, false)]);
    let entry = Entry { stamp: stamp(1, 2), payload: Payload::Membership(guests) };
    one.receive(2, 1, append(stamp(1, 1), vec![entry], 0));
    one.wait(2 * T);
    one.receive(4, 1, Body::PreVoteReply { campaign_view: 2, granted: true });
    assert_eq!(one.core.role(), Role::PreCandidate);
}

#[test]
fn a_master_removes_itself_and_resigns_when_that_is_committed() {
    let mut one = Driven::settled_master(3);
    change(&mut one, of(&[member(2, true), member(3, true)])).expect("it may");
    one.sync();
    one.agree(2, 2);
    assert_eq!(
        (one.core.role(), one.core.committed()),
        (Role::Master, 1),
        "its own log does not count any more"
    );
    one.agree(3, 2);
    let outputs = one.sync();
    assert_eq!((one.core.role(), outputs.committed.len()), (Role::Slave, 1));
    let told = outputs.messages.iter().filter(|(_, message)| message.body == Body::TimeoutNow).count();
    assert_eq!(told, 1, "a successor takes over at once");
    one.wait(10 * T);
    assert_eq!(one.core.role(), Role::Slave, "and it does not come back");
}

/// Found by the simulation: the master demotes itself and dies before anybody has that entry. Its log is the
/// longest, so nobody else can be elected, and the others need its help.
#[test]
fn whoever_lost_its_vote_may_still_be_needed() {
    let mut one = Driven::with_log(2, &[1]);
    let entry =
        Entry { stamp: stamp(1, 2), payload: Payload::Membership(of(&[member(1, false), member(2, true)])) };
    one.receive(2, 1, append(stamp(1, 1), vec![entry], 1));
    one.wait(2 * T);
    assert_eq!(one.core.role(), Role::PreCandidate);
    one.receive(2, 1, Body::PreVoteReply { campaign_view: 2, granted: true });
    one.sync();
    one.receive(2, 2, Body::Vote { granted: true });
    assert_eq!(one.core.role(), Role::Master, "by the other's vote alone");
    one.sync();
    one.agree(2, 3);
    assert_eq!(one.core.role(), Role::Slave, "its demotion is committed now");
}

#[test]
fn a_group_grows_and_shrinks_under_load() {
    let mut cluster = Cluster::new(Setup { spares: 2, check_lease: false, ..Setup::new(3, 1) });
    let change = |cluster: &mut Cluster, members: &[Member]| {
        let wanted = of(members);
        for _ in 0..100 {
            let master = cluster.elect();
            cluster.propose(master, 3);
            cluster.snapshot(master);
            cluster.input(master, |core, now_ms| core.propose_membership(now_ms, wanted.clone()));
            cluster.run_for(20);
            let core = cluster.core(master);
            if core.membership() == &wanted && core.log.membership_seq() <= core.committed() {
                return;
            }
        }
        panic!("not changed:\n{}", cluster.describe());
    };
    let (one, two, three) = (member(1, true), member(2, true), member(3, true));
    let all = |four, five| [one.clone(), two.clone(), three.clone(), member(4, four), member(5, five)];
    change(&mut cluster, &all(false, false));
    cluster.recover();
    change(&mut cluster, &all(true, false));
    change(&mut cluster, &all(true, true));
    cluster.recover();
    assert_eq!(cluster.replicas[&5].program, cluster.replicas[&1].program);
    change(&mut cluster, &[two.clone(), three.clone(), member(4, true), member(5, true)]);
    change(&mut cluster, &[three.clone(), member(4, true), member(5, true)]);
    cluster.crash(1);
    cluster.crash(2);
    let before = cluster.checker.committed_seq();
    let master = cluster.elect();
    assert!(cluster.propose(master, 1));
    cluster
        .run_until(1_000, "a commit by the new members", |cluster| cluster.checker.committed_seq() > before);
}
