//! Snapshots: ordered, stored, sent, restored.

use super::world::{World, sum};
use crate::rsm::types::Limits;

fn world(count: u64) -> World {
    World::found(count, Limits { snapshot_after_entries: 8, ..Limits::default() })
}

#[test]
fn a_snapshot_is_taken_when_the_log_has_grown() {
    let mut world = world(1);
    for ticket in 0..7 {
        world.add(ticket, 1).unwrap();
    }
    let snapshot = world.disks[&1].snapshot.clone().unwrap();
    assert_eq!(snapshot.meta.stamp.seq, 8, "the entry that opens the view and seven commands");
    world.add(8, 1).unwrap();
    world.crash(1);
    world.start(1);
    assert_eq!(sum(world.add(9, 1)), 9);
}

/// Three replicas, the third back after more was committed without it than the others keep in memory.
fn with_a_laggard() -> World {
    let mut world = world(3);
    let master = world.master();
    world.crash(3);
    for ticket in 0..40 {
        world.propose(master, ticket, None, 1, 300 << 10);
        world.settle();
    }
    world.start(3);
    world
}

#[test]
fn a_laggard_gets_the_state_in_pieces() {
    let mut world = with_a_laggard();
    world.check_equal();
    assert!(world.disks[&3].snapshot.is_some());
    // And goes on from its own disk.
    world.crash(3);
    world.start(3);
    world.check_equal();
    assert_eq!(sum(world.add(100, 0)), 40);
}

#[test]
fn a_transfer_survives_a_change_of_the_snapshot() {
    let mut world = with_a_laggard();
    let master = world.master();
    // The wire is not drained between: pieces, new entries and new snapshots mix.
    for ticket in 40..80 {
        world.run_for(1);
        world.propose(master, ticket, None, 1, 100 << 10);
    }
    world.check_equal();
    assert_eq!(sum(world.add(100, 0)), 80);
}
