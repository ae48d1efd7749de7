//! Leaving for good, alone or in exchange for another.

use super::super::*;
use super::world::{World, address, sum};
use crate::consensus::ReplicaId;
use crate::rsm::types::Limits;

fn world(count: u64) -> World {
    World::found(count, Limits { snapshot_after_entries: 16, ..Limits::default() })
}

fn never(_: &Retirement) -> bool {
    false
}

fn is_refused(so_far: &Retirement) -> bool {
    matches!(so_far, Retirement::Unknown(_) | Retirement::Last)
}

/// How many members the views had that replica `id` adopted.
fn sizes(world: &World, id: ReplicaId) -> Vec<usize> {
    world.nodes[&id].views.iter().map(|(view, _)| view.members.len()).collect()
}

/// Has `new` take the place of `old`; these are the members then.
fn replace(world: &mut World, old: ReplicaId, new: ReplicaId, members: &[ReplicaId]) {
    let done = world.order(&address(old), Some(&address(new)), never);
    assert_eq!(done, Retirement::Done(members.iter().map(|id| address(*id)).collect()));
    world.until_members(members);
}

#[test]
fn a_dead_one_is_replaced_and_stays_out() {
    let mut world = world(3);
    world.add(1, 5).unwrap();
    world.crash(3);
    world.start(4);
    replace(&mut world, 3, 4, &[1, 2, 4]);
    assert_eq!(sizes(&world, 1), [3, 2, 3]);
    world.start(3);
    world.until("its end", |world| world.left.contains(&3).then_some(()));
    world.run_for(3_000);
    world.until_members(&[1, 2, 4]);
    // From its disk it is told again, whoever leads.
    world.crash(1);
    world.left.clear();
    world.start(3);
    world.until("its end", |world| world.left.contains(&3).then_some(()));
    assert_eq!(sum(world.add(2, 1)), 6);
    world.check_equal();
}

#[test]
fn a_living_one_goes_when_the_other_votes() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.start(4);
    replace(&mut world, 2, 4, &[1, 3, 4]);
    assert_eq!(sizes(&world, 1), [3, 4, 3], "never fewer than before");
    world.until("its end", |world| world.left.contains(&2).then_some(()));
    world.check_equal();
}

#[test]
fn a_master_hands_over_and_goes() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    assert_eq!(world.master(), 1);
    world.start(4);
    replace(&mut world, 1, 4, &[2, 3, 4]);
    world.until("its end", |world| world.left.contains(&1).then_some(()));
    assert_eq!(sum(world.add(2, 1)), 1);
    world.start(1);
    world.until("its end", |world| (world.left.iter().filter(|id| **id == 1).count() == 2).then_some(()));
}

#[test]
fn all_are_replaced_one_after_the_other() {
    let mut world = world(3);
    let mut members = vec![1, 2, 3];
    for old in 1..=3 {
        world.add(old, 1).unwrap();
        world.start(old + 3);
        members.remove(0);
        members.push(old + 3);
        replace(&mut world, old, old + 3, &members);
        world.until("its end", |world| world.left.contains(&old).then_some(()));
    }
    assert_eq!(sum(world.add(9, 1)), 4);
    world.check_equal();
    let retired = world.nodes[&4].core.consensus().membership().retired().collect::<Vec<_>>();
    assert_eq!(retired, [1, 2, 3]);
    // It is in the snapshots, too.
    for ticket in 20..60 {
        world.add(ticket, 0).unwrap();
    }
    for id in 4..=6 {
        world.crash(id);
        world.start(id);
    }
    world.left.clear();
    world.start(2);
    world.until("its end", |world| world.left.contains(&2).then_some(()));
}

#[test]
fn one_that_was_removed_for_its_silence_is_retired_later() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.crash(3);
    world.until_members(&[1, 2]);
    world.start(4);
    world.until_members(&[1, 2, 4]);
    replace(&mut world, 3, 4, &[1, 2, 4]);
    world.start(3);
    world.until("its end", |world| world.left.contains(&3).then_some(()));
    assert_eq!(sizes(&world, 1), [3, 2, 3]);
}

#[test]
fn nobody_is_removed_for_one_that_does_not_come() {
    let mut world = world(3);
    world.remove_after_ms = None;
    world.until_members(&[1, 2, 3]);
    let (old, new) = (address(3), Some(address(4)));
    for _ in 0..50 {
        world.step(1, Input::Order(Retire { old: old.clone(), new: new.clone() }));
        world.run_for(100);
    }
    let order = Retire { old, new };
    let waits = Retirement::UnderWay { is_member: true, new: Some(Place::Nowhere) };
    assert_eq!(world.nodes[&1].core.retirement(&order), waits);
    assert_eq!(sizes(&world, 1), [3]);
    // The order is void by now.
    world.run_for(2_000);
    world.start(4);
    world.until_members(&[1, 2, 3, 4]);
    world.run_for(3_000);
    assert_eq!(sizes(&world, 1), [3, 4]);
}

#[test]
fn leaving_without_anybody_in_exchange() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.order(&address(3), None, never);
    world.until_members(&[1, 2]);
    // Two become one at an operator's word.
    world.order(&address(2), None, never);
    world.until_members(&[1]);
    world.until("their end", |world| (world.left.len() == 2).then_some(()));
    assert_eq!(sum(world.add(1, 1)), 1);
    assert_eq!(world.order(&address(1), None, is_refused), Retirement::Last);
    assert_eq!(world.order(&address(9), None, is_refused), Retirement::Unknown(vec![address(1)]));
    // It is done already.
    assert_eq!(world.order(&address(2), None, is_refused), Retirement::Done(vec![address(1)]));
}

#[test]
fn the_only_one_is_replaced() {
    let mut world = world(1);
    world.add(1, 5).unwrap();
    world.start(2);
    replace(&mut world, 1, 2, &[2]);
    assert_eq!(sum(world.add(2, 1)), 6);
    world.until("its end", |world| world.left.contains(&1).then_some(()));
}

#[test]
fn a_fresh_replica_may_come_at_the_address_of_one_that_left() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.order(&address(3), None, never);
    world.until("its end", |world| world.left.contains(&3).then_some(()));
    world.moved.insert(33, address(3));
    world.start(33);
    world.until_members(&[1, 2, 33]);
}

/// The one to go is dead, and another member dies at any moment around its removal: the group must not come to need either.
#[test]
fn replacing_bears_what_the_group_bears() {
    for after_ms in (0..400).step_by(20) {
        let mut world = world(5);
        world.until_members(&[1, 2, 3, 4, 5]);
        world.crash(5);
        world.run_for(400);
        world.start(6);
        let order = Retire { old: address(5), new: Some(address(6)) };
        for _ in 0..after_ms / 10 {
            world.step(1, Input::Order(order.clone()));
            world.run_for(10);
        }
        world.crash(2);
        let done = world.order(&address(5), Some(&address(6)), never);
        assert!(matches!(done, Retirement::Done(_)), "{after_ms}: {done:?}");
        assert_eq!(sum(world.add(1, 1)), 1);
    }
}
