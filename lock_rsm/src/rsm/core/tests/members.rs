//! Who belongs to the group: joining, removal, return, and what must never be changed.

use super::super::*;
use super::world::{World, address, sum};
use crate::consensus::ReplicaId;
use crate::rsm::types::Limits;

fn world(count: u64) -> World {
    World::found(count, Limits { snapshot_after_entries: 16, ..Limits::default() })
}

/// What replica `id` announced: the members of one view after the other.
fn announced(world: &World, id: ReplicaId) -> Vec<Vec<String>> {
    world.nodes[&id].views.iter().map(|(view, _)| view.members.clone()).collect()
}

fn addresses(ids: &[ReplicaId]) -> Vec<String> {
    ids.iter().map(|id| address(*id)).collect()
}

#[test]
fn a_group_of_one_grows_in_the_order_of_joining() {
    let mut world = world(1);
    world.add(1, 5).unwrap();
    world.start(3);
    world.until_members(&[1, 3]);
    world.start(2);
    world.until_members(&[1, 3, 2]);
    world.check_equal();
    assert_eq!(sum(world.add(2, 1)), 6);
    assert_eq!(
        announced(&world, 1),
        [addresses(&[1]), addresses(&[1, 3]), addresses(&[1, 3, 2])],
        "each view once, and joiners are none of the members"
    );
    // The newcomers count: the founder may go.
    world.crash(1);
    assert_ne!(world.master(), 1);
    assert_eq!(sum(world.add(3, 1)), 7);
}

#[test]
fn a_joiner_is_caught_up_before_it_counts() {
    let mut world = world(1);
    world.master();
    for ticket in 0..50 {
        world.propose(1, ticket, None, 1, 300 << 10);
    }
    world.start(2);
    world.nodes.get_mut(&2).unwrap().disk_works = false;
    world.run_for(500);
    assert!(world.nodes[&1].core.consensus().membership().contains(2), "it is sent the state");
    assert!(!world.nodes[&1].core.consensus().membership().is_voter(2));
    assert_eq!(sum(world.add(100, 1)), 51, "nobody waits for it");
    world.nodes.get_mut(&2).unwrap().disk_works = true;
    world.work_off(2);
    world.until_members(&[1, 2]);
    world.check_equal();
}

#[test]
fn two_joiners_come_one_after_the_other() {
    let mut world = world(3);
    world.master();
    world.start(5);
    world.start(4);
    world.until("five members", |world| {
        let view = world.nodes[&1].views.last().map(|(view, _)| view.members.len());
        (view == Some(5)).then_some(())
    });
    let sizes: Vec<usize> = announced(&world, 1).iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 4, 5]);
    world.check_equal();
}

#[test]
fn the_silent_one_is_removed_and_comes_back_with_its_disk() {
    let mut world = world(3);
    world.add(1, 5).unwrap();
    world.crash(2);
    let dead_ms = world.now_ms;
    world.until_members(&[1, 3]);
    assert!(world.now_ms - dead_ms >= 2_000, "not before its time");
    world.add(2, 1).unwrap();
    world.start(2);
    let back_ms = world.now_ms;
    world.until_members(&[1, 3, 2]);
    assert!(world.now_ms - back_ms < 1_000);
    world.check_equal();
}

#[test]
fn a_removed_replica_that_lives_notices() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.cut_off.push(3);
    world.until("the removal", |world| {
        (world.nodes[&1].views.last()?.0.members == addresses(&[1, 2])).then_some(())
    });
    assert_eq!(announced(&world, 3).last(), Some(&addresses(&[1, 2, 3])), "it does not know");
    world.cut_off.clear();
    world.until_members(&[1, 2, 3]);
    world.check_equal();
}

#[test]
fn a_removed_master_follows_the_next_one() {
    let mut world = world(3);
    let master = world.master();
    world.cut_off.push(master);
    world.until("the removal", |world| {
        (world.nodes[&2].views.last()?.0.members == addresses(&[2, 3])).then_some(())
    });
    world.add(1, 5).unwrap();
    world.cut_off.clear();
    world.until_members(&[2, 3, 1]);
    world.check_equal();
}

#[test]
fn a_group_of_two_never_becomes_one_by_itself() {
    let mut world = world(2);
    let master = world.master();
    world.crash(3 - master);
    world.run_for(10_000);
    assert_eq!(world.nodes[&master].core.consensus().membership().members.len(), 2);
    world.propose(master, 1, None, 1, 0);
    assert_eq!(world.answers.remove(&1), Some(Err(Refused::NotMaster)));
    // A third one cannot help: it is no member.
    world.start(4);
    world.run_for(5_000);
    assert_eq!(world.nodes[&master].core.consensus().membership().members.len(), 2);
    world.start(3 - master);
    world.until_members(&[1, 2, 4]);
    assert_eq!(sum(world.add(2, 1)), 1);
}

#[test]
fn without_a_majority_nobody_is_removed() {
    let mut world = world(3);
    world.master();
    world.crash(2);
    world.crash(3);
    world.run_for(10_000);
    assert_eq!(world.nodes[&1].core.consensus().membership().members.len(), 3);
    world.start(3);
    world.until_members(&[1, 3]);
    world.start(2);
    world.until_members(&[1, 3, 2]);
}

