//! The store on a real disk: what it keeps, what it refuses, and what it says then.

mod damage;
mod format;
mod segments;
mod snapshots;

use super::snapshots::CHUNK_BYTES;
use super::{DiskStore, LogWrite, Recovered, Snapshot, Store, StoreError};
use crate::consensus::{Entry, HardState, Member, Membership, Payload, SnapshotMeta, Viewstamp};
use bytes::Bytes;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ME: &str = "127.0.0.1:3001";

fn entry(view: u64, seq: u64) -> Entry {
    let text = format!("command {view}.{seq}");
    Entry { stamp: Viewstamp::new(view, seq), payload: Payload::Command(text.into()) }
}

fn entries(view: u64, seqs: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    seqs.map(|seq| entry(view, seq)).collect()
}

fn append(append: Vec<Entry>) -> LogWrite {
    LogWrite { append, ..LogWrite::default() }
}

fn promise(view: u64, voted_for: Option<u64>) -> LogWrite {
    LogWrite { hard_state: Some(HardState { view, voted_for }), ..LogWrite::default() }
}

fn snapshot(view: u64, seq: u64, len: usize) -> Snapshot {
    let state: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    let meta = SnapshotMeta { stamp: Viewstamp::new(view, seq), membership: members() };
    Snapshot { meta, state: state.into() }
}

fn members() -> Membership {
    Membership::of(vec![Member { id: 7, address: ME.into(), voter: true }])
}

fn open(dir: &Path) -> (DiskStore, Recovered) {
    DiskStore::open(dir, ME).unwrap()
}

fn reopen(dir: &Path) -> Recovered {
    open(dir).1
}

/// Opens a directory that must be refused, and returns the message.
fn refusal(dir: &Path) -> String {
    let error = DiskStore::open(dir, ME).err().expect("this directory must be refused");
    assert!(!matches!(error, StoreError::Io { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains(&dir.display().to_string()), "names the directory: {message}");
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

/// Saves a snapshot of the replica's own state.
fn save(store: &mut DiskStore, snapshot: &Snapshot) {
    let work = store.save_snapshot(snapshot.clone());
    store.snapshot_saved(work().unwrap()).unwrap();
}

fn seqs(recovered: &Recovered) -> Vec<(u64, u64)> {
    recovered.entries.iter().map(|entry| (entry.stamp.view, entry.stamp.seq)).collect()
}

/// The file of the log that is written to.
fn journal(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("log")).unwrap().map(|file| file.unwrap().path()).max().unwrap()
}

/// Where it has data last; zeros are written ahead.
fn journal_end(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// A directory with promises, two log records and a settled watermark.
fn written() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.write(vec![promise(2, Some(7)), append(entries(2, 1..=20))]).unwrap();
    store.write(vec![append(entries(2, 21..=40))]).unwrap();
    store.settle().unwrap();
    dir
}

#[test]
fn a_new_directory_gets_an_identity_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let first = reopen(dir.path());
    assert_eq!(first.identity.address, ME);
    assert_eq!(first.hard_state, HardState::default());
    assert!(first.founding.is_none() && first.snapshot.is_none() && first.entries.is_empty());
    assert_eq!(reopen(dir.path()).identity, first.identity);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(reopen(other.path()).identity.id, first.identity.id);
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.form(&members()).unwrap();
        store.write(vec![promise(3, Some(7)), append(entries(2, 1..=3)), append(entries(3, 4..=5))]).unwrap();
        store.write(vec![append(entries(3, 6..=6))]).unwrap();
    }
    let recovered = reopen(dir.path());
    assert_eq!(recovered.founding, Some(members()));
    assert_eq!(recovered.hard_state, HardState { view: 3, voted_for: Some(7) });
    assert_eq!(seqs(&recovered), [(2, 1), (2, 2), (2, 3), (3, 4), (3, 5), (3, 6)]);
    assert_eq!(recovered.entries[5], entry(3, 6));
}

