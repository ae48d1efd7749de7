//! What has to change so that a store agrees with itself again: nothing that can still be reached is taken away, and what
//! cannot be reached comes to `lost+found`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::check::REPAIR_INOS;
use super::read::{Broken, Fault, Node, Store};
use super::tree::Shape;
use crate::core::Op;
use crate::core::format::{self, BLOCK, Layout, Record};
use crate::core::types::{Attr, FILE_SIZE_MAX, FileKind, Ino, ROOT, SYMLINK_MAX, Time};

/// Where what has no name goes.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// A repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be committed together.
    pub ops: Vec<Op>,
    /// The inodes that it changes, whose locks must be held.
    pub inodes: BTreeSet<Ino>,
    /// What comes to lost+found, with the name it gets there.
    pub found: Vec<(Ino, String)>,
}

/// The changes that take all errors out of `store` that can be taken out.
pub(super) fn plan(store: &Store, shape: &Shape, now: Time) -> Plan {
    let mut work = Work::of(store, now);
    work.drop_broken(&store.broken);
    work.mend_entries();
    work.cut(shape);
    work.drop_dead_links();
    work.mend_root();
    work.give_names();
    work.mend_orphans();
    work.mend_data();
    work.count();
    work.finish()
}

/// Directories and their names as they are to be.
struct Work<'a> {
    store: &'a Store,
    now: Time,
    /// All attributes.
    records: BTreeMap<Ino, Record>,
    names: BTreeMap<(Ino, Bytes), (Ino, FileKind)>,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn of(store: &'a Store, now: Time) -> Work<'a> {
        let records = store.inodes.iter().filter_map(|(ino, node)| Some((*ino, node.record?))).collect();
        Work { store, now, records, names: BTreeMap::new(), plan: Plan::default() }
    }

    fn put(&mut self, ino: Ino, key: Bytes, value: Bytes) {
        self.plan.inodes.insert(ino);
        self.plan.ops.push(Op::Put { key, value });
    }

    fn delete(&mut self, ino: Ino, key: Bytes) {
        self.plan.inodes.extend((ino != 0).then_some(ino));
        self.plan.ops.push(Op::Delete { key });
    }

    /// Attributes that make no sense are written anew at the end, or removed with their inode.
    fn drop_broken(&mut self, broken: &[Broken]) {
        for broken in broken {
            let ino = broken.key.first_chunk().map_or(0, |bytes| Ino::from_be_bytes(*bytes));
            self.delete(ino, broken.key.clone());
        }
    }

    /// Keeps the names that stand for something, each in its place and with the right kind.
    fn mend_entries(&mut self) {
        let store = self.store;
        for entry in &store.entries {
            if !Fault::counts(entry.fault) {
                self.delete(entry.dir, entry.key.clone());
                continue;
            }
            let kind = store.kind(entry.child).unwrap_or(entry.kind);
            if entry.fault == Some(Fault::Misplaced) {
                self.delete(entry.dir, entry.key.clone());
            }
            if entry.fault.is_some() || kind != entry.kind {
                let key = format::entry_key(entry.dir, &entry.name);
                self.put(entry.dir, key, format::encode_entry(entry.child, kind));
            }
            self.names.insert((entry.dir, entry.name.clone()), (entry.child, kind));
        }
    }

    fn unname(&mut self, dir: Ino, name: &Bytes) {
        if self.names.remove(&(dir, name.clone())).is_some() {
            self.delete(dir, format::entry_key(dir, name));
        }
    }

    fn name(&mut self, dir: Ino, name: Bytes, child: Ino, kind: FileKind) {
        self.put(dir, format::entry_key(dir, &name), format::encode_entry(child, kind));
        self.names.insert((dir, name), (child, kind));
    }

    /// A directory keeps the name by which it is reached.
    fn cut(&mut self, shape: &Shape) {
        for place in &shape.extra {
            let entry = &self.store.entries[*place];
            self.unname(entry.dir, &entry.name);
        }
        for (dir, place) in &shape.by {
            if let Some(record) = self.records.get_mut(dir) {
                record.parent = self.store.entries[*place].dir;
            }
        }
    }

    /// A symbolic link without a target is of no use to anybody.
    fn drop_dead_links(&mut self) {
        let store = self.store;
        for (ino, node) in &store.inodes {
            let is_link = store.kind(*ino) == Some(FileKind::Symlink);
            if !is_link || node.target.is_some_and(|len| (1..=SYMLINK_MAX as u64).contains(&len)) {
                continue;
            }
            self.records.remove(ino);
            let names: Vec<_> =
                self.names.iter().filter(|(_, to)| to.0 == *ino).map(|(n, _)| n.clone()).collect();
            for (dir, name) in names {
                self.unname(dir, &name);
            }
            self.plan.inodes.insert(*ino);
            self.plan.ops.push(Op::DeletePrefix { prefix: format::inode_prefix(*ino) });
            self.plan.ops.extend(node.object.map(|_| Op::Remove { object: *ino }));
        }
    }

    fn mend_root(&mut self) {
        let empty = self.store.inodes.is_empty() && self.store.broken.is_empty();
        if !empty && !self.records.get(&ROOT).is_some_and(Record::is_dir) {
            self.records.insert(ROOT, directory(ROOT, ROOT, 0o755, self.now));
        }
        if let Some(root) = self.records.get_mut(&ROOT) {
            root.parent = ROOT;
        }
    }

    /// Everything without a name gets one in lost+found, unless it was unlinked on purpose.
    fn give_names(&mut self) {
        let named: BTreeSet<Ino> = self.names.values().map(|(child, _)| *child).collect();
        let unlinked = |ino: &Ino, record: &Record| {
            !record.is_dir() && (self.store.orphans.contains(ino) || record.attr.nlink == 0)
        };
        let lost: Vec<(Ino, FileKind)> = (self.records.iter())
            .filter(|(ino, record)| **ino != ROOT && !named.contains(ino) && !unlinked(ino, record))
            .map(|(ino, record)| (*ino, record.attr.kind))
            .collect();
        if lost.is_empty() {
            return;
        }
        let Some(place) = self.lost_and_found() else { return };
        for (ino, kind) in lost.into_iter().filter(|(ino, _)| *ino != place) {
            let name = self.free_name(place, &format!("#{ino}"));
            self.plan.found.push((ino, String::from_utf8_lossy(&name).into_owned()));
            self.name(place, name, ino, kind);
            self.plan.inodes.insert(ino);
            if let Some(record) = self.records.get_mut(&ino).filter(|record| record.is_dir()) {
                record.parent = place;
            }
        }
    }

    fn free_name(&self, dir: Ino, wanted: &str) -> Bytes {
        let tries = (0u32..).map(|n| if n == 0 { wanted.to_owned() } else { format!("{wanted}.{n}") });
        let mut free = tries.map(Bytes::from).filter(|name| !self.names.contains_key(&(dir, name.clone())));
        free.next().expect("there are more names than entries")
    }

    /// The directory lost+found, made if there is none. `None` if none can be made.
    fn lost_and_found(&mut self) -> Option<Ino> {
        let wanted = Bytes::from_static(LOST_AND_FOUND);
        if let Some((ino, FileKind::Directory)) = self.names.get(&(ROOT, wanted)) {
            return Some(*ino);
        }
        let ino = REPAIR_INOS.into_iter().find(|ino| !self.store.inodes.contains_key(ino))?;
        let name = self.free_name(ROOT, "lost+found");
        self.records.insert(ino, directory(ino, ROOT, 0o700, self.now));
        self.name(ROOT, name, ino, FileKind::Directory);
        Some(ino)
    }

    fn mend_orphans(&mut self) {
        let named: BTreeSet<Ino> = self.names.values().map(|(child, _)| *child).collect();
        for ino in &self.store.orphans {
            if named.contains(ino) || !self.records.contains_key(ino) {
                self.delete(*ino, format::orphan_key(*ino));
            }
        }
        let missing: Vec<Ino> = (self.records.iter())
            .filter(|(ino, record)| !record.is_dir() && !named.contains(ino))
            .map(|(ino, _)| *ino)
            .filter(|ino| !self.store.orphans.contains(ino))
            .collect();
        for ino in missing {
            self.put(ino, format::orphan_key(ino), format::mark());
        }
        let store = self.store;
        for (ino, node) in store.inodes.iter().filter(|(_, node)| node.opened || !node.openers.is_empty()) {
            if node.record.is_none() {
                self.delete(*ino, format::opened_key(*ino));
                for session in &node.openers {
                    self.delete(*ino, format::opener_key(*ino, *session));
                }
            } else if !node.opened && self.records.contains_key(ino) {
                self.put(*ino, format::opened_key(*ino), format::mark());
            }
        }
    }

    fn mend_data(&mut self) {
        let store = self.store;
        for (ino, node) in &store.inodes {
            let Some(mut record) = self.records.get(ino).copied() else { continue };
            match record.attr.kind {
                FileKind::Regular => self.mend_contents(*ino, node, &mut record),
                _ => self.drop_contents(*ino, node),
            }
            match (record.attr.kind, node.target) {
                (FileKind::Symlink, Some(len)) => record.attr.size = len,
                (FileKind::Regular | FileKind::Directory, None) | (FileKind::Symlink, None) => {}
                (kind, target) => {
                    if target.is_some() {
                        self.delete(*ino, format::symlink_key(*ino));
                    }
                    if !matches!(kind, FileKind::Regular | FileKind::Directory) {
                        record.attr.size = 0;
                    }
                }
            }
            self.records.insert(*ino, record);
        }
    }

    /// The data that is there decides, when it and the size cannot both be right.
    fn mend_contents(&mut self, ino: Ino, node: &Node, record: &mut Record) {
        let bulk = node.object.map_or(0, |object| object.end.saturating_mul(BLOCK).min(FILE_SIZE_MAX));
        let inline = node.inline.unwrap_or(0);
        let size = record.attr.size;
        if record.layout == Layout::Bulk {
            if size > FILE_SIZE_MAX {
                record.attr.size = bulk;
            }
            if node.inline.is_some() {
                self.delete(ino, format::inline_key(ino));
            }
        } else if size > BLOCK && bulk > 0 {
            (record.layout, record.attr.size) = (Layout::Bulk, size.min(bulk));
            if node.inline.is_some() {
                self.delete(ino, format::inline_key(ino));
            }
        } else if size > BLOCK || inline > size {
            record.attr.size = inline;
        }
    }

    fn drop_contents(&mut self, ino: Ino, node: &Node) {
        if node.inline.is_some() {
            self.delete(ino, format::inline_key(ino));
        }
        if node.object.is_some() {
            self.plan.inodes.insert(ino);
            self.plan.ops.push(Op::Remove { object: ino });
        }
    }

    /// Link counts, and the sizes of directories.
    fn count(&mut self) {
        let mut links: BTreeMap<Ino, u32> = BTreeMap::new();
        let mut entries: BTreeMap<Ino, u64> = BTreeMap::new();
        for ((dir, _), (child, kind)) in &self.names {
            *entries.entry(*dir).or_default() += 1;
            let counted = if *kind == FileKind::Directory { dir } else { child };
            *links.entry(*counted).or_default() += 1;
        }
        for (ino, record) in &mut self.records {
            let links = links.get(ino).copied().unwrap_or(0);
            if record.is_dir() {
                record.attr.nlink = 2 + links;
                record.attr.size = entries.get(ino).copied().unwrap_or(0);
            } else {
                record.attr.nlink = links;
            }
        }
    }

    /// Writes the attributes that have changed.
    fn finish(mut self) -> Plan {
        let store = self.store;
        for (ino, mut record) in std::mem::take(&mut self.records) {
            let node = store.inodes.get(&ino);
            let stood = node.filter(|node| !node.made_up).and_then(|node| node.record);
            if stood != Some(record) {
                if record.is_dir() || stood.is_none_or(|stood| stood.attr.size != record.attr.size) {
                    record.modified(self.now);
                } else {
                    record.changed(self.now);
                }
                self.put(ino, format::attr_key(ino), record.encode());
            }
        }
        self.plan
    }
}

fn directory(ino: Ino, parent: Ino, perm: u16, now: Time) -> Record {
    let attr = Attr {
        ino,
        kind: FileKind::Directory,
        perm,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
    };
    Record { attr, layout: Layout::Inline, parent }
}
