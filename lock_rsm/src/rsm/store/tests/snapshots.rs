//! Snapshot files: written beside the log, in force only once the log names them.

use super::*;

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
