//! Many threads on one store.

use super::harness::{BLOCK, Rig, key, put};
use crate::error::StoreError;
use crate::store::Store;
use crate::store::probe::Point;
use crate::types::{BLOCK_SIZE, Op};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

#[test]
fn commits_of_a_session_land_in_the_order_of_the_calls() {
    let rig = Rig::new();
    rig.write(1, 5, 0, &vec![1; 64 * BLOCK]).unwrap();
    let boot = rig.store().boot();
    rig.runtime.block_on(async {
        let mut answers = Vec::new();
        for n in 0..200 {
            // Those with bulk data take longer to get going, and must not be overtaken.
            let objects = if n % 10 == 0 { vec![(5, boot)] } else { vec![] };
            let ops = vec![put("last", &n.to_string()), put(&format!("n{n}"), "")];
            answers.push(rig.store().commit(1, ops, objects));
        }
        // Whatever lands last must be the last one called; halfway through, all before it must be there.
        for (n, answer) in answers.into_iter().enumerate() {
            answer.await.unwrap();
            let earlier: Vec<Bytes> = (0..=n).map(|n| key(&format!("n{n}"))).collect();
            let found = rig.store().get(&earlier, usize::MAX).unwrap();
            assert!(found.iter().all(Option::is_some), "{n} is there before one called earlier");
        }
    });
    assert_eq!(rig.get("last").unwrap(), "199");
}

#[test]
fn groups_are_atomic_to_readers() {
    let rig = Rig::new();
    let names: Vec<Bytes> = (0..8).map(|n| key(&format!("k{n}"))).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for session in 1..=4u64 {
            let (rig, names) = (&rig, &names);
            scope.spawn(move || {
                for round in 0..40 {
                    let value = Bytes::from(format!("{session}:{round}"));
                    let ops = names.iter().map(|key| Op::Put { key: key.clone(), value: value.clone() });
                    rig.commit(session, ops.collect(), &[]).unwrap();
                }
            });
        }
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let found = rig.store().get(&names, usize::MAX).unwrap();
                assert!(found.iter().all(|value| value == &found[0]), "{found:?}");
                let (entries, _) = rig.store().scan(&key("k"), &key("l"), 100, usize::MAX).unwrap();
                assert!(entries.iter().all(|(_, value)| value == &entries[0].1), "{entries:?}");
                looks += 1;
            }
            looks
        });
        while rig.store().status().commits < 160 {
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let status = rig.store().status();
    assert!(status.groups < status.commits, "some commits shared a sync: {status:?}");
}

/// Writers, readers and committers of one object: every block a reader sees is whole, and all is intact in the end.
#[test]
fn writes_race_with_commits_of_others() {
    let mut rig = Rig::new();
    const BLOCKS: u64 = 8;
    thread::scope(|scope| {
        let rig = &rig;
        for session in 1..=3u64 {
            scope.spawn(move || {
                for round in 0..60u64 {
                    // The same byte all over the block, so that a mixture shows.
                    let byte = (session * 64 + round) as u8;
                    rig.write(session, 5, (round * session % BLOCKS) * BLOCK_SIZE, &vec![byte; BLOCK])
                        .unwrap();
                }
            });
        }
        for session in 4..=5u64 {
            scope.spawn(move || {
                for round in 0..40u64 {
                    rig.commit(session, vec![put(&format!("c{session}"), &round.to_string())], &[5]).unwrap();
                }
            });
        }
        scope.spawn(move || {
            for round in 0..200u64 {
                let block = rig.read(5, round % BLOCKS * BLOCK_SIZE, BLOCK as u32).unwrap();
                assert!(block.iter().all(|byte| *byte == block[0]));
            }
        });
        scope.spawn(move || {
            for _ in 0..10 {
                let cut = vec![Op::Truncate { object: 5, size: 4 * BLOCK_SIZE }];
                rig.commit(6, cut, &[]).unwrap();
            }
        });
    });
    rig.commit(1, vec![], &[5]).unwrap();
    let before = rig.read(5, 0, (BLOCKS * BLOCK_SIZE) as u32).unwrap();
    assert!(rig.store().verify().unwrap().is_clean());
    rig.reopen();
    assert_eq!(rig.read(5, 0, (BLOCKS * BLOCK_SIZE) as u32).unwrap(), before);
}

