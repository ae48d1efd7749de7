//! The picture of the store, taken apart by inode.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Object;
use crate::core::format::{self, BLOCK, KeyKind, Layout, Record};
use crate::core::types::{Attr, FileKind, Ino, NAME_MAX, ROOT, Time};

/// Everything that stands in the store.
#[derive(Default)]
pub(super) struct Store {
    pub inodes: BTreeMap<Ino, Node>,
    /// In the order of their keys, so those of a directory together.
    pub entries: Vec<Entry>,
    /// Inodes with an orphan record.
    pub orphans: BTreeSet<Ino>,
    /// Sessions with an anchor.
    pub sessions: BTreeSet<u64>,
    pub broken: Vec<Broken>,
    /// The root is this; it is taken for a directory all the same.
    pub root_was: Option<FileKind>,
}

/// All that is known of one inode.
#[derive(Default)]
pub(super) struct Node {
    /// Its attributes; made up ([`Node::made_up`]) when they are lost but there is something they belong to.
    pub record: Option<Record>,
    pub made_up: bool,
    /// Its attributes stand there, but make no sense.
    pub undecodable: bool,
    /// Bytes of inline data.
    pub inline: Option<u64>,
    /// Length of a symlink's target.
    pub target: Option<u64>,
    pub opened: bool,
    pub openers: Vec<u64>,
    pub object: Option<Object>,
    /// Its names: places in [`Store::entries`].
    pub names: Vec<usize>,
    /// As a directory: places in [`Store::entries`].
    pub children: Vec<usize>,
    /// Entries of it that make no sense.
    pub broken_children: u64,
}

/// A directory entry.
pub(super) struct Entry {
    pub key: Bytes,
    pub dir: Ino,
    pub name: Bytes,
    pub child: Ino,
    pub kind: FileKind,
    pub fault: Option<Fault>,
}

/// What is wrong with an entry on its face, or once all inodes are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Under a hash that is not its name's, so that nobody finds it.
    Misplaced,
    /// As `Misplaced`, and the name is there in its right place, too.
    Duplicate,
    BadName,
    NoInode,
    InFile,
}

impl Fault {
    /// The entry still stands for its inode.
    pub fn counts(fault: Option<Fault>) -> bool {
        matches!(fault, None | Some(Fault::Misplaced))
    }
}

/// A key or value that cannot be read.
pub(super) struct Broken {
    pub key: Bytes,
    /// What its value should be; `None` if the key itself is unknown.
    pub what: Option<&'static str>,
}

impl Store {
    /// To be called when everything was taken in.
    pub fn finish(&mut self) {
        self.index();
        self.make_up();
        self.find_faults();
    }

    fn node(&mut self, ino: Ino) -> &mut Node {
        self.inodes.entry(ino).or_default()
    }

    pub fn is_dir(&self, ino: Ino) -> bool {
        self.kind(ino) == Some(FileKind::Directory)
    }

    pub fn kind(&self, ino: Ino) -> Option<FileKind> {
        self.record(ino).map(|record| record.attr.kind)
    }

    pub fn record(&self, ino: Ino) -> Option<&Record> {
        self.inodes.get(&ino)?.record.as_ref()
    }

    /// The names of an inode that count.
    pub fn names(&self, node: &Node) -> impl Iterator<Item = usize> {
        node.names.iter().copied().filter(|i| Fault::counts(self.entries[*i].fault))
    }

    pub fn take_object(&mut self, object: Object) {
        if object.blocks > 0 {
            self.node(object.ino).object = Some(object);
        }
    }

    pub fn take(&mut self, key: &Bytes, value: &Bytes) {
        let Some((ino, kind)) = format::parse_key(key) else {
            return self.broken.push(Broken { key: key.clone(), what: None });
        };
        let done = match kind {
            KeyKind::Attributes => self.take_attributes(ino, value),
            KeyKind::Opened => {
                self.node(ino).opened = true;
                Some(())
            }
            KeyKind::Opener(session) => {
                self.node(ino).openers.push(session);
                Some(())
            }
            KeyKind::Inline => data_len(key, value).map(|len| self.node(ino).inline = Some(len)),
            KeyKind::Symlink => data_len(key, value).map(|len| self.node(ino).target = Some(len)),
            KeyKind::Entry(hash, name) => self.take_entry(key, ino, hash, key.slice_ref(name), value),
            KeyKind::Orphan(orphan) => {
                self.orphans.insert(orphan);
                Some(())
            }
            KeyKind::Session(session) => format::decode_anchor(key, value).ok().map(|_| {
                self.sessions.insert(session);
            }),
        };
        if done.is_none() {
            self.broken.push(Broken { key: key.clone(), what: Some(describe(&kind)) });
        }
    }