#[test]
fn the_log_is_cut_where_told_even_inside_a_record() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        let cut = LogWrite { truncate_from: Some(4), append: entries(2, 4..=4), ..LogWrite::default() };
        // Also when what is cut was written in the same group.
        let again = LogWrite { truncate_from: Some(3), append: entries(3, 3..=6), ..LogWrite::default() };
        store.write(vec![cut, again]).unwrap();
        store.settle().unwrap();
    }
    assert_eq!(seqs(&reopen(dir.path())), [(1, 1), (1, 2), (3, 3), (3, 4), (3, 5), (3, 6)]);
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_it_covers() {
    let dir = tempfile::tempdir().unwrap();
    let large = snapshot(1, 3, 3 * CHUNK_BYTES + 17);
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        save(&mut store, &snapshot(1, 2, 10));
        save(&mut store, &large);
        save(&mut store, &snapshot(1, 1, 10));
        store.settle().unwrap();
    }
    let recovered = reopen(dir.path());
    assert_eq!(recovered.snapshot.as_ref(), Some(&large), "an older one does not replace it");
    assert_eq!(seqs(&recovered), [(1, 4), (1, 5)]);
}

#[test]
fn a_received_snapshot_may_void_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let received = snapshot(2, 9, 100);
    {
        let (mut store, _) = open(dir.path());
        // The log had entries of a later view that never were committed: the log's end goes back, and rightly so.
        store.write(vec![promise(3, None), append(entries(3, 1..=30))]).unwrap();
        store.settle().unwrap();
        let install = LogWrite {
            hard_state: Some(HardState { view: 4, voted_for: None }),
            install: Some((received.clone(), true)),
            append: entries(4, 10..=11),
            ..LogWrite::default()
        };
        store.write(vec![install]).unwrap();
    }
    let recovered = reopen(dir.path());
    assert_eq!(recovered.snapshot, Some(received));
    assert_eq!(seqs(&recovered), [(4, 10), (4, 11)]);
    {
        let (mut store, _) = open(dir.path());
        let install = LogWrite { install: Some((snapshot(4, 10, 5), false)), ..LogWrite::default() };
        store.write(vec![install]).unwrap();
    }
    assert_eq!(seqs(&reopen(dir.path())), [(4, 11)], "the rest of the log stays");
}

#[test]
fn a_log_that_goes_back_is_no_damage_when_told_so() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(3, 1..=30))]).unwrap();
        store.settle().unwrap();
        store
            .write(vec![LogWrite { install: Some((snapshot(2, 9, 0), true)), ..LogWrite::default() }])
            .unwrap();
    }
    assert_eq!(reopen(dir.path()).snapshot, Some(snapshot(2, 9, 0)));
}

#[test]
fn pieces_make_up_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    assert_eq!(store.snapshot_piece(None, 0).unwrap(), None);
    for len in [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5] {
        let whole = snapshot(1, 1 + len as u64, len);
        save(&mut store, &whole);
        let mut state = Vec::new();
        loop {
            let stamp = (!state.is_empty()).then_some(whole.meta.stamp);
            let piece = store.snapshot_piece(stamp, state.len() as u64).unwrap().unwrap();
            assert_eq!((&piece.meta, piece.offset), (&whole.meta, state.len() as u64));
            state.extend_from_slice(&piece.data);
            if piece.done {
                break;
            }
        }
        assert_eq!(Bytes::from(state), whole.state);
    }
    let middle = store.snapshot_piece(Some(Viewstamp::new(9, 9)), 77).unwrap().unwrap();
    assert_eq!(middle.offset, 0, "another snapshot than the one asked for starts from its beginning");
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path());
    assert!(refusal(dir.path()).contains("in use by another process"));
    drop(held);
    reopen(dir.path());
}

#[test]
fn a_directory_belongs_to_one_address() {
    let dir = tempfile::tempdir().unwrap();
    reopen(dir.path());
    let error = DiskStore::open(dir.path(), "127.0.0.1:3002").err().unwrap();
    assert!(matches!(&error, StoreError::OtherReplica { theirs, .. } if theirs == ME), "{error}");
}