/// Nothing of a fenced session lands after the fence was answered, whatever was under way.
#[test]
fn a_fence_stops_what_is_under_way() {
    for session in 1..=6u64 {
        let rig = Rig::new();
        let landed = AtomicU64::new(0);
        thread::scope(|scope| {
            let (rig, landed) = (&rig, &landed);
            for object in 1..=2u64 {
                scope.spawn(move || {
                    for n in 0.. {
                        let byte = (n % 250 + 1) as u8;
                        let wrote = rig.write(session, object, n % 4 * BLOCK_SIZE, &vec![byte; BLOCK]);
                        let stamp = put(&format!("o{object}"), &n.to_string());
                        let result = wrote.and_then(|()| rig.commit(session, vec![stamp], &[object]));
                        if let Err(e) = result {
                            assert_eq!(e, StoreError::Fenced { session });
                            return;
                        }
                        landed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            while landed.load(Ordering::Relaxed) < session * 3 {
                thread::yield_now();
            }
            rig.fence(session).unwrap();
            let picture = || {
                let data: Vec<Bytes> = (1..=2).map(|o| rig.read(o, 0, 4 * BLOCK as u32).unwrap()).collect();
                (rig.all(), data)
            };
            let at_fence = picture();
            rig.commit(99, vec![], &[]).unwrap();
            for _ in 0..20 {
                assert_eq!(picture(), at_fence);
            }
        });
    }
}

/// The payload has arrived, the write was let in, and only then the session is fenced: it must not land.
#[test]
fn a_write_that_was_let_in_before_the_fence_is_stopped() {
    let rig = Rig::new();
    rig.write(1, 5, 0, b"old").unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    let pause = rig.camera.pause_at(Point::BeforeData(5));
    thread::scope(|scope| {
        let late = scope.spawn(|| rig.write(1, 5, 0, b"new"));
        pause.wait_until_there();
        let fence = scope.spawn(|| rig.fence(1));
        while !rig.store().is_fenced(1) {
            thread::yield_now();
        }
        pause.go_on();
        assert_eq!(late.join().unwrap(), Err(StoreError::Fenced { session: 1 }));
        fence.join().unwrap().unwrap();
    });
    assert_eq!(rig.read(5, 0, 3).unwrap(), "old");
}

/// While a commit is syncing a block, a write to that block waits for it, and one to another block does not.
#[test]
fn blocks_on_their_way_to_the_disk_do_not_change() {
    let mut rig = Rig::new();
    rig.write(1, 5, 0, b"one").unwrap();
    let pause = rig.camera.pause_at(Point::AfterSync(5));
    thread::scope(|scope| {
        let commit = scope.spawn(|| rig.commit(1, vec![], &[5]));
        pause.wait_until_there();
        rig.write(2, 5, BLOCK_SIZE, b"elsewhere").unwrap();
        let write = scope.spawn(|| rig.write(2, 5, 0, b"two"));
        assert_eq!(rig.read(5, 0, 3).unwrap(), "one", "readers go on");
        assert!(!write.is_finished());
        pause.go_on();
        commit.join().unwrap().unwrap();
        write.join().unwrap().unwrap();
    });
    assert_eq!(rig.read(5, 0, 3).unwrap(), "two");
    // Had it not waited, the block would now hold "two" under the checksum of "one" and no mark.
    rig.reopen();
    assert_eq!(
        rig.read(5, 0, 3).unwrap(),
        "two",
        "it was marked, and came to the disk with the process alive"
    );
    assert_eq!(rig.read(5, BLOCK_SIZE, 9).unwrap(), [0; 9][..]);
}
