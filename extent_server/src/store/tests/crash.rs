//! Crashes at chosen moments.

use super::harness::{BLOCK, Rig, Rng, copy_of, key, mixed_from, put};
use crate::store::Store;
use crate::store::probe::Point;
use crate::types::{BLOCK_SIZE, Op};
use std::fs;
use std::os::unix::fs::FileExt;

/// The power fails at every point of an overwrite and its commit: never a false alarm, never a mixture once committed.
#[test]
fn overwriting_in_place_is_safe_at_every_point() {
    let (old, new) = (Rng::new(1).bytes(3 * BLOCK), Rng::new(2).bytes(3 * BLOCK));
    let (mut before, mut after) = (0, 0);
    for at in 0..12 {
        for seed in 0..2 {
            let rig = Rig::new();
            rig.write(1, 5, 0, &old).unwrap();
            rig.commit(1, vec![put("version", "old")], &[5]).unwrap();
            rig.camera.shoot_after(at, seed);
            rig.write(1, 5, 4096, &new[4096..2 * BLOCK + 4096]).unwrap();
            rig.commit(1, vec![put("version", "new")], &[5]).unwrap();
            let crashed = Rig::on(rig.camera.develop(seed));
            let found = crashed.read(5, 0, 3 * BLOCK as u32).unwrap();
            if crashed.get("version").unwrap() == "new" {
                after += 1;
                let expected =
                    [&old[..4096], &new[4096..2 * BLOCK + 4096], &old[2 * BLOCK + 4096..]].concat();
                assert!(found == expected, "committed data is there exactly");
            } else {
                before += 1;
                assert!(mixed_from(&found, &[&old, &new]));
            }
            assert!(crashed.store().verify().unwrap().is_clean());
        }
    }
    assert!(before > 0 && after > 0, "both outcomes were seen: {before}, {after}");
}

/// The marks are what makes the test above pass: without the point they protect, it would see corruption.
#[test]
fn committed_blocks_are_marked_on_disk_before_they_change() {
    let rig = Rig::new();
    rig.write(1, 5, 0, &vec![1; 2 * BLOCK]).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.camera.points();
    rig.write(1, 5, 0, b"x").unwrap();
    let marked = [Point::BeforeGroup, Point::AfterGroup, Point::BeforeData(5), Point::AfterData(5)];
    assert_eq!(rig.camera.points(), marked);
    rig.write(1, 5, 1, b"y").unwrap();
    assert_eq!(rig.camera.points(), marked[2..], "one mark lasts until the commit");
    rig.write(1, 5, 2 * BLOCK_SIZE, b"z").unwrap();
    assert_eq!(rig.camera.points(), marked[2..], "a hole needs none");
    rig.commit(1, vec![], &[5]).unwrap();
    assert_eq!(rig.camera.points()[..2], [Point::BeforeSync(5), Point::AfterSync(5)], "data before metadata");
    rig.write(1, 5, 0, b"x").unwrap();
    assert_eq!(rig.camera.points(), marked);
}

/// The last write to the log is cut anywhere, or has holes anywhere: as if it had never been.
#[test]
fn a_torn_tail_of_the_log_is_cut() {
    let mut rig = Rig::new();
    rig.commit(1, vec![put("k", "old")], &[]).unwrap();
    let acknowledged = fs::read(rig.path().join("WATERMARK")).unwrap();
    let before = log_end(&rig);
    let value = Rng::new(7).bytes(30_000);
    let ops =
        vec![put("k", "new"), Op::Put { key: key("big"), value: value.clone().into() }, put("z", "last")];
    rig.commit(1, ops, &[]).unwrap();
    let after = log_end(&rig);
    rig.close();
    assert!(after - before > 30_000);
    let mut rng = Rng::new(3);
    for round in 0..24 {
        let image = copy_of(rig.path());
        fs::write(image.path().join("WATERMARK"), &acknowledged).unwrap();
        let log = fs::OpenOptions::new().write(true).open(image.path().join("kv/0.jnl")).unwrap();
        if round % 2 == 0 {
            let cut = before + rng.below(after - before);
            log.set_len(cut).unwrap();
        } else {
            // A disk writes pages, in any order: one or more of them did not make it.
            for page in before / 4096..=(after - 1) / 4096 {
                if rng.below(4) == 0 || page == before / 4096 + 1 + rng.below(5) {
                    let (from, to) = ((page * 4096).max(before), ((page + 1) * 4096).min(after));
                    log.write_all_at(&vec![0; (to - from) as usize], from).unwrap();
                }
            }
        }
        drop(log);
        let crashed = Rig::on(image);
        match crashed.get("k").as_deref() {
            Some(b"old") => assert_eq!(crashed.all().len(), 1, "round {round}: all or nothing"),
            // No page was lost after all.
            Some(b"new") => assert_eq!(crashed.get("big").unwrap(), value),
            other => panic!("round {round}: {other:?}"),
        }
        crashed.commit(1, vec![put("k", "on we go")], &[]).unwrap();
    }
}

/// One past the last byte of the log that is not zero.
fn log_end(rig: &Rig) -> u64 {
    let log = fs::read(rig.path().join("kv/0.jnl")).unwrap();
    log.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

#[test]
fn an_interrupted_creation_is_done_over() {
    let mut rig = Rig::new();
    rig.close();
    let format = rig.path().join("FORMAT");
    let text = fs::read_to_string(&format).unwrap();
    fs::write(&format, text.replace("ready", "creating")).unwrap();
    fs::remove_file(rig.path().join("kv/version")).unwrap();
    rig.open().unwrap();
    rig.commit(1, vec![put("k", "v")], &[]).unwrap();
}
