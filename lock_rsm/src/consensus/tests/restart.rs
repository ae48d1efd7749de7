//! Starting from what the disk remembers.

use super::driven::{Driven, T, append, command, entries, stamp};
use super::setup::founders;
use crate::consensus::{
    Core, Entry, HardState, Membership, Payload, RestoreError, Restored, Role, SnapshotMeta,
};

fn refused(restored: Restored) -> RestoreError {
    Core::new(Driven::config(), restored, 0).expect_err("the disk contradicts itself")
}

fn snapshot(view: u64, seq: u64) -> Option<SnapshotMeta> {
    Some(SnapshotMeta { stamp: stamp(view, seq), membership: founders(3) })
}

#[test]
fn a_replica_goes_on_where_it_was() {
    let hard_state = HardState { view: 4, voted_for: Some(2) };
    let mut one = Driven::restored(Driven::config(), Restored { hard_state, ..Driven::disk(3, &[1, 1, 3]) });
    assert_eq!(
        (one.core.role(), one.core.hard_state(), one.core.last()),
        (Role::Slave, hard_state, stamp(3, 3))
    );
    assert_eq!(
        (one.core.committed(), one.sync().committed.len()),
        (0, 0),
        "what is committed it learns anew"
    );
    one.receive(2, 4, append(stamp(3, 3), vec![], 2));
    assert_eq!(one.sync().committed, entries(&[1, 1]));
    one.wait(T);
    one.receive(3, 4, crate::consensus::Body::RequestVote { last: stamp(4, 9), hand_over: true });
    assert_eq!(one.sent(), [(3, crate::consensus::Body::Vote { granted: false })], "a vote is kept");
}

#[test]
fn what_the_program_has_is_not_delivered_again() {
    let mut one = Driven::restored(Driven::config(), Restored { applied: 2, ..Driven::disk(3, &[1, 1, 1]) });
    one.receive(2, 1, append(stamp(1, 3), vec![], 3));
    assert_eq!(one.sync().committed, [command(1, 3)]);
}

#[test]
fn the_log_goes_on_after_a_snapshot() {
    let restored = Restored { snapshot: snapshot(1, 2), applied: 2, ..Driven::disk(3, &[1, 1, 1]) };
    let one = Driven::restored(Driven::config(), restored);
    assert_eq!((one.core.log_stamps(), one.core.committed()), ((stamp(1, 2), vec![stamp(1, 3)]), 2));
    let restored = Restored { snapshot: snapshot(1, 9), applied: 9, ..Driven::disk(3, &[1, 1, 1]) };
    let one = Driven::restored(Driven::config(), restored);
    assert_eq!((one.core.last(), one.core.committed()), (stamp(1, 9), 9));
}

#[test]
fn the_latest_membership_is_in_force() {
    let mut restored = Driven::disk(3, &[1, 1]);
    restored.entries[1].payload = Payload::Membership(founders(4));
    restored.snapshot = snapshot(1, 1);
    restored.applied = 1;
    let one = Driven::restored(Driven::config(), restored);
    assert_eq!(one.core.membership(), &founders(4));
}

#[test]
fn contradictions_are_refused() {
    let disk = |views: &[u64]| Driven::disk(3, views);
    let mut hole = disk(&[1, 1, 1]);
    hole.entries.remove(1);
    assert_eq!(refused(hole), RestoreError::Hole { expected: 2, found: 3 });
    let gap = Restored { snapshot: snapshot(1, 1), applied: 1, entries: vec![command(1, 4)], ..disk(&[1]) };
    assert_eq!(refused(gap), RestoreError::Hole { expected: 2, found: 4 });
    assert_eq!(refused(disk(&[2, 1])), RestoreError::Disorder { previous: stamp(2, 1), found: stamp(1, 2) });
    let forgot = Restored { hard_state: HardState::default(), ..disk(&[3]) };
    assert_eq!(refused(forgot), RestoreError::ViewLost { log_view: 3, hard_state_view: 0 });
    let ahead = Restored { applied: 2, ..disk(&[1]) };
    assert_eq!(refused(ahead), RestoreError::Applied { applied: 2, from: 0, to: 1 });
    let behind = Restored { snapshot: snapshot(1, 1), ..disk(&[1]) };
    assert_eq!(refused(behind), RestoreError::Applied { applied: 0, from: 1, to: 1 });
    let twice = Membership::of([founders(1).members, founders(1).members].concat());
    let mut doubled = disk(&[1]);
    doubled.entries[0] = Entry { stamp: stamp(1, 1), payload: Payload::Membership(twice.clone()) };
    assert_eq!(refused(doubled), RestoreError::Duplicate { stamp: stamp(1, 1) });
    assert_eq!(
        refused(Restored { membership: twice, ..disk(&[]) }),
        RestoreError::Duplicate { stamp: stamp(0, 0) }
    );
}
