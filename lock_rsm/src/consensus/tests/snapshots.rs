//! Compaction, and members that need a snapshot (§5).

use super::cluster::Cluster;
use super::driven::{Driven, append, command, entries, stamp};
use super::network::Weather;
use super::setup::{Setup, founders};
use crate::consensus::{
    Body, Config, InstallSnapshot, SnapshotError, SnapshotMeta, SnapshotWanted, Viewstamp,
};
use bytes::Bytes;

fn meta(view: u64, seq: u64) -> SnapshotMeta {
    SnapshotMeta { stamp: stamp(view, seq), membership: founders(3) }
}

fn piece(seq: u64, offset: u64, data: &'static [u8], done: bool) -> Body {
    Body::Snapshot { meta: meta(1, seq), offset, data: Bytes::from_static(data), done }
}

/// A master whose log begins after entry 21, while replica 3 has nothing.
fn compacted_master() -> Driven {
    let config = Config { tail_bytes_max: 0, pinned_bytes_max: 0, ..Driven::config() };
    let mut one = Driven::restored(config, Driven::disk(3, &[]));
    one.elect(&[2]);
    one.agree(2, 1);
    one.propose(20);
    one.sync();
    one.agree(2, 21);
    one.sync();
    one.core.snapshot_taken(&meta(1, 21)).expect("it is this log's");
    one.propose(1);
    one.sync();
    one
}

/// The same, after it found out.
fn transferring_master() -> Driven {
    let mut one = compacted_master();
    one.receive(3, 1, Body::AppendRefused { previous: Viewstamp::ZERO, hint: Viewstamp::ZERO });
    one.hear(&[3]);
    let wanted = one.sync().snapshots_wanted;
    assert_eq!(wanted, [SnapshotWanted { to: 3, stamp: None, offset: 0 }]);
    one
}

fn send(one: &mut Driven, seq: u64, offset: u64, done: bool) -> Result<(), SnapshotError> {
    one.core.send_snapshot(one.now_ms, 3, &meta(1, seq), offset, Bytes::from_static(b"12345"), done)
}

#[test]
fn the_driver_is_told_what_a_snapshot_stands_for() {
    let mut one = Driven::settled_master(3);
    one.propose(2);
    one.sync();
    assert_eq!(one.core.snapshot_meta(1), Some(meta(1, 1)));
    assert_eq!(one.core.snapshot_meta(2), None, "not committed");
    one.agree(2, 3);
    assert_eq!(one.core.snapshot_meta(3), None, "not delivered");
    one.sync();
    assert_eq!(one.core.snapshot_meta(3), Some(meta(1, 3)));
    assert!(one.core.unsnapshotted_bytes() > 0);
    one.core.snapshot_taken(&meta(1, 3)).expect("it is this log's");
    assert_eq!(one.core.unsnapshotted_bytes(), 0);
}

#[test]
fn snapshots_of_another_history_are_refused() {
    let mut one = Driven::settled_master(3);
    for (view, seq) in [(1, 2), (9, 1)] {
        assert_eq!(
            one.core.snapshot_taken(&meta(view, seq)),
            Err(SnapshotError::Foreign { stamp: stamp(view, seq) })
        );
    }
}

