//! Damage on disk: found, named, never served.

use super::harness::{BLOCK, Rig, Rng, copy_of, key, options, put};
use crate::error::StoreError;
use crate::store::{EmbeddedStore, Store};
use crate::types::{BLOCK_SIZE, Op};
use bytes::Bytes;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn corrupt(result: Result<Bytes, StoreError>) -> String {
    match result {
        Err(StoreError::Corrupt { what }) => what,
        other => panic!("not reported: {other:?}"),
    }
}

#[test]
fn a_damaged_block_is_named_and_not_served() {
    let rig = Rig::new();
    let data = Rng::new(1).bytes(4 * BLOCK);
    rig.write(1, 5, 0, &data).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    flip(&rig.file(5), 2 * BLOCK_SIZE + 77);
    for (offset, len) in [(0, 4 * BLOCK as u32), (2 * BLOCK_SIZE, 1), (3 * BLOCK_SIZE - 1, 2)] {
        let what = corrupt(rig.read(5, offset, len));
        assert!(what.contains("block 2 of object 0x5"), "{what}");
    }
    assert_eq!(rig.read(5, 3 * BLOCK_SIZE, 10).unwrap(), data[3 * BLOCK..3 * BLOCK + 10]);
    let report = rig.store().verify().unwrap();
    assert_eq!((report.damaged, report.blocks), (1, 3));
    assert!(report.to_string().contains("block 2 of object 0x5"), "{report}");
    // Writing into it must not make it look sound; writing over all of it does heal it.
    corrupt(rig.write(1, 5, 2 * BLOCK_SIZE, b"x").map(|()| Bytes::new()));
    rig.write(1, 5, 2 * BLOCK_SIZE, &data[..BLOCK]).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    assert_eq!(rig.read(5, 2 * BLOCK_SIZE, BLOCK as u32).unwrap(), data[..BLOCK]);
    assert!(rig.store().verify().unwrap().is_clean());
}

#[test]
fn a_missing_or_shortened_file_is_named() {
    let mut rig = Rig::new();
    rig.write(1, 5, 0, &Rng::new(1).bytes(2 * BLOCK)).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.close();
    let file = rig.file(5);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(BLOCK_SIZE + 1).unwrap();
    rig.open().unwrap();
    assert!(corrupt(rig.read(5, BLOCK_SIZE, 1)).contains("block 1 of object 0x5"));
    rig.read(5, 0, 1).unwrap();
    rig.close();
    fs::remove_file(&file).unwrap();
    rig.open().unwrap();
    assert!(corrupt(rig.read(5, 0, 1)).contains("is missing"));
    assert!(!rig.store().verify().unwrap().is_clean());
}

/// Writes what it likes into the closed store's tree.
fn tamper(dir: &Path, change: impl FnOnce(&fjall::Keyspace)) {
    let db = fjall::Database::builder(dir.join("kv")).open().unwrap();
    change(&db.keyspace("extents", fjall::KeyspaceCreateOptions::default).unwrap());
    db.persist(fjall::PersistMode::SyncAll).unwrap();
}

#[test]
fn a_damaged_value_is_named_and_its_neighbours_are_served() {
    let mut rig = Rig::new();
    rig.commit(1, vec![put("a", "1"), put("b", "2"), put("c", "3")], &[]).unwrap();
    rig.close();
    let mut sealed = rpc::record::seal(1, b"2");
    *sealed.last_mut().unwrap() ^= 1;
    tamper(rig.path(), |tree| {
        tree.insert("kb", sealed).unwrap();
        // Alone at the end of the log it would pass for a write torn by a crash.
        tree.insert("kd", rpc::record::seal(1, b"4")).unwrap();
    });
    rig.open().unwrap();
    assert_eq!(rig.get("a").unwrap(), "1");
    let found = rig.store().get(&[key("a"), key("b")], usize::MAX).map(|_| Bytes::new());
    assert!(corrupt(found).contains("key \"b\""));
    let scanned = rig.store().scan(&key("a"), &key("z"), 10, usize::MAX).map(|_| Bytes::new());
    assert!(corrupt(scanned).contains("key \"b\""));
    let report = rig.store().verify().unwrap();
    assert_eq!((report.damaged, report.keys), (1, 3));
    rig.commit(1, vec![put("b", "again")], &[]).unwrap();
    assert!(rig.store().verify().unwrap().is_clean());
}

/// A store with something of everything in its log.
fn filled() -> (Rig, Vec<(Bytes, Bytes)>) {
    let mut rig = Rig::new();
    for n in 0..20u64 {
        let value = Rng::new(n).bytes(200);
        rig.commit(1, vec![Op::Put { key: key(&format!("k{n:02}")), value: value.into() }], &[]).unwrap();
    }
    rig.write(1, 5, 0, &Rng::new(1).bytes(BLOCK)).unwrap();
    rig.commit(1, vec![], &[5]).unwrap();
    rig.fence(77).unwrap();
    let all = rig.all().into_iter().collect();
    rig.close();
    (rig, all)
}

