//! The log in several files: it goes on in a new one, old ones go once a snapshot covers them, and what a crash leaves of
//! any of these steps is understood.

use super::super::segment::SEGMENT_BYTES;
use super::*;

fn files(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir.join("log")).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn big(view: u64, seq: u64) -> Entry {
    Entry { stamp: Viewstamp::new(view, seq), payload: Payload::Command(vec![seq as u8; 1 << 20].into()) }
}

fn write_big(store: &mut DiskStore, view: u64, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        store.write(vec![append(vec![big(view, seq)])]).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    for part in ["", "log", "snapshots"] {
        let Ok(files) = fs::read_dir(from.join(part)) else { continue };
        fs::create_dir_all(to.join(part)).unwrap();
        for file in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            fs::copy(&file, to.join(part).join(file.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_long_log_is_in_several_files_and_is_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let last = 3 * SEGMENT_BYTES / (1 << 20);
    {
        let (mut store, _) = open(dir.path());
        store.form(&members()).unwrap();
        store.write(vec![promise(2, Some(7))]).unwrap();
        write_big(&mut store, 2, 1..=last);
    }
    assert!(files(dir.path()).len() >= 3, "{:?}", files(dir.path()));
    for _ in 0..2 {
        let recovered = reopen(dir.path());
        assert_eq!(recovered.entries.len() as u64, last);
        assert!(recovered.entries.iter().all(|entry| *entry == big(2, entry.stamp.seq)));
        assert_eq!(recovered.hard_state, HardState { view: 2, voted_for: Some(7) });
        assert_eq!(recovered.founding, Some(members()));
        assert_eq!(files(dir.path()).len(), 1, "what was read is in one file then");
    }
}

#[test]
fn files_go_when_the_snapshot_covers_them_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(dir.path());
        write_big(&mut store, 1, 1..=40);
        let before = files(dir.path());
        assert!(before.len() >= 3, "{before:?}");
        save(&mut store, &snapshot(1, 3, 10));
        assert_eq!(files(dir.path()), before, "each has an entry that is needed");
        save(&mut store, &snapshot(1, 39, 10));
        assert_eq!(files(dir.path()).len(), 1);
        write_big(&mut store, 1, 41..=42);
        // A cut, below what this file has seen so far.
        store
            .write(vec![LogWrite {
                truncate_from: Some(40),
                append: vec![big(2, 40)],
                ..LogWrite::default()
            }])
            .unwrap();
    }
    let recovered = reopen(dir.path());
    assert_eq!(recovered.snapshot, Some(snapshot(1, 39, 10)));
    assert_eq!(recovered.entries, [big(2, 40)]);
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let intact = tempfile::tempdir().unwrap();
    {
        let (mut store, _) = open(intact.path());
        write_big(&mut store, 1, 1..=40);
        store.settle().unwrap();
    }
    for name in files(intact.path()) {
        let dir = tempfile::tempdir().unwrap();
        copy(intact.path(), dir.path());
        fs::remove_file(dir.path().join("log").join(&name)).unwrap();
        let left = files(dir.path());
        assert!(refusal(dir.path()).contains("is damaged"), "without {name}");
        assert_eq!(files(dir.path()), left);
    }
}

/// A crash while a directory is opened, or an old file that could not be removed.
#[test]
fn what_an_opening_left_behind_does_no_harm() {
    let dir = written();
    let before = tempfile::tempdir().unwrap();
    copy(dir.path(), before.path());
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(2, 41..=42))]).unwrap();
    }
    // The files that were read were not removed, and a next file was begun.
    copy(&before.path().join("log"), &dir.path().join("log"));
    fs::write(dir.path().join("log/0000000000000007.new"), "half a file").unwrap();
    assert_eq!(files(dir.path()).len(), 3);
    // Those before the last whole file may even be damaged.
    fs::write(dir.path().join("log/0000000000000001"), "worthless").unwrap();
    assert_eq!(reopen(dir.path()).entries, entries(2, 1..=42));
    assert_eq!(files(dir.path()), ["0000000000000003"]);
}

/// Whatever a crash makes of the write that was on its way, everything before it is there, and the log goes on.
#[test]
fn a_write_torn_anywhere_is_as_if_it_had_never_been_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.write(vec![promise(2, Some(7)), append(entries(2, 1..=20))]).unwrap();
    store.settle().unwrap();
    let before = tempfile::tempdir().unwrap();
    copy(dir.path(), before.path());
    store.write(vec![append(entries(2, 21..=60))]).unwrap();
    drop(store);
    let (old, new) = (fs::read(journal(before.path())).unwrap(), fs::read(journal(dir.path())).unwrap());
    let (from, to) = (journal_end(&journal(before.path())), journal_end(&journal(dir.path())));
    assert!(to > from + 500);
    let torn = |range: std::ops::Range<usize>| {
        let mut bytes = old.clone();
        bytes[range.clone()].copy_from_slice(&new[range]);
        bytes
    };
    let cuts = (from..to).step_by(61);
    for bytes in cuts.clone().map(|at| torn(from..at)).chain(cuts.skip(1).map(|at| torn(at..to))) {
        let place = tempfile::tempdir().unwrap();
        copy(before.path(), place.path());
        fs::write(journal(place.path()), bytes).unwrap();
        {
            let (mut store, recovered) = open(place.path());
            assert_eq!(recovered.entries, entries(2, 1..=20));
            store.write(vec![append(entries(3, 21..=22))]).unwrap();
        }
        assert_eq!(seqs(&reopen(place.path()))[18..], [(2, 19), (2, 20), (3, 21), (3, 22)]);
    }
}

#[test]
fn files_of_others_are_not_touched() {
    let dir = written();
    fs::write(dir.path().join("log/thesis.txt"), "precious").unwrap();
    assert!(refusal(dir.path()).contains("thesis.txt is no file of a log"));
    assert_eq!(fs::read_to_string(dir.path().join("log/thesis.txt")).unwrap(), "precious");
}

/// Gaps would be taken for damage.
#[test]
fn later_files_wait_for_one_that_cannot_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    write_big(&mut store, 1, 1..=40);
    let before = files(dir.path());
    assert!(before.len() >= 3, "{before:?}");
    let first = dir.path().join("log").join(&before[0]);
    let content = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    fs::create_dir(&first).unwrap();
    save(&mut store, &snapshot(1, 39, 10));
    assert_eq!(files(dir.path()), before);
    fs::remove_dir(&first).unwrap();
    fs::write(&first, content).unwrap();
    write_big(&mut store, 1, 41..=41);
    assert_eq!(files(dir.path()).len(), 1, "it is tried again");
}
