//! Stopping: mastership is handed over first, when there is somebody to hand it to.

use super::super::*;
use super::world::{World, sum};
use crate::rsm::types::Limits;

fn world(count: u64) -> World {
    World::found(count, Limits::default())
}

#[test]
fn a_master_stops_when_another_one_leads() {
    let mut world = world(3);
    let master = world.master();
    world.step(master, Input::Stop(Stop::Gracefully));
    assert!(!world.nodes[&master].done);
    world.propose(master, 7, None, 1, 0);
    assert_eq!(world.answers.remove(&7), Some(Err(Refused::NotMaster)));
    let before = world.now_ms;
    world.until("the successor", |world| world.nodes[&master].done.then_some(()));
    assert!(world.now_ms - before < 150, "no election timeout has to pass");
    world.crash(master);
    assert_ne!(world.master(), master);
    assert_eq!(sum(world.add(8, 1)), 1);
}

#[test]
fn who_cannot_hand_over_stops_all_the_same() {
    let mut alone = world(1);
    let master = alone.master();
    alone.step(master, Input::Stop(Stop::Gracefully));
    assert!(alone.nodes[&master].done);

    let mut slave = world(3);
    slave.master();
    slave.step(2, Input::Stop(Stop::Gracefully));
    assert!(slave.nodes[&2].done);

    let mut deaf = world(3);
    let master = deaf.master();
    deaf.cut_off.push(master);
    deaf.step(master, Input::Stop(Stop::Gracefully));
    assert!(!deaf.nodes[&master].done);
    deaf.run_for(400);
    assert!(deaf.nodes[&master].done, "patience ends");
}

#[test]
fn a_crash_waits_for_nothing() {
    let mut world = world(3);
    let master = world.master();
    world.step(master, Input::Stop(Stop::AtOnce));
    assert!(world.nodes[&master].done);
}
