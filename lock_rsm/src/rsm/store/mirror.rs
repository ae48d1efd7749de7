//! Opening the embedded store without the risk of losing anything by it.
//!
//! When fjall opens a database it cuts its journal at the first byte it cannot read, and tidies away files it does not
//! know. After a crash that is right; after damage in the middle it destroys what an operator could still have used. And
//! it believes what it reads, although a journal read back from the page cache need not be on disk: its last batches may
//! have been written and not synced when the process was killed, or the sync may have failed.
//!
//! So fjall is given a mirror: journals and small files copied and synced, the large immutable tables hard-linked. What it
//! was made from stays aside until the replica has looked at what was recovered and accepts it; a replica that refuses
//! puts everything back as it was.
//!
//! | in the data directory | means |
//! | --- | --- |
//! | `store.new/` | a mirror being made: worthless |
//! | `store.before/` | an opening that came to no end: this is the store, and `store/` (if there) is worthless |
//! | `store.stale/` | what an accepted mirror was made from: worthless |

use super::files::sync_dir;
use super::{STORE_DIR, StoreError};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Directories with this name hold files that are written once and never changed.
const TABLES: &str = "tables";
/// Zeros are recognised in blocks of this size, and become holes.
const BLOCK_BYTES: usize = 64 << 10;

/// A store set aside while a mirror of it is opened.
#[derive(Debug)]
pub(super) struct Mirror {
    dir: PathBuf,
}

impl Mirror {
    /// Puts a mirror in the place of the store, after tidying up what an earlier opening left.
    pub(super) fn begin(dir: &Path) -> Result<Mirror, StoreError> {
        let mirror = Mirror { dir: dir.to_owned() };
        if exists(&mirror.before())? {
            mirror.put_back()?;
        }
        remove(&mirror.stale())?;
        remove(&mirror.fresh())?;
        if !mirror.store().is_dir() {
            return Err(StoreError::damaged(dir, "its store/ is gone"));
        }
        if let Err(error) = copy_tree(&mirror.store(), &mirror.fresh(), false) {
            // On a full disk the half copy would be in the way of whoever makes room.
            let _ = fs::remove_dir_all(mirror.fresh());
            return Err(error);
        }
        mirror.rename(&mirror.store(), &mirror.before())?;
        mirror.rename(&mirror.fresh(), &mirror.store())?;
        Ok(mirror)
    }

    /// What was recovered is right: the mirror is the store from now on. To be called before anything is written to it
    /// that must last.
    pub(super) fn accept(self) -> Result<(), StoreError> {
        self.rename(&self.before(), &self.stale())?;
        remove(&self.stale())
    }

    /// What was recovered is wrong: everything becomes as it was.
    pub(super) fn put_back(&self) -> Result<(), StoreError> {
        remove(&self.store())?;
        self.rename(&self.before(), &self.store())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        fs::rename(from, to).map_err(|source| StoreError::io(from, source))?;
        sync_dir(&self.dir).map_err(|source| StoreError::io(&self.dir, source))
    }

    fn store(&self) -> PathBuf {
        self.dir.join(STORE_DIR)
    }

    fn fresh(&self) -> PathBuf {
        self.dir.join("store.new")
    }

    fn before(&self) -> PathBuf {
        self.dir.join("store.before")
    }

    fn stale(&self) -> PathBuf {
        self.dir.join("store.stale")
    }
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|source| StoreError::io(path, source))
}

/// Removes a directory that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}

fn copy_tree(from: &Path, to: &Path, immutable: bool) -> Result<(), StoreError> {
    fs::create_dir(to).map_err(|source| StoreError::io(to, source))?;
    for item in fs::read_dir(from).map_err(|source| StoreError::io(from, source))? {
        let item = item.map_err(|source| StoreError::io(from, source))?;
        let (path, name) = (item.path(), item.file_name());
        let kind = item.file_type().map_err(|source| StoreError::io(&path, source))?;
        let to = to.join(&name);
        if kind.is_dir() {
            copy_tree(&path, &to, name == TABLES)?;
        } else if !immutable || fs::hard_link(&path, &to).is_err() {
            // Not every file system has hard links.
            copy_file(&path, &to).map_err(|source| StoreError::io(&path, source))?;
        }
    }
    sync_dir(to).map_err(|source| StoreError::io(to, source))
}

/// Copies a file and syncs the copy. Journals are made large before they are used: their zeros stay holes.
fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create_new(to)?);
    let mut block = vec![0; BLOCK_BYTES];
    let zeros = vec![0; BLOCK_BYTES];
    let mut len = 0;
    loop {
        let got = match from.read(&mut block) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        len += got as u64;
        if block[..got] == zeros[..got] {
            to.seek(SeekFrom::Start(len))?;
        } else {
            to.write_all(&block[..got])?;
        }
    }
    to.set_len(len)?;
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path) {
        fs::create_dir_all(dir.join("store/keyspaces/1/tables")).unwrap();
        let mut journal = vec![0; 3 * BLOCK_BYTES + 5];
        journal[BLOCK_BYTES + 7] = 1;
        fs::write(dir.join("store/0.jnl"), &journal).unwrap();
        fs::write(dir.join("store/keyspaces/1/v0"), "version").unwrap();
        fs::write(dir.join("store/keyspaces/1/tables/0"), "table").unwrap();
    }

    fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
        ["0.jnl", "keyspaces/1/v0", "keyspaces/1/tables/0"]
            .iter()
            .map(|name| ((*name).to_owned(), fs::read(dir.join("store").join(name)).unwrap_or_default()))
            .collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn whatever_happens_to_a_mirror_what_it_was_made_from_can_be_put_back() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let intact = content(dir.path());
        let mirror = Mirror::begin(dir.path()).unwrap();
        assert_eq!(content(dir.path()), intact, "a mirror has the same content");
        fs::write(dir.path().join("store/0.jnl"), "cut").unwrap();
        fs::write(dir.path().join("store/keyspaces/1/v0"), "other").unwrap();
        fs::remove_dir_all(dir.path().join("store/keyspaces/1/tables")).unwrap();
        mirror.put_back().unwrap();
        assert_eq!(content(dir.path()), intact);
        assert_eq!(names(dir.path()), ["store"]);
    }

    #[test]
    fn an_opening_without_end_is_undone_by_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path());
        let intact = content(dir.path());
        // The process dies: after the store was set aside, before and after the mirror took its place.
        drop(Mirror::begin(dir.path()).unwrap());
        fs::remove_file(dir.path().join("store/0.jnl")).unwrap();
        drop(Mirror::begin(dir.path()).unwrap());
        assert_eq!(content(dir.path()), intact);
        fs::rename(dir.path().join("store"), dir.path().join("store.new")).unwrap();
        let mirror = Mirror::begin(dir.path()).unwrap();
        assert_eq!(content(dir.path()), intact);
        fs::write(dir.path().join("store/0.jnl"), "written after it was accepted").unwrap();
        mirror.accept().unwrap();
        assert_eq!(names(dir.path()), ["store"]);
        drop(Mirror::begin(dir.path()).unwrap());
        assert_eq!(fs::read(dir.path().join("store/0.jnl")).unwrap(), b"written after it was accepted");
    }

    #[test]
    fn a_store_that_is_gone_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Mirror::begin(dir.path()).unwrap_err().to_string().contains("its store/ is gone"));
    }
}