    fn take_attributes(&mut self, ino: Ino, value: &[u8]) -> Option<()> {
        let record = Record::decode(ino, value).ok();
        let node = self.node(ino);
        (node.record, node.undecodable) = (record, record.is_none());
        record.map(|_| ())
    }

    fn take_entry(&mut self, key: &Bytes, dir: Ino, hash: u64, name: Bytes, value: &[u8]) -> Option<()> {
        let Ok((child, kind)) = format::decode_entry(key, value) else {
            self.node(dir).broken_children += 1;
            return None;
        };
        let fault = if !is_name(&name) {
            Some(Fault::BadName)
        } else {
            (hash != format::name_hash(&name)).then_some(Fault::Misplaced)
        };
        self.entries.push(Entry { key: key.clone(), dir, name, child, kind, fault });
        Some(())
    }

    fn index(&mut self) {
        for place in 0..self.entries.len() {
            // A directory that has lost its attributes is known by its entries; an entry alone makes no inode.
            let dir = self.entries[place].dir;
            self.node(dir).children.push(place);
        }
        for (place, entry) in self.entries.iter().enumerate() {
            if let Some(node) = self.inodes.get_mut(&entry.child) {
                node.names.push(place);
            }
        }
    }

    /// Attributes for what has lost them, from what else there is: nothing is thrown away for want of them.
    fn make_up(&mut self) {
        if let Some(root) = self.inodes.get_mut(&ROOT) {
            let other =
                root.record.map(|record| record.attr.kind).filter(|kind| *kind != FileKind::Directory);
            if other.is_some() {
                (self.root_was, root.record) = (other, None);
            }
        }
        let entries = &self.entries;
        for (ino, node) in self.inodes.iter_mut().filter(|(_, node)| node.record.is_none()) {
            let said = node.names.first().map(|place| entries[*place].kind);
            node.record = made_up(*ino, node, said);
            node.made_up = node.record.is_some();
        }
    }

    fn find_faults(&mut self) {
        let right: BTreeSet<(Ino, Bytes)> = (self.entries.iter())
            .filter(|entry| entry.fault.is_none())
            .map(|entry| (entry.dir, entry.name.clone()))
            .collect();
        for place in 0..self.entries.len() {
            let entry = &self.entries[place];
            let fault = if !self.is_dir(entry.dir) {
                Some(Fault::InFile)
            } else if self.record(entry.child).is_none() {
                Some(Fault::NoInode)
            } else if entry.fault == Some(Fault::Misplaced)
                && right.contains(&(entry.dir, entry.name.clone()))
            {
                Some(Fault::Duplicate)
            } else {
                entry.fault
            };
            self.entries[place].fault = fault;
        }
    }
}

fn describe(kind: &KeyKind<'_>) -> &'static str {
    match kind {
        KeyKind::Attributes => "attributes",
        KeyKind::Opened => "a mark of openers",
        KeyKind::Opener(_) => "an opener",
        KeyKind::Inline => "data",
        KeyKind::Symlink => "a symbolic link's target",
        KeyKind::Entry(..) => "a directory entry",
        KeyKind::Orphan(_) => "an orphan record",
        KeyKind::Session(_) => "a session's anchor",
    }
}

fn data_len(key: &[u8], value: &Bytes) -> Option<u64> {
    format::decode_bytes(key, value).ok().map(|data| data.len() as u64)
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_MAX
        && !matches!(name, b"" | b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

fn made_up(ino: Ino, node: &Node, said: Option<FileKind>) -> Option<Record> {
    let has_children = !node.children.is_empty() || node.broken_children > 0;
    let kind = if has_children || ino == ROOT {
        FileKind::Directory
    } else if node.target.is_some() {
        FileKind::Symlink
    } else if node.inline.is_some() || node.object.is_some() {
        FileKind::Regular
    } else if node.undecodable {
        said.unwrap_or(FileKind::Regular)
    } else {
        return None;
    };
    let bulk = node.object.map_or(0, |object| object.end * BLOCK);
    let (layout, size) = match kind {
        FileKind::Regular if bulk > 0 => (Layout::Bulk, bulk),
        FileKind::Regular => (Layout::Inline, node.inline.unwrap_or(0)),
        FileKind::Symlink => (Layout::Inline, node.target.unwrap_or(0)),
        _ => (Layout::Inline, 0),
    };
    let perm = match kind {
        FileKind::Directory if ino == ROOT => 0o755,
        FileKind::Directory => 0o700,
        FileKind::Symlink => 0o777,
        _ => 0o600,
    };
    let t = Time::default();
    let attr = Attr {
        ino,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size,
        blocks: 0,
        atime: t,
        mtime: t,
        ctime: t,
    };
    Some(Record { attr, layout, parent: if ino == ROOT { ROOT } else { 0 } })
}
