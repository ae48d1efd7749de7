//! Damage to every kind of file of a data directory: what was promised is all there, or the directory is refused, with
//! one line, and left as it was.

use super::*;
use std::collections::BTreeMap;

/// All files below `dir` with their contents, but for the lock file.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = todo.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.file_name().unwrap() != "LOCK" {
                let name = path.strip_prefix(dir).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for (name, content) in contents(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Zeros are written ahead; a few of them do for a test.
fn trim(journal: &Path) {
    let end = journal_end(journal) as u64 + 4096;
    fs::OpenOptions::new().write(true).open(journal).unwrap().set_len(end).unwrap();
}

/// What a directory must have, or refuse.
struct Promised {
    intact: TempDir,
    damaged: TempDir,
    hard_state: HardState,
    snapshot: Snapshot,
    entries: Vec<Entry>,
    refused: usize,
    whole: usize,
}

impl Promised {
    /// Nothing is settled: the last writes are what a killed process leaves.
    fn new(large: bool) -> Promised {
        let intact = tempfile::tempdir().unwrap();
        let mut log = entries(2, 1..=40);
        let whole = snapshot(2, 10, CHUNK_BYTES + 1000);
        {
            let (mut store, _) = open(intact.path());
            store.form(&members()).unwrap();
            store.write(vec![promise(2, Some(7)), append(log[..20].to_vec())]).unwrap();
            save(&mut store, &whole);
            store.write(vec![append(log[20..30].to_vec())]).unwrap();
            store.write(vec![append(log[30..].to_vec())]).unwrap();
            if large {
                // More than goes into one file.
                for seq in 41..=70 {
                    let big = Payload::Command(vec![seq as u8; 1 << 20].into());
                    log.push(Entry { stamp: Viewstamp::new(2, seq), payload: big });
                    store.write(vec![append(vec![log.last().unwrap().clone()])]).unwrap();
                }
            }
        }
        trim(&journal(intact.path()));
        Promised {
            intact,
            damaged: tempfile::tempdir().unwrap(),
            hard_state: HardState { view: 2, voted_for: Some(7) },
            snapshot: whole,
            entries: log.split_off(10),
            refused: 0,
            whole: 0,
        }
    }

    /// Damages `file` and looks at what comes of it.
    fn check(&mut self, file: &Path, what: &str, damage: impl Fn(&mut Vec<u8>)) {
        let dir = self.damaged.path().to_owned();
        copy(self.intact.path(), &dir);
        let mut bytes = fs::read(dir.join(file)).unwrap();
        damage(&mut bytes);
        fs::write(dir.join(file), bytes).unwrap();
        let before = contents(&dir);
        let what = format!("{what} of {}", file.display());
        match DiskStore::open(&dir, ME) {
            Ok((_, recovered)) => {
                self.whole += 1;
                assert_eq!(recovered.hard_state, self.hard_state, "{what}");
                assert_eq!(recovered.founding, Some(members()), "{what}");
                assert_eq!(recovered.snapshot.as_ref(), Some(&self.snapshot), "{what}");
                assert!(recovered.entries == self.entries, "{what}: {:?}", seqs(&recovered));
            }
            Err(error) => {
                self.refused += 1;
                let said = error.to_string();
                assert!(said.contains(&*dir.to_string_lossy()) && !said.contains('\n'), "{what}: {said}");
                assert!(names_a_part(&said), "{what}: names no file: {said}");
                assert!(has_a_remedy(&said), "{what}: says not what to do: {said}");
                assert!(contents(&dir) == before, "{what}: the directory was changed: {said}");
            }
        }
    }
}

fn names_a_part(said: &str) -> bool {
    ["FORMAT", "WATERMARK", "PROGRESS", "log/", "snapshots/", "format version"]
        .iter()
        .any(|part| said.contains(part))
}

fn has_a_remedy(said: &str) -> bool {
    ["restore the directory", "give another --data", "use the program that wrote it"]
        .iter()
        .any(|remedy| said.contains(remedy))
}

/// About `count` places in a file of `len` bytes: ends, and evenly in between.
fn places(len: usize, count: usize) -> Vec<usize> {
    let step = (len / count).max(1);
    let mut places: Vec<usize> = (0..len).step_by(step).collect();
    places.extend(len.checked_sub(1));
    places.dedup();
    places
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn every_kind_of_file_cut_short_anywhere() {
    let mut promised = Promised::new(false);
    let files = contents(promised.intact.path());
    for part in ["FORMAT", "WATERMARK", "PROGRESS", "log/0000000000000001", "snapshots/0000000000000001"] {
        assert!(files.contains_key(Path::new(part)), "{part} is not there to be damaged");
    }
    for (file, bytes) in files {
        for at in places(used(&bytes), 10) {
            promised.check(&file, &format!("the first {at} bytes"), |bytes| bytes.truncate(at));
        }
    }
    assert!(promised.refused > 30 && promised.whole > 0, "{} {}", promised.refused, promised.whole);
}

#[test]
fn every_kind_of_file_with_a_flipped_bit_anywhere() {
    let mut promised = Promised::new(false);
    for (file, bytes) in contents(promised.intact.path()) {
        for (i, at) in places(used(&bytes), 16).into_iter().enumerate() {
            promised.check(&file, &format!("bit {} of byte {at}", i % 8), |bytes| bytes[at] ^= 1 << (i % 8));
        }
    }
    assert!(promised.refused > 30 && promised.whole > 0, "{} {}", promised.refused, promised.whole);
}

#[test]
fn files_before_the_last_one_cut_or_changed_or_gone() {
    let mut promised = Promised::new(true);
    let files = contents(promised.intact.path());
    let last = journal(promised.intact.path());
    let older: Vec<_> = files
        .iter()
        .filter(|(name, _)| name.starts_with("log") && promised.intact.path().join(name) != last)
        .collect();
    assert!(!older.is_empty(), "the log is in one file: {:?}", files.keys());
    for (file, bytes) in older {
        for at in places(used(bytes), 4) {
            promised.check(file, &format!("a bit of byte {at}"), |bytes| bytes[at] ^= 4);
            promised.check(file, &format!("the first {at} bytes"), |bytes| bytes.truncate(at));
        }
    }
    assert!(promised.refused > 0, "{} {}", promised.refused, promised.whole);
}

/// The watermark is a second behind, but what a process noted without a sync is there when only the process died.
#[test]
fn the_last_acknowledged_record_is_missed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path;
    let end;
    {
        let (mut store, _) = open(dir.path());
        store.write(vec![append(entries(1, 1..=3))]).unwrap();
        path = journal(dir.path());
        end = journal_end(&path);
        store.write(vec![append(entries(1, 4..=4))]).unwrap();
    }
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end as u64).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("PROGRESS") && message.contains("ends at 1.3 but reached 1.4"), "{message}");
    // A power failure may take the unsynced note with it, and then the end was torn for all anybody knows.
    fs::write(dir.path().join("PROGRESS"), "torn").unwrap();
    assert_eq!(reopen(dir.path()).entries, entries(1, 1..=3));
}