#[test]
fn a_tail_stays_for_members_slightly_behind() {
    let size = command(1, 2).size_bytes();
    let config = Config { tail_bytes_max: 10 * size, pinned_bytes_max: 0, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    one.propose(100);
    one.sync();
    one.agree(2, 101);
    one.agree(3, 101);
    one.sync();
    one.core.snapshot_taken(&meta(1, 101)).expect("it is this log's");
    let kept = one.core.log_stamps().1.len();
    assert!((8..=10).contains(&kept) && one.core.log_bytes() <= 10 * size, "{kept} kept");
}

#[test]
fn what_a_living_member_still_needs_stays_longer() {
    let config = Config { tail_bytes_max: 0, pinned_bytes_max: 1 << 20, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    one.propose(100);
    one.sync();
    one.agree(2, 101);
    one.agree(3, 41);
    one.sync();
    one.core.snapshot_taken(&meta(1, 101)).expect("it is this log's");
    assert_eq!(one.core.log_stamps().0, stamp(1, 41));
    one.wait(290);
    one.hear(&[2]);
    one.wait(20);
    one.propose(1);
    one.sync();
    one.agree(2, 102);
    one.sync();
    one.core.snapshot_taken(&meta(1, 102)).expect("it is this log's");
    assert_eq!(one.core.log_stamps().0, stamp(1, 102), "who is silent is not waited for");
}

#[test]
fn a_member_before_the_log_gets_a_snapshot() {
    let mut one = transferring_master();
    assert!(
        one.core.followers(one.now_ms).iter().any(|follower| follower.id == 3 && follower.needs_snapshot)
    );
    send(&mut one, 21, 0, false).expect("it is wanted");
    assert!(matches!(one.sent_to(3).as_slice(), [Body::Snapshot { offset: 0, done: false, .. }]));
    one.receive(3, 1, Body::SnapshotReply { stamp: stamp(1, 21), next: 5 });
    let wanted = one.sync().snapshots_wanted;
    assert_eq!(wanted, [SnapshotWanted { to: 3, stamp: Some(stamp(1, 21)), offset: 5 }]);
    send(&mut one, 21, 5, true).expect("it is wanted");
    one.sync();
    one.agree(3, 21);
    let [Body::Append { previous, entries, .. }] = &one.sent_to(3)[..] else { panic!("the log goes on") };
    assert_eq!((*previous, entries.len()), (stamp(1, 21), 1));
}

#[test]
fn a_lost_piece_is_asked_for_again_and_an_echo_is_not() {
    let mut one = transferring_master();
    send(&mut one, 21, 0, false).expect("it is wanted");
    one.receive(3, 1, Body::SnapshotReply { stamp: stamp(1, 21), next: 5 });
    one.sync();
    send(&mut one, 21, 5, false).expect("it is wanted");
    one.receive(3, 1, Body::SnapshotReply { stamp: stamp(1, 21), next: 5 });
    one.hear(&[2, 3]);
    assert_eq!(one.sync().snapshots_wanted, [], "it is on its way");
    for _ in 0..10 {
        one.wait(100);
        one.hear(&[2, 3]);
    }
    let wanted = one.sync().snapshots_wanted;
    assert_eq!(wanted, [SnapshotWanted { to: 3, stamp: Some(stamp(1, 21)), offset: 5 }]);
    one.receive(3, 1, Body::SnapshotReply { stamp: stamp(1, 21), next: 0 });
    let wanted = one.sync().snapshots_wanted;
    assert_eq!(
        wanted,
        [SnapshotWanted { to: 3, stamp: Some(stamp(1, 21)), offset: 0 }],
        "the member lost what it had"
    );
}

#[test]
fn the_driver_may_change_to_a_later_snapshot() {
    let mut one = transferring_master();
    send(&mut one, 21, 0, false).expect("it is wanted");
    one.agree(2, 22);
    one.sync();
    assert_eq!(send(&mut one, 22, 5, false), Err(SnapshotError::NotWanted), "only from its start");
    send(&mut one, 22, 0, false).expect("it is newer");
    one.receive(3, 1, Body::SnapshotReply { stamp: stamp(1, 21), next: 5 });
    assert_eq!(one.sync().snapshots_wanted, [], "an answer about the old one");
    assert_eq!(
        send(&mut one, 20, 0, false),
        Err(SnapshotError::Foreign { stamp: stamp(1, 20) }),
        "the log begins later"
    );
    assert_eq!(send(&mut one, 23, 0, false), Err(SnapshotError::Foreign { stamp: stamp(1, 23) }));
}

#[test]
fn pieces_that_nobody_needs_are_refused() {
    let mut one = Driven::settled_master(3);
    assert_eq!(send(&mut one, 1, 0, true), Err(SnapshotError::NotWanted));
    let config = Config { snapshot_chunk_bytes_max: 4, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    assert_eq!(send(&mut one, 1, 0, true), Err(SnapshotError::TooLarge { size: 5, max: 4 }));
}

#[test]
fn pieces_are_taken_in_order_and_installed_when_found_sound() {
    let mut one = Driven::with_log(3, &[1]);
    one.receive(2, 1, piece(9, 5, b"late", false));
    assert_eq!(one.sent_to(2), [Body::SnapshotReply { stamp: stamp(1, 9), next: 0 }]);
    one.receive(2, 1, piece(9, 0, b"first", false));
    one.receive(2, 1, piece(9, 0, b"first", false));
    one.receive(2, 1, piece(9, 7, b"later", false));
    let outputs = one.sync();
    assert_eq!(outputs.snapshot_chunks.len(), 1);
    assert!(
        outputs
            .messages
            .iter()
            .all(|(_, message)| { message.body == Body::SnapshotReply { stamp: stamp(1, 9), next: 5 } })
    );
    one.receive(2, 1, piece(9, 5, b"last", true));
    let outputs = one.sync();
    assert_eq!(
        (outputs.snapshot_chunks.len(), outputs.messages.len(), outputs.install_snapshot),
        (1, 0, None)
    );
    assert_eq!(one.core.snapshot_received(one.now_ms, stamp(1, 8)), Err(SnapshotError::NotWanted));
    one.core.snapshot_received(one.now_ms, stamp(1, 9)).expect("it was received");
    let outputs = one.take();
    assert_eq!(outputs.install_snapshot, Some(InstallSnapshot { meta: meta(1, 9), discard_log: true }));
    assert!(outputs.must_persist() && outputs.messages.is_empty());
    assert_eq!(outputs.after_persist[0].1.body, Body::Appended { matched: 9 });
    assert_eq!((one.core.last(), one.core.committed()), (stamp(1, 9), 9));
    one.persisted(outputs.number);
    assert_eq!(one.core.durable, 9);
    one.receive(2, 1, append(stamp(1, 9), vec![command(1, 10)], 10));
    assert_eq!(one.sync().committed, [command(1, 10)]);
}

#[test]
fn a_spoilt_snapshot_is_asked_for_again() {
    let mut one = Driven::new(3);
    one.receive(2, 1, piece(9, 0, b"all", true));
    one.sync();
    one.core.snapshot_spoilt(one.now_ms);
    assert_eq!(one.sent_to(2), [Body::SnapshotReply { stamp: stamp(1, 9), next: 0 }]);
    assert_eq!(one.core.snapshot_received(one.now_ms, stamp(1, 9)), Err(SnapshotError::NotWanted));
    one.receive(2, 1, piece(9, 0, b"all", true));
    assert_eq!(one.sync().snapshot_chunks.len(), 1);
}

/// What the log has needs no snapshot: all it says is that so much is committed.
#[test]
fn a_snapshot_of_what_is_there_commits_it() {
    let mut one = Driven::with_log(3, &[1, 1, 1]);
    one.receive(2, 1, piece(2, 0, b"all", true));
    let outputs = one.sync();
    assert_eq!((outputs.committed, outputs.snapshot_chunks.len()), (entries(&[1, 1]), 0));
    assert_eq!(outputs.messages[0].1.body, Body::Appended { matched: 2 });
}

#[test]
fn a_log_that_overtook_the_snapshot_stays() {
    let mut one = Driven::new(3);
    one.receive(2, 1, piece(2, 0, b"all", true));
    one.sync();
    one.receive(2, 1, append(Viewstamp::ZERO, entries(&[1, 1, 1]), 1));
    one.sync();
    one.core.snapshot_received(one.now_ms, stamp(1, 2)).expect("it was received");
    let outputs = one.sync();
    assert_eq!(outputs.install_snapshot, Some(InstallSnapshot { meta: meta(1, 2), discard_log: false }));
    assert_eq!(one.core.log_stamps(), (stamp(1, 2), vec![stamp(1, 3)]));
    assert_eq!(outputs.messages[0].1.body, Body::Appended { matched: 2 });
}

#[test]
fn a_snapshot_from_an_earlier_view_is_forgotten() {
    let mut one = Driven::new(3);
    one.receive(2, 1, piece(9, 0, b"all", true));
    one.sync();
    one.receive(3, 2, append(Viewstamp::ZERO, vec![], 0));
    assert_eq!(one.core.snapshot_received(one.now_ms, stamp(1, 9)), Err(SnapshotError::NotWanted));
}

#[test]
fn a_replica_that_was_away_for_long_catches_up_through_a_rough_network() {
    for seed in 1..=10 {
        let mut cluster = Cluster::new(Setup { check_lease: false, ..Setup::new(3, seed) });
        let master = cluster.elect();
        let away = cluster.ids().into_iter().find(|&id| id != master).expect("there are three");
        cluster.crash(away);
        for _ in 0..50 {
            cluster.propose(master, 5);
            cluster.run_for(10);
        }
        cluster.snapshot(master);
        cluster.run_for(20);
        cluster.network.weather = Weather { loss: 200, ..Weather::ROUGH };
        cluster.start(away);
        let installed = |cluster: &Cluster| cluster.snapshots_installed > 0;
        cluster.run_until(20_000, "the snapshot", installed);
        cluster.recover();
    }
}