/// Opens a damaged copy; it must be refused, or serve everything or say what is corrupt.
fn open_damaged(image: &TempDir, all: &[(Bytes, Bytes)]) -> &'static str {
    let store = match EmbeddedStore::open(image.path(), &options()) {
        Ok(store) => store,
        Err(e) => {
            assert!(!e.to_string().contains('\n'), "one line: {e}");
            return "refused";
        }
    };
    let mut outcome = "served";
    for (key, value) in all {
        match store.get(std::slice::from_ref(key), usize::MAX) {
            Ok(found) => assert_eq!(found, [Some(value.clone())], "{key:?} is lost or wrong"),
            Err(StoreError::Corrupt { .. }) => outcome = "reported",
            Err(e) => panic!("{key:?}: {e}"),
        }
    }
    match store.read(5, &[(0, BLOCK as u32)]) {
        Ok(found) => assert_eq!(found, Rng::new(1).bytes(BLOCK)),
        Err(StoreError::Corrupt { .. }) => outcome = "reported",
        Err(e) => panic!("object: {e}"),
    }
    assert!(store.is_fenced(77), "the fence is lost");
    assert_eq!(store.verify().unwrap().is_clean(), outcome == "served");
    outcome
}

#[test]
fn a_damaged_log_is_refused_wherever_the_damage_is() {
    let (rig, all) = filled();
    let log = fs::read(rig.path().join("kv/0.jnl")).unwrap();
    let end = log.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    let mut rng = Rng::new(5);
    let mut refused = 0;
    for _ in 0..30 {
        let image = copy_of(rig.path());
        flip(&image.path().join("kv/0.jnl"), rng.below(end));
        refused += u32::from(open_damaged(&image, &all) == "refused");
    }
    assert!(refused > 24, "a flipped bit of the log hardly ever goes by: {refused} of 30");
    for cut in [0, end / 3, end - 1] {
        let image = copy_of(rig.path());
        fs::OpenOptions::new().write(true).open(image.path().join("kv/0.jnl")).unwrap().set_len(cut).unwrap();
        let e = EmbeddedStore::open(image.path(), &options()).err().unwrap().to_string();
        assert!(e.contains("was acknowledged"), "{e}");
    }
}

#[test]
fn damaged_tables_are_refused_or_reported() {
    let (rig, all) = filled();
    tamper(rig.path(), |tree| tree.rotate_memtable_and_wait().unwrap());
    let tables = files_below(&rig.path().join("kv/keyspaces"));
    assert!(tables.iter().any(|table| table.to_str().unwrap().contains("tables")));
    let mut rng = Rng::new(6);
    let mut noticed = 0;
    for table in &tables {
        let relative = table.strip_prefix(rig.path()).unwrap();
        let size = fs::metadata(table).unwrap().len();
        for _ in 0..if size > 2000 { 40 } else { 6 } {
            if size > 0 {
                let image = copy_of(rig.path());
                flip(&image.path().join(relative), rng.below(size));
                noticed += u32::from(open_damaged(&image, &all) != "served");
            }
        }
    }
    assert!(noticed > 20, "{noticed}");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn missing_parts_are_named() {
    let (rig, _) = filled();
    let refusal = |break_it: &dyn Fn(&Path)| {
        let image = copy_of(rig.path());
        break_it(image.path());
        let e = EmbeddedStore::open(image.path(), &options()).err().unwrap().to_string();
        assert!(!e.contains('\n') && e.contains("restore it from a backup"), "{e}");
        e
    };
    refusal(&|dir| fs::remove_dir_all(dir.join("kv")).unwrap());
    assert!(refusal(&|dir| fs::remove_dir_all(dir.join("objects")).unwrap()).contains("objects"));
    assert!(refusal(&|dir| fs::remove_file(dir.join("kv/0.jnl")).unwrap()).contains("no log"));
    let trees = rig.path().join("kv/keyspaces");
    for tree in fs::read_dir(trees).unwrap() {
        let current = tree.unwrap().path().join("current");
        let relative = current.strip_prefix(rig.path()).unwrap().to_path_buf();
        assert!(refusal(&|dir| fs::remove_file(dir.join(&relative)).unwrap()).contains("current"));
    }
    let (other, _) = filled();
    let mixed = refusal(&|dir| {
        fs::remove_dir_all(dir.join("kv")).unwrap();
        fs::rename(copy_of(other.path()).keep().join("kv"), dir.join("kv")).unwrap();
    });
    assert!(mixed.contains("different stores"), "{mixed}");
}
