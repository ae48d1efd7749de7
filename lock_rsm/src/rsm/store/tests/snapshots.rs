//! Snapshot files: written beside the log, in force only once the store names them.

use super::*;
use fjall::{Database, KeyspaceCreateOptions};

fn files(dir: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(dir.join("snapshots")) else { return Vec::new() };
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_log_is_written_while_a_snapshot_is() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        let work = store.save_snapshot(snapshot(1, 3, 100));
        store.write(vec![append(entries(1, 6..=7))]).unwrap();
        assert_eq!(store.snapshot_piece(None, 0).unwrap(), None, "it is not in force yet");
        let saved = work().unwrap();
        store.write(vec![append(entries(1, 8..=8))]).unwrap();
        store.snapshot_saved(saved).unwrap();
        assert_eq!(store.snapshot_piece(None, 0).unwrap().unwrap().meta, snapshot(1, 3, 0).meta);
    }
    let recovered = reopen(dir.path());
    assert_eq!(recovered.snapshot, Some(snapshot(1, 3, 100)));
    assert_eq!(seqs(&recovered), [(1, 4), (1, 5), (1, 6), (1, 7), (1, 8)]);
}

#[test]
fn a_crash_before_it_is_in_force_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        save(&mut store, &snapshot(1, 2, 100));
        store.save_snapshot(snapshot(1, 4, 100))().unwrap();
    }
    assert_eq!(files(dir.path()).len(), 2);
    let recovered = reopen(dir.path());
    assert_eq!(recovered.snapshot, Some(snapshot(1, 2, 100)));
    assert_eq!(seqs(&recovered), [(1, 3), (1, 4), (1, 5)]);
    assert_eq!(files(dir.path()), ["0000000000000001"], "the leftover is tidied away");
}

#[test]
fn one_that_was_overtaken_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let received = snapshot(2, 9, 50);
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        let saved = store.save_snapshot(snapshot(1, 4, 100))().unwrap();
        let install = Some((received.clone(), true));
        store.write(vec![LogWrite { install, ..LogWrite::default() }]).unwrap();
        store.snapshot_saved(saved).unwrap();
    }
    assert_eq!(files(dir.path()), ["0000000000000002"]);
    assert_eq!(reopen(dir.path()).snapshot, Some(received));
}

#[test]
fn whoever_writes_one_keeps_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let work = store.save_snapshot(snapshot(1, 4, 100));
    drop(store);
    assert!(refusal(dir.path()).contains("in use by another process"));
    work().unwrap();
    assert_eq!(reopen(dir.path()).snapshot, None);
}

/// A record that names a snapshot, as versions wrote it that knew members only.
fn members_only(version: u8, named: &[u8]) -> Vec<u8> {
    let (_, body) = rpc::record::open(named).unwrap();
    let crate::rsm::SavedSnapshot { meta, generation, len, hash } = rpc::codec::decode(body).unwrap();
    let body = rpc::codec::encode(&(meta.stamp, meta.membership.members, generation, len, hash));
    rpc::record::seal(version, &body)
}

#[test]
fn a_snapshot_named_before_former_members_were_remembered_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let whole = snapshot(1, 3, 100);
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        save(&mut store, &whole);
        store.settle().unwrap();
    }
    {
        let database = Database::builder(dir.path().join("store")).open().unwrap();
        let keyspace = database.keyspace("replica", KeyspaceCreateOptions::default).unwrap();
        let named = keyspace.get("s").unwrap().unwrap();
        keyspace.insert("s", members_only(2, &named)).unwrap();
    }
    let recovered = reopen(dir.path());
    assert_eq!(recovered.snapshot.as_ref(), Some(&whole));
    assert_eq!(seqs(&recovered), [(1, 4), (1, 5)]);
}

/// Before they had files, the pieces of a snapshot lay in the store.
#[test]
fn a_snapshot_in_the_store_gets_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let whole = snapshot(1, 3, CHUNK_BYTES + 7);
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        save(&mut store, &whole);
        store.settle().unwrap();
    }
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    {
        let database = Database::builder(dir.path().join("store")).open().unwrap();
        let keyspace = database.keyspace("replica", KeyspaceCreateOptions::default).unwrap();
        let named = keyspace.get("s").unwrap().unwrap();
        keyspace.insert("s", members_only(1, &named)).unwrap();
        for (index, piece) in (0u32..).zip(whole.state.chunks(CHUNK_BYTES)) {
            let mut key = b"c\0\0\0\0\0\0\0\x01".to_vec();
            key.extend(index.to_be_bytes());
            keyspace.insert(key, rpc::record::seal(1, piece)).unwrap();
        }
    }
    for _ in 0..2 {
        let recovered = reopen(dir.path());
        assert_eq!(recovered.snapshot.as_ref(), Some(&whole));
        assert_eq!(seqs(&recovered), [(1, 4), (1, 5)]);
        assert_eq!(files(dir.path()), ["0000000000000002"]);
    }
    let database = Database::builder(dir.path().join("store")).open().unwrap();
    let keyspace = database.keyspace("replica", KeyspaceCreateOptions::default).unwrap();
    assert_eq!(keyspace.prefix("c").count(), 0, "its pieces are gone from the store");
}
