//! Single behaviours of the store.

use super::harness::{BLOCK, Rig, Rng, key, options, put};
use crate::error::StoreError;
use crate::store::{EmbeddedStore, Store, StoreOptions};
use crate::types::{BLOCK_SIZE, BootId, Op};
use std::fs;

#[test]
fn commits_survive_reopening_and_uncommitted_writes_do_not() {
    let mut rig = Rig::new();
    rig.commit(1, vec![put("k", "v")], &[]).unwrap();
    rig.write(1, 5, 10, b"kept").unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.write(1, 5, BLOCK_SIZE, b"lost").unwrap();
    assert_eq!(rig.read(5, BLOCK_SIZE, 4).unwrap(), "lost");
    let boot = rig.store().boot();
    rig.reopen();
    assert_eq!(rig.get("k").unwrap(), "v");
    assert_eq!(rig.read(5, 10, 4).unwrap(), "kept");
    assert_eq!(rig.read(5, BLOCK_SIZE, 4).unwrap(), [0; 4][..]);
    assert_eq!(rig.commit_to(1, vec![put("k", "w")], vec![(5, boot)]), Err(StoreError::Restarted));
    assert_eq!(rig.get("k").unwrap(), "v", "all or nothing");
}

#[test]
fn another_life_is_refused_whatever_its_number() {
    let rig = Rig::new();
    let BootId(boot) = rig.store().boot();
    for other in [0, boot.wrapping_add(1), u64::MAX] {
        assert_eq!(rig.commit_to(1, vec![], vec![(5, BootId(other))]), Err(StoreError::Restarted));
    }
}

#[test]
fn ranges_of_one_write_may_overlap_and_share_blocks() {
    let rig = Rig::new();
    let ranges = [(0, 4), (BLOCK_SIZE - 2, 4), (2, 4), (0, 0)];
    rig.store().write(1, 5, &ranges, &key("aaaabbbbcccc")).unwrap();
    let read = rig.store().read(5, &[(0, 7), (BLOCK_SIZE - 3, 6)]).unwrap();
    assert_eq!(read, b"aacccc\0\0bbbb\0"[..]);
}

