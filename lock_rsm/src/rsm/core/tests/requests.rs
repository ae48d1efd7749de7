//! Proposals: who is answered, when, and how often a request is executed.

use super::super::*;
use super::world::{World, sum};
use crate::rsm::types::Limits;

fn world(count: u64) -> World {
    World::found(count, Limits::default())
}

#[test]
fn nothing_is_answered_before_it_is_on_disk() {
    let mut world = world(1);
    let master = world.master();
    world.nodes.get_mut(&master).unwrap().disk_works = false;
    world.propose(master, 7, None, 5, 0);
    world.run_for(500);
    assert!(world.answers.is_empty());
    world.nodes.get_mut(&master).unwrap().disk_works = true;
    world.work_off(master);
    assert_eq!(sum(world.answers.remove(&7).unwrap()), 5);
}

#[test]
fn a_slave_acknowledges_what_is_on_its_disk() {
    let mut world = world(3);
    let master = world.master();
    assert_eq!(master, 1, "the designated master begins");
    for slave in [2, 3] {
        world.nodes.get_mut(&slave).unwrap().disk_works = false;
    }
    world.propose(master, 7, None, 5, 0);
    world.settle();
    world.run_for(100);
    assert!(world.answers.is_empty(), "the master's disk alone is no majority");
    world.nodes.get_mut(&3).unwrap().disk_works = true;
    world.work_off(3);
    assert_eq!(sum(world.until("the answer", |world| world.answers.remove(&7))), 5);
}

#[test]
fn duplicates_in_progress_wait_for_one_execution() {
    let mut world = world(3);
    let client = world.register(1);
    let master = world.master();
    let key = Some((client, 1));
    world.propose(master, 10, key, 5, 0);
    world.propose(master, 11, key, 5, 0);
    world.settle();
    assert_eq!(sum(world.answers.remove(&10).unwrap()), 5);
    assert_eq!(sum(world.answers.remove(&11).unwrap()), 5);
    // Later ones are logged, and the reply table answers them.
    world.propose(master, 12, key, 5, 0);
    world.settle();
    assert_eq!(sum(world.answers.remove(&12).unwrap()), 5);
    world.propose(master, 13, Some((client, 2)), 1, 0);
    world.settle();
    assert_eq!(sum(world.answers.remove(&13).unwrap()), 6);
}

#[test]
fn refusals_say_why() {
    let mut world = World::found(3, Limits { invokes_max: 2, ..Limits::default() });
    let master = world.master();
    world.propose(2, 20, None, 1, 0);
    assert_eq!(world.answers.remove(&20), Some(Err(Refused::NotMaster)));
    world.propose(master, 21, None, 1, COMMAND_BYTES_MAX);
    assert_eq!(world.answers.remove(&21), Some(Err(Refused::TooLarge)));
    for ticket in 22..25 {
        world.propose(master, ticket, None, 1, 0);
    }
    assert_eq!(world.answers.remove(&24), Some(Err(Refused::Busy)));
    world.settle();
    assert_eq!(world.answers.len(), 2, "the others are executed");
}

#[test]
fn a_program_that_cannot_keep_up_slows_its_callers_down() {
    let mut world = world(1);
    let master = world.master();
    world.nodes.get_mut(&master).unwrap().program_works = false;
    for ticket in 0..70 {
        world.propose(master, ticket, None, 1, 1 << 20);
    }
    assert!(world.answers.len() >= 4 && world.answers.values().all(|answer| *answer == Err(Refused::Busy)));
    let refused = world.answers.len();
    world.nodes.get_mut(&master).unwrap().program_works = true;
    world.work_off(master);
    assert_eq!(world.answers.len(), 70);
    assert_eq!(world.answers.values().filter(|answer| answer.is_err()).count(), refused);
    assert_eq!(sum(world.add(100, 0)), 70 - refused as u64);
}

#[test]
fn who_waits_at_a_deposed_master_is_sent_elsewhere() {
    let mut world = world(3);
    let master = world.master();
    world.cut_off.push(master);
    world.propose(master, 7, None, 5, 0);
    let answer = world.until("the refusal", |world| world.answers.remove(&7));
    assert_eq!(answer, Err(Refused::NotMaster));
    assert_ne!(world.master(), master);
    assert_eq!(sum(world.add(8, 1)), 1);
    world.cut_off.clear();
    world.check_equal();
}

#[test]
fn equal_inputs_have_equal_effects() {
    let run = || {
        let mut world = world(3);
        let mut seen = String::new();
        for ticket in 0..20 {
            let master = world.master();
            world.propose(master, ticket, None, ticket, 10);
            if ticket == 10 {
                world.crash(master);
            }
            seen += &format!("{:?}\n", world.wire);
            world.run_for(30);
        }
        seen + &format!("{:?}", world.answers)
    };
    assert_eq!(run(), run());
}

#[test]
fn the_numbers_of_requests_stay_within_the_window() {
    let mut numbers = RequestNumbers::new(usize::MAX);
    for expected in 1..=REQUEST_SPAN {
        assert_eq!(numbers.take(), Some(expected));
    }
    numbers.end(2);
    assert_eq!((numbers.acked_upto(), numbers.take()), (0, None));
    numbers.end(1);
    assert_eq!((numbers.acked_upto(), numbers.take()), (2, Some(REQUEST_SPAN + 1)));
}
