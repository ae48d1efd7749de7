//! Handing mastership over (§3.10).

use super::cluster::Cluster;
use super::driven::{Driven, T, append, stamp};
use super::setup::Setup;
use crate::consensus::{Body, HandOverError, ProposeError, Role, Viewstamp};
use bytes::Bytes;

fn told(one: &mut Driven) -> Vec<u64> {
    one.sent().into_iter().filter(|(_, body)| *body == Body::TimeoutNow).map(|(to, _)| to).collect()
}

#[test]
fn the_best_successor_is_told_once_it_has_everything() {
    let mut one = Driven::settled_master(3);
    one.propose(2);
    one.sync();
    one.agree(3, 2);
    assert_eq!(one.core.hand_over(one.now_ms), Ok(3));
    assert_eq!(one.core.hand_over(one.now_ms), Ok(3), "asking again changes nothing");
    assert!(told(&mut one).is_empty());
    one.agree(3, 3);
    assert_eq!(told(&mut one), [3]);
    assert!(told(&mut one).is_empty(), "not with every output");
    one.wait(50);
    assert_eq!(told(&mut one), [3], "again, in case that was lost");
}

#[test]
fn meanwhile_nothing_is_proposed_and_then_the_master_goes_on() {
    let mut one = Driven::settled_master(3);
    let successor = one.core.hand_over(one.now_ms).expect("others live");
    let refused = one.core.propose(one.now_ms, vec![Bytes::from_static(b"x")]);
    assert_eq!(refused, Err(ProposeError::NotMaster { hint: Some(successor) }));
    assert!(!one.core.is_master_with_quorum(one.now_ms));
    one.wait(T - 1);
    one.hear(&[2, 3]);
    assert!(!one.core.is_master_with_quorum(one.now_ms));
    one.wait(1);
    assert!(one.core.is_master_with_quorum(one.now_ms));
    one.propose(1);
}

#[test]
fn only_a_master_with_a_living_successor_hands_over() {
    assert_eq!(Driven::new(3).core.hand_over(0), Err(HandOverError::NotMaster));
    let mut one = Driven::settled_master(3);
    one.now_ms += T;
    assert_eq!(one.core.hand_over(one.now_ms), Err(HandOverError::NobodyToHandOverTo));
    let mut alone = Driven::settled_master(1);
    assert_eq!(alone.core.hand_over(alone.now_ms), Err(HandOverError::NobodyToHandOverTo));
}

#[test]
fn a_successor_campaigns_at_once_and_says_why() {
    let mut one = Driven::new(3);
    one.receive(2, 1, Body::TimeoutNow);
    assert_eq!(one.core.role(), Role::Slave, "who is not known as master does not command");
    one.receive(2, 1, append(Viewstamp::ZERO, vec![], 0));
    one.receive(2, 1, Body::TimeoutNow);
    assert_eq!((one.core.role(), one.core.view()), (Role::Candidate, 2));
    let request = Body::RequestVote { last: stamp(0, 0), hand_over: true };
    assert!(one.sent().contains(&(3, request)));
}

#[test]
fn a_hand_over_takes_less_than_an_election_timeout() {
    for seed in 1..=20 {
        let mut cluster = Cluster::new(Setup::new(3, seed));
        let master = cluster.elect();
        let started_ms = cluster.now_ms;
        let successor = cluster
            .input(master, |core, now_ms| core.hand_over(now_ms))
            .expect("it runs")
            .expect("others live");
        cluster.run_until(T - 1, "the successor", |cluster| cluster.core(successor).is_settled());
        assert!(cluster.now_ms - started_ms < T);
        cluster.recover();
    }
}