#[test]
fn foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "precious").unwrap();
    assert!(refusal(dir.path()).contains("not the data directory of a lock replica"));
    assert_eq!(fs::read_to_string(dir.path().join("thesis.txt")).unwrap(), "precious");
}

#[test]
fn an_interrupted_creation_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let id = reopen(dir.path()).identity.id;
    let format = fs::read_to_string(dir.path().join("FORMAT")).unwrap().replace("ready", "creating");
    fs::write(dir.path().join("FORMAT"), format).unwrap();
    let recovered = reopen(dir.path());
    assert_ne!(recovered.identity.id, id, "what was never ready was never used");
}

#[test]
fn a_torn_end_that_was_never_promised_is_cut() {
    let dir = written();
    let path = journal(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let end = journal_end(&path);
    // Half of a record that a crash left.
    let garbage = bytes[..end].to_vec();
    bytes[end..end + 20].copy_from_slice(&garbage[..20]);
    fs::write(&path, bytes).unwrap();
    assert_eq!(reopen(dir.path()).entries.len(), 40);
    assert_eq!(reopen(dir.path()).entries.len(), 40);
}

#[test]
fn a_log_shorter_than_promised_is_refused() {
    let dir = written();
    let path = journal(dir.path());
    let end = journal_end(&path);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(end as u64 - 100).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("its log ends at 2.20 but reached 2.40 before"), "{message}");
    assert!(message.contains("restore the directory from a copy"), "{message}");
}

#[test]
fn lost_promises_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path;
    let end;
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=1))]).unwrap();
        path = journal(dir.path());
        end = journal_end(&path);
        store.write(vec![promise(5, Some(7))]).unwrap();
        // Not settled: promises are marked at once, before anything else is done.
        store.mark().unwrap();
    }
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end as u64).unwrap();
    assert!(refusal(dir.path()).contains("its promises of view 5 are gone"));
}

/// Whatever byte of the log goes bad, the replica either starts with everything or refuses; it never starts with less.
#[test]
fn flipped_bytes_never_lose_anything_silently() {
    let dir = written();
    let path = journal(dir.path());
    let intact = fs::read(&path).unwrap();
    let end = journal_end(&path);
    let mut refused = 0;
    for at in (0..end).step_by(37) {
        let mut bytes = intact[..end].to_vec();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        match DiskStore::open(dir.path(), ME) {
            Ok((_, recovered)) => {
                assert_eq!(recovered.entries, entries(2, 1..=40), "byte {at}");
                assert_eq!(recovered.hard_state, HardState { view: 2, voted_for: Some(7) }, "byte {at}");
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
            }
        }
    }
    assert!(refused > 0);
    fs::write(&path, &intact).unwrap();
    assert_eq!(reopen(dir.path()).entries.len(), 40, "the intact journal still opens");
}

#[test]
fn missing_parts_are_refused() {
    for part in ["WATERMARK", "log"] {
        let dir = written();
        let path = dir.path().join(part);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        assert!(refusal(dir.path()).contains("is damaged"), "without {part}");
    }
    let dir = written();
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    refusal(dir.path());
    let dir = written();
    fs::remove_file(journal(dir.path())).unwrap();
    assert!(refusal(dir.path()).contains("is damaged"), "without its journal");
}

#[test]
fn another_groups_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.form(&members()).unwrap();
    }
    let path = dir.path().join("FORMAT");
    let text = fs::read_to_string(&path).unwrap();
    let cluster = text.lines().find_map(|line| line.strip_prefix("cluster ")).unwrap().to_owned();
    fs::write(&path, text.replace(&cluster, "00000000deadbeef")).unwrap();
    assert!(refusal(dir.path()).contains("belongs to another group"));
    fs::write(&path, text.replace("version 2", "version 9")).unwrap();
    assert!(refusal(dir.path()).contains("format version 9"));
}

#[test]
fn log_holes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=5))]).unwrap();
        store.write(vec![append(entries(1, 7..=9))]).unwrap();
    }
    assert!(refusal(dir.path()).contains("has a hole between entry 5 and 1.7"));
}