#[test]
fn a_cut_gives_space_back_and_reads_as_zeros_when_extended() {
    let rig = Rig::new();
    let data = Rng::new(1).bytes(10 * BLOCK);
    rig.write(1, 5, 0, &data).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.commit(1, vec![Op::Truncate { object: 5, size: 2 * BLOCK_SIZE + 1 }], &[]).unwrap();
    assert_eq!(fs::metadata(rig.file(5)).unwrap().len(), 3 * BLOCK_SIZE);
    assert_eq!(rig.read(5, 0, 3 * BLOCK as u32).unwrap(), data[..3 * BLOCK], "a block cut in two is kept");
    rig.write(1, 5, 9 * BLOCK_SIZE, b"x").unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    assert!(rig.read(5, 3 * BLOCK_SIZE, 6 * BLOCK as u32).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn a_cut_takes_uncommitted_writes_along_named_or_not() {
    for named in [&[5][..], &[]] {
        let mut rig = Rig::new();
        rig.write(1, 5, 0, &vec![1; 3 * BLOCK]).unwrap();
        rig.commit(1, vec![], &[5]).unwrap();
        for block in [0, 2, 70] {
            rig.write(1, 5, block * BLOCK_SIZE, b"new").unwrap();
        }
        rig.commit(1, vec![Op::Truncate { object: 5, size: BLOCK_SIZE }], named).unwrap();
        assert_eq!(rig.read(5, 0, 3).unwrap(), "new");
        let beyond = |rig: &Rig| rig.read(5, BLOCK_SIZE, 70 * BLOCK as u32).unwrap();
        assert!(beyond(&rig).iter().all(|byte| *byte == 0));
        assert_eq!(fs::metadata(rig.file(5)).unwrap().len(), BLOCK_SIZE);
        rig.write(1, 5, 69 * BLOCK_SIZE, b"after").unwrap();
        rig.commit(1, vec![], &[5]).unwrap();
        rig.reopen();
        assert!(beyond(&rig)[..68 * BLOCK].iter().all(|byte| *byte == 0));
        assert_eq!(rig.read(5, 69 * BLOCK_SIZE, 5).unwrap(), "after");
        assert!(rig.store().verify().unwrap().is_clean());
    }
}

#[test]
fn removal_takes_the_file_along() {
    let rig = Rig::new();
    rig.write(1, 5, 0, b"abc").unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.write(1, 5, BLOCK_SIZE, b"uncommitted").unwrap();
    rig.commit(1, vec![Op::Remove { object: 5 }], &[5]).unwrap();
    assert!(!rig.file(5).exists());
    assert!(rig.read(5, 0, 2 * BLOCK as u32).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(rig.store().status().uncommitted_objects, 0);
    assert_eq!(rig.store().verify().unwrap().objects, 0);
}

#[test]
fn a_fence_is_for_ever_and_gives_up_what_was_not_committed() {
    let mut rig = Rig::new();
    rig.write(1, 5, 0, b"mine").unwrap();
    rig.write(2, 6, 0, b"theirs").unwrap();
    rig.fence(1).unwrap();
    for _ in 0..2 {
        assert!(rig.store().is_fenced(1) && !rig.store().is_fenced(2));
        assert_eq!(rig.commit(1, vec![put("k", "v")], &[]), Err(StoreError::Fenced { session: 1 }));
        assert_eq!(rig.write(1, 5, 0, b"late"), Err(StoreError::Fenced { session: 1 }));
        assert_eq!(rig.read(5, 0, 4).unwrap(), [0; 4][..]);
        assert!(!rig.file(5).exists(), "nothing of it is left");
        rig.reopen();
    }
    assert_eq!(rig.get("k"), None);
}

#[test]
fn abandoned_files_are_swept() {
    let mut rig = Rig::new();
    for object in [5, 6, 7] {
        rig.write(1, object, 0, &vec![1; 3 * BLOCK]).unwrap();
    }
    rig.commit(1, vec![], &[5, 6]).unwrap();
    rig.write(1, 6, 7 * BLOCK_SIZE, b"never committed").unwrap();
    rig.reopen();
    assert_eq!(rig.store().verify().unwrap().orphans, 1);
    rig.store().start_sweeping();
    // Closing waits for the end of a file's turn, not of all: look until it is done.
    while rig.file(7).exists() || fs::metadata(rig.file(6)).unwrap().len() != 3 * BLOCK_SIZE {
        std::thread::yield_now();
    }
    assert_eq!(rig.read(5, 0, 3 * BLOCK as u32).unwrap(), vec![1; 3 * BLOCK]);
    assert!(rig.store().verify().unwrap().is_clean());
}

#[test]
fn a_full_store_refuses_what_grows_and_takes_what_frees() {
    let mut rig = Rig::new();
    let data = vec![7; 2 * BLOCK];
    rig.write(1, 5, 0, &data).unwrap();
    rig.commit(1, vec![put("k", "v"), put("l", "w")], &[5]).unwrap();
    rig.close();
    // A reserve of twice what is free, of which freeing may use three quarters.
    let free = EmbeddedStore::open(rig.path(), &options()).unwrap().statfs().unwrap().available;
    let full = StoreOptions { reserve: Some(2 * free), ..options() };
    let store = EmbeddedStore::open(rig.path(), &full).unwrap();
    let commit = |ops| rig.runtime.block_on(async { store.commit(1, ops, vec![]).await });
    assert_eq!(store.statfs().unwrap().available, 0);
    assert_eq!(commit(vec![put("k", "x")]), Err(StoreError::NoSpace));
    assert_eq!(store.write(1, 5, &[(0, 1)], &key("x")), Err(StoreError::NoSpace));
    assert_eq!(store.read(5, &[(0, 2 * BLOCK as u32)]).unwrap(), data);
    let unlink = vec![Op::Delete { key: key("k") }, put("l", "shorter"), Op::Remove { object: 5 }];
    assert_eq!(commit(unlink), Ok(()));
    rig.runtime.block_on(async { store.fence(9).await }).unwrap();
    drop(store);
    rig.open().unwrap();
    assert_eq!((rig.get("k"), rig.get("l")), (None, Some(key("shorter"))));
    rig.commit(1, vec![put("k", "room again")], &[]).unwrap();
}

#[test]
fn a_directory_is_taken_by_one_store_at_a_time() {
    let mut rig = Rig::new();
    let second = EmbeddedStore::open(rig.path(), &options()).err().unwrap().to_string();
    assert!(second.contains("in use by another process"), "{second}");
    rig.close();
    rig.open().unwrap();
}