#[test]
fn a_joiner_gets_its_vote_after_the_dead_are_gone() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.crash(3);
    world.run_for(500);
    world.start(4);
    world.until_members(&[1, 2, 4]);
    let sizes: Vec<usize> = announced(&world, 1).iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 2, 3]);
}

#[test]
fn a_new_master_gives_everybody_time() {
    let mut world = world(5);
    world.master();
    world.crash(1);
    world.crash(2);
    let master = world.master();
    let since_ms = world.now_ms;
    world.until_members(&[3, 4, 5]);
    assert!(world.now_ms - since_ms >= 1_900, "silence is counted from the beginning of the reign");
    assert!(world.nodes.contains_key(&master));
    // Two less: the three left can lose one more.
    world.crash(3);
    assert_eq!(sum(world.add(1, 4)), 4);
}

#[test]
fn without_its_disk_a_replica_joins_as_another() {
    let mut world = world(3);
    world.add(1, 5).unwrap();
    world.crash(2);
    // It comes back at once: long before its silence would have it removed.
    world.moved.insert(22, address(2));
    world.start(22);
    let back_ms = world.now_ms;
    world.until_members(&[1, 3, 22]);
    assert!(world.now_ms - back_ms < 1_500);
    let sizes: Vec<usize> = announced(&world, 1).iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 2, 3], "the old incarnation goes first");
    world.check_equal();
}

#[test]
fn nobody_takes_the_place_of_one_that_answers() {
    let mut world = world(3);
    world.master();
    world.moved.insert(22, address(2));
    world.start(22);
    world.run_for(5_000);
    assert_eq!(announced(&world, 1), [addresses(&[1, 2, 3])]);
}

#[test]
fn one_that_must_not_be_removed_is_not() {
    let mut world = world(3);
    world.remove_after_ms = None;
    for id in 1..=3 {
        world.crash(id);
        world.start(id);
    }
    world.master();
    world.crash(3);
    world.run_for(20_000);
    let master = world.master();
    assert_eq!(world.nodes[&master].core.consensus().membership().members.len(), 3);
}

#[test]
fn all_restarted_after_changes_agree_on_the_members() {
    let mut world = world(1);
    for id in [2, 3, 4] {
        world.start(id);
    }
    world.until("four members", |world| (world.nodes[&1].views.last()?.0.members.len() == 4).then_some(()));
    let members = world.nodes[&1].views.last().unwrap().0.members.clone();
    for ticket in 0..40 {
        world.add(ticket, 1).unwrap();
    }
    for id in 1..=4 {
        world.crash(id);
        world.start(id);
    }
    let master = world.master();
    assert_eq!(world.nodes[&master].views.last().unwrap().0.members, members);
    world.check_equal();
    assert_eq!(sum(world.add(100, 0)), 40);
}

#[test]
fn members_change_under_load_without_a_gap() {
    let mut world = world(1);
    let mut sum_expected = 0;
    for (ticket, joiner) in (0..60).zip((2..=4).cycle()) {
        if ticket % 20 == 0 {
            world.start(joiner);
        }
        sum_expected += 1;
        assert_eq!(sum(world.add(ticket, 1)), sum_expected);
        world.run_for(20);
    }
    world.check_equal();
}

/// Replica 3 is silent, and will be back. Just before it would be removed for that, replica 2 loses its disk: whenever that is,
/// the group must not come to need it.
#[test]
fn nobody_is_removed_on_the_strength_of_one_that_is_just_dying() {
    for before_ms in (1..=160).step_by(12) {
        let mut world = world(3);
        world.until_members(&[1, 2, 3]);
        world.add(1, 5).unwrap();
        assert_eq!(world.master(), 1);
        world.cut_off.push(3);
        let followers = |world: &World| world.nodes[&1].core.consensus().followers(world.now_ms);
        world.until("a long silence", |world| {
            (followers(world).iter().any(|it| it.id == 3 && it.silent_ms + before_ms >= 2_000)).then_some(())
        });
        world.crash(2);
        world.run_for(3_000);
        let all = addresses(&[1, 2, 3]);
        assert!(announced(&world, 1).iter().all(|members| *members == all), "{before_ms} ms before");
        world.moved.insert(22, address(2));
        world.start(22);
        world.cut_off.clear();
        world.until_members(&[1, 3, 22]);
        assert_eq!(sum(world.add(2, 1)), 6);
    }
}

#[test]
fn who_is_heard_again_in_the_last_moment_is_not_removed() {
    let mut world = world(3);
    world.until_members(&[1, 2, 3]);
    world.cut_off.push(3);
    world.until("the decision", |world| {
        let followers = world.nodes[&1].core.consensus().followers(world.now_ms);
        followers.iter().any(|it| it.id == 3 && it.silent_ms >= 2_000).then_some(())
    });
    world.cut_off.clear();
    world.run_for(5_000);
    assert_eq!(announced(&world, 1), [addresses(&[1, 2, 3])]);
}
