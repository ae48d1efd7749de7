//! Looking at the whole store as of one moment.

use super::harness::{BLOCK, Rig, Rng, key, put};
use crate::error::StoreError;
use crate::store::Store;
use crate::survey::{ObjectSummary, SNAPSHOTS_MAX};
use crate::types::{BLOCK_SIZE, Op};
use std::fs;

#[test]
fn a_snapshot_stays_as_it_was() {
    let rig = Rig::new();
    rig.write(1, 5, 0, &Rng::new(1).bytes(3 * BLOCK)).unwrap();
    rig.write(1, 5, 100 * BLOCK_SIZE, b"far").unwrap();
    rig.write(1, 9, 0, b"another").unwrap();
    rig.commit(1, vec![put("a", "1"), put("b", "2")], &[5, 9]).unwrap();
    let snapshot = rig.store().snapshot().unwrap();
    rig.write(1, 11, 0, b"later").unwrap();
    rig.commit(1, vec![put("a", "3"), put("c", "4"), Op::Remove { object: 5 }], &[11]).unwrap();
    let page = rig.store().survey(snapshot, &key("")).unwrap();
    assert_eq!(page.entries, [(key("a"), Some(key("1"))), (key("b"), Some(key("2")))]);
    assert_eq!((page.lost.len(), page.next), (0, None));
    assert_eq!(rig.store().survey(snapshot, &key("b")).unwrap().entries.len(), 1);
    let page = rig.store().survey_objects(snapshot, 0).unwrap();
    let want =
        [ObjectSummary { object: 5, blocks: 4, end: 101 }, ObjectSummary { object: 9, blocks: 1, end: 1 }];
    assert_eq!((&page.objects[..], page.next), (&want[..], None));
    assert_eq!(rig.store().survey_objects(snapshot, 6).unwrap().objects, want[1..]);
    let newer = rig.store().snapshot().unwrap();
    assert_eq!(rig.store().survey(newer, &key("")).unwrap().entries.len(), 3);
    assert_eq!(rig.store().survey_objects(newer, 0).unwrap().objects.len(), 2);
}

#[test]
fn large_stores_come_in_pages() {
    let rig = Rig::new();
    let value = "v".repeat(900_000);
    for i in 0..12 {
        rig.commit(1, vec![put(&format!("key {i:02}"), &value)], &[]).unwrap();
    }
    let snapshot = rig.store().snapshot().unwrap();
    let (mut from, mut seen, mut pages) = (key(""), Vec::new(), 0);
    loop {
        let page = rig.store().survey(snapshot, &from).unwrap();
        seen.extend(page.entries.into_iter().map(|(key, _)| key));
        pages += 1;
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!(seen, (0..12).map(|i| key(&format!("key {i:02}"))).collect::<Vec<_>>());
    assert!(pages > 1);
}

#[test]
fn unknown_and_too_many_snapshots_are_refused() {
    let rig = Rig::new();
    assert!(matches!(rig.store().survey(1, &key("")), Err(StoreError::Invalid { .. })));
    for _ in 0..SNAPSHOTS_MAX {
        rig.store().snapshot().unwrap();
    }
    assert!(matches!(rig.store().snapshot(), Err(StoreError::Invalid { .. })));
    assert_eq!(rig.store().drop_idle_snapshots(), SNAPSHOTS_MAX, "they were used a moment ago");
    rig.store().drop_snapshot(1);
    assert!(matches!(rig.store().survey(1, &key("")), Err(StoreError::Invalid { .. })));
    rig.store().snapshot().unwrap();
}

#[test]
fn blocks_are_compared_with_their_checksums() {
    let rig = Rig::new();
    for chunk in 0..6 {
        rig.write(1, 5, chunk * 64 * BLOCK_SIZE, &Rng::new(chunk + 1).bytes(2 * BLOCK)).unwrap();
    }
    rig.commit(1, vec![], &[5]).unwrap();
    let first = rig.store().check_blocks(5, 0).unwrap();
    assert_eq!((first.intact, first.damaged.len(), first.next), (8, 0, Some(4 * 64)));
    let rest = rig.store().check_blocks(5, 4 * 64).unwrap();
    assert_eq!((rest.intact, rest.damaged.len(), rest.next), (4, 0, None));
    let mut bytes = fs::read(rig.file(5)).unwrap();
    bytes[BLOCK + 7] ^= 1;
    fs::write(rig.file(5), bytes).unwrap();
    let first = rig.store().check_blocks(5, 0).unwrap();
    assert_eq!((first.intact, first.damaged.len()), (7, 1), "{:?}", first.damaged);
    assert_eq!(rig.store().check_blocks(77, 0).unwrap(), crate::survey::BlocksChecked::default());
}
