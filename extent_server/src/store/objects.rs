//! The objects in memory and their backing files.
//!
//! Object `0x1234567` lives in `objects/123/45/0000000001234567`: numbers given out together share a directory, at most
//! 256 of them, so that syncing one directory covers many new files.

use super::object::Object;
use crate::types::ObjectId;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The table.
pub(crate) struct Objects {
    root: PathBuf,
    table: Mutex<Table>,
    files_max: usize,
    /// Held while directories are made, so that who finds one knows that it is on disk.
    making: Mutex<()>,
}

#[derive(Default)]
struct Table {
    objects: HashMap<ObjectId, Arc<Object>>,
    /// Look for objects to forget when there are this many.
    sweep_at: usize,
}

impl Objects {
    /// A table over the files below `root` that keeps about `files_max` of them open.
    pub(crate) fn new(root: PathBuf, files_max: usize) -> Objects {
        let table = Mutex::new(Table { sweep_at: files_max, ..Table::default() });
        Objects { root, table, files_max, making: Mutex::new(()) }
    }

    /// Makes sure that the directories found are on disk: a crash may have come between making and syncing one.
    pub(crate) fn sync_tree(&self) -> io::Result<()> {
        directories(&self.root)?.iter().try_for_each(|upper| sync_directory(upper))?;
        sync_directory(&self.root)
    }

    /// The object, remembered or new. An error is one of syncing another object's file to close it.
    pub(crate) fn get(&self, id: ObjectId) -> io::Result<Arc<Object>> {
        let mut table = self.table.lock();
        if let Some(object) = table.objects.get(&id) {
            return Ok(object.clone());
        }
        let crowded = table.objects.len() >= table.sweep_at;
        let surplus = if crowded { self.sweep(&mut table) } else { Vec::new() };
        let object = Arc::new(Object::new(id));
        table.objects.insert(id, object.clone());
        drop(table);
        surplus.iter().try_for_each(|object| close(object))?;
        Ok(object)
    }

    /// All objects in memory.
    pub(crate) fn all(&self) -> Vec<Arc<Object>> {
        self.table.lock().objects.values().cloned().collect()
    }

    /// Objects with writes that wait for a commit.
    pub(crate) fn uncommitted(&self) -> u64 {
        self.all().iter().filter(|object| object.state.lock().is_dirty()).count() as u64
    }

    /// Forgets what nobody uses and nothing is lost with. Returns objects whose files should be closed because what
    /// remains is still too much.
    fn sweep(&self, table: &mut Table) -> Vec<Arc<Object>> {
        // Only this table hands out objects, so an object it alone holds cannot come into use meanwhile.
        table.objects.retain(|_, object| Arc::strong_count(object) > 1 || !object.state.lock().is_clean());
        table.sweep_at = self.files_max.max(2 * table.objects.len());
        if table.objects.len() < self.files_max {
            return Vec::new();
        }
        table.objects.values().filter(|o| o.file.lock().is_some()).cloned().collect()
    }

    /// The object's backing file, created if `create` says so; `None` if there is none.
    pub(crate) fn file(&self, object: &Object, create: bool) -> io::Result<Option<Arc<File>>> {
        let mut file = object.file.lock();
        if let Some(file) = &*file {
            return Ok(Some(file.clone()));
        }
        let path = self.path(object.id);
        let open = OpenOptions::new().read(true).write(true).open(&path);
        let (opened, created) = match open {
            Err(e) if e.kind() == io::ErrorKind::NotFound && create => (self.create(&path)?, true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => (found?, false),
        };
        let opened = Arc::new(opened);
        *file = Some(opened.clone());
        drop(file);
        if created {
            object.state.lock().created = true;
        }
        Ok(Some(opened))
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let leaf = path.parent().expect("an object's path has two directories");
        let _making = self.making.lock();
        if !leaf.exists() {
            let upper = leaf.parent().expect("an object's path has two directories");
            fs::create_dir_all(leaf)?;
            sync_directory(upper)?;
            sync_directory(&self.root)?;
        }
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    }

    /// Syncs the directories of new files.
    pub(crate) fn sync_directories(&self, of: &[ObjectId]) -> io::Result<()> {
        let directories: BTreeSet<PathBuf> = of.iter().map(|id| directory(&self.root, *id)).collect();
        directories.iter().try_for_each(|dir| sync_directory(dir))
    }

    /// Unlinks the backing file.
    pub(crate) fn unlink(&self, object: &Object) -> io::Result<()> {
        *object.file.lock() = None;
        match fs::remove_file(self.path(object.id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Where an object's bytes are.
    pub(crate) fn path(&self, id: ObjectId) -> PathBuf {
        directory(&self.root, id).join(format!("{id:016x}"))
    }

    /// Calls `each` for every backing file there is, as far as its name is one of ours, until it says `false`.
    pub(crate) fn walk(&self, mut each: impl FnMut(ObjectId) -> bool) -> io::Result<()> {
        for upper in directories(&self.root)? {
            for leaf in directories(&upper)? {
                for entry in fs::read_dir(leaf)? {
                    let name = entry?.file_name();
                    let id = name.to_str().filter(|n| n.len() == 16).map(|n| u64::from_str_radix(n, 16));
                    if let Some(Ok(id)) = id
                        && !each(id)
                    {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

fn directory(root: &Path, id: ObjectId) -> PathBuf {
    root.join(format!("{:x}", id >> 16)).join(format!("{:02x}", id >> 8 & 0xff))
}

fn directories(of: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Closes the file of an object that keeps uncommitted writes. It is synced first: an error of writing back that
/// happened after closing could go unreported.
fn close(object: &Object) -> io::Result<()> {
    let _writer = object.writer.lock();
    let Some(file) = object.file.lock().take() else { return Ok(()) };
    let unsynced = std::mem::take(&mut object.state.lock().unsynced);
    if unsynced { file.sync_data() } else { Ok(()) }
}

/// Brings the entries of a directory to the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_directory() {
        let objects = Objects::new("/o".into(), 8);
        assert_eq!(objects.path(0x0123_4567).to_str(), Some("/o/123/45/0000000001234567"));
        assert_eq!(objects.path(1).to_str(), Some("/o/0/00/0000000000000001"));
        assert_eq!(objects.path(u64::MAX).to_str(), Some("/o/ffffffffffff/ff/ffffffffffffffff"));
    }

    #[test]
    fn files_are_found_and_unlinked() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::new(dir.path().into(), 8);
        for id in [1, 2, 0x12345] {
            let object = objects.get(id).unwrap();
            assert!(objects.file(&object, false).unwrap().is_none());
            objects.file(&object, true).unwrap().unwrap();
            assert!(object.state.lock().created);
        }
        objects.unlink(&objects.get(2).unwrap()).unwrap();
        let mut found = Vec::new();
        objects
            .walk(|id| {
                found.push(id);
                true
            })
            .unwrap();
        found.sort_unstable();
        assert_eq!(found, [1, 0x12345]);
    }

    #[test]
    fn the_table_is_bounded_but_never_forgets_uncommitted_writes() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::new(dir.path().into(), 4);
        for id in 0..100 {
            let object = objects.get(id).unwrap();
            if id == 5 {
                objects.file(&object, true).unwrap();
                object.state.lock().chunks.entry(0).or_default().wrote(1, 0, 1);
            }
        }
        assert!(objects.all().len() <= 10);
        let five = objects.get(5).unwrap();
        assert!(five.state.lock().is_dirty());
    }
}