/// Both marks were lowered before the log went back, so what was there before does as far as they go.
#[test]
fn the_loss_of_the_record_with_which_the_log_went_back_is_missed() {
    let back = LogWrite { truncate_from: Some(6), append: entries(2, 6..=50), ..LogWrite::default() };
    let alone = LogWrite { install: Some((snapshot(2, 9, 10), true)), ..LogWrite::default() };
    for write in [back, alone] {
        let dir = tempfile::tempdir().unwrap();
        let (path, end);
        {
            let (mut store, _) = open(dir.path());
            store
                .write(vec![promise(4, Some(7)), append(entries(1, 1..=5)), append(entries(3, 6..=60))])
                .unwrap();
            store.settle().unwrap();
            path = journal(dir.path());
            end = journal_end(&path);
            store.write(vec![write]).unwrap();
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes[end + 30] ^= 1;
        fs::write(&path, bytes).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains("its last record is number 2 but there was a number 3"), "{message}");
    }
}

#[test]
fn a_refused_directory_opens_once_it_is_restored() {
    let dir = written();
    let path = journal(dir.path());
    let intact = fs::read(&path).unwrap();
    let mut bytes = intact.clone();
    bytes[journal_end(&path) / 2] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        refusal(dir.path());
        assert!(fs::read(&path).unwrap() == bytes, "what is left of the journal is all still there");
    }
    fs::write(&path, intact).unwrap();
    assert_eq!(reopen(dir.path()).entries.len(), 40);
}
