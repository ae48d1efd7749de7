//! The checks: over entries, over inodes, over the tree, over what belongs to no inode.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Known;
use super::finding::{Finding, Problem};
use super::read::{Entry, Fault, Node, Store};
use super::report::Report;
use super::tree::{Shape, Top, shown};
use crate::core::format::{BLOCK, Layout, Record};
use crate::core::types::{FILE_SIZE_MAX, FileKind, Ino, RENAME_LOCK, ROOT, SYMLINK_MAX};

/// Inode numbers that `--repair` takes for what it makes; the lock service never gives them out.
pub(super) const REPAIR_INOS: std::ops::RangeInclusive<Ino> = RENAME_LOCK + 1..=63;
/// The first number that the lock service gives out.
const FIRST_ALLOCATED: Ino = 1 << 20;

pub(super) fn run(store: &Store, shape: &Shape, known: &Known) -> Report {
    let mut checker = Checker { store, shape, known, report: Report::default() };
    checker.broken();
    checker.root();
    for entry in &store.entries {
        checker.entry(entry);
    }
    checker.tree();
    for (ino, node) in &store.inodes {
        checker.inode(*ino, node);
    }
    checker.orphan_records();
    checker.sessions();
    checker.count();
    checker.report
}

struct Checker<'a> {
    store: &'a Store,
    shape: &'a Shape,
    known: &'a Known,
    report: Report,
}

impl Checker<'_> {
    fn found(&mut self, ino: Ino, problem: Problem) {
        let path = self.shape.path_of(self.store, ino);
        self.report.push(Finding { ino, path, problem });
    }

    fn broken(&mut self) {
        for broken in &self.store.broken {
            let ino = broken.key.first_chunk().map_or(0, |bytes| Ino::from_be_bytes(*bytes));
            let key = broken.key.escape_ascii().to_string();
            self.found(
                ino,
                match broken.what {
                    None => Problem::UnknownKey { key },
                    Some(what) => Problem::Undecodable { key, what },
                },
            );
        }
    }

    fn root(&mut self) {
        // A store that was never mounted has nothing at all.
        let empty = self.store.inodes.is_empty() && self.store.broken.is_empty();
        match self.store.root_was {
            Some(kind) => self.found(ROOT, Problem::RootIsNoDirectory { kind }),
            None if self.store.is_dir(ROOT) || empty => {}
            None => self.found(ROOT, Problem::NoRoot),
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let (name, child) = (shown(&entry.name), entry.child);
        let problem = match (entry.fault, self.store.kind(child)) {
            (Some(Fault::Misplaced), _) => Problem::MisplacedEntry { name, child },
            (Some(Fault::Duplicate), _) => Problem::DuplicateEntry { name, child },
            (Some(Fault::BadName), _) => Problem::BadName { name, child },
            (Some(Fault::NoInode), _) | (None, None) => Problem::EntryWithoutInode { name, child },
            (Some(Fault::InFile), _) => Problem::EntryInFile { name, child },
            (None, Some(is)) if is != entry.kind => {
                Problem::WrongEntryKind { name, child, says: entry.kind, is }
            }
            (None, Some(_)) => return,
        };
        self.found(entry.dir, problem);
    }

    fn tree(&mut self) {
        for (ino, top) in &self.shape.tops {
            self.found(
                *ino,
                match top {
                    Top::Unnamed => Problem::WithoutEntry { kind: FileKind::Directory },
                    Top::Loop(through) => Problem::Loop { through: through.clone() },
                },
            );
        }
        let in_loops = |ino| self.shape.tops.iter().any(|(top, why)| *top == ino && *why != Top::Unnamed);
        let extra: Vec<&Entry> = self.shape.extra.iter().map(|place| &self.store.entries[*place]).collect();
        for entry in extra.into_iter().filter(|entry| !in_loops(entry.child)).collect::<Vec<_>>() {
            let (name, child) = (shown(&entry.name), entry.child);
            self.found(entry.dir, Problem::SecondName { name, child });
        }
    }

    fn inode(&mut self, ino: Ino, node: &Node) {
        let Some(record) = &node.record else {
            if node.opened || !node.openers.is_empty() {
                self.found(ino, Problem::StrayOpener { sessions: node.openers.clone() });
            }
            return;
        };
        if node.made_up {
            let told = node.undecodable || ino == ROOT && self.store.root_was.is_some();
            if !told {
                self.found(ino, Problem::NoAttributes);
            }
            return;
        }
        if record.is_dir() {
            self.directory(ino, node, record);
        } else {
            self.links(ino, node, record);
        }
        self.data(ino, node, record);
        self.openers(ino, node, record);
        self.number(ino);
    }

    fn directory(&mut self, ino: Ino, node: &Node, record: &Record) {
        let children = node.children.iter().map(|place| &self.store.entries[*place]);
        let kind = |entry: &Entry| self.store.kind(entry.child).unwrap_or(entry.kind);
        let counted = 2 + children.filter(|entry| kind(entry) == FileKind::Directory).count() as u64;
        // An entry that makes no sense may have been a directory's.
        let unsure = node.broken_children > 0;
        if u64::from(record.attr.nlink) != counted && !unsure {
            self.found(ino, Problem::WrongLinks { says: record.attr.nlink, counted });
        }
        let counted = node.children.len() as u64 + node.broken_children;
        if record.attr.size != counted {
            self.found(ino, Problem::WrongEntryCount { says: record.attr.size, counted });
        }
        let is = match self.shape.by.get(&ino) {
            Some(place) => self.store.entries[*place].dir,
            None if ino == ROOT => ROOT,
            None => return,
        };
        if record.parent != is {
            self.found(ino, Problem::WrongParent { says: record.parent, is });
        }
    }

    fn links(&mut self, ino: Ino, node: &Node, record: &Record) {
        let (says, counted) = (record.attr.nlink, node.names.len() as u64);
        let orphan = self.store.orphans.contains(&ino);
        if counted == 0 && says > 0 && !orphan {
            return self.found(ino, Problem::WithoutEntry { kind: record.attr.kind });
        }
        if u64::from(says) != counted {
            self.found(ino, Problem::WrongLinks { says, counted });
        }
        match (counted, orphan) {
            (0, true) => {
                let openers = self.living(&node.openers);
                self.found(ino, Problem::Orphan { openers });
            }
            (0, false) => self.found(ino, Problem::UnlinkedWithoutRecord),
            (_, true) => self.found(ino, Problem::OrphanRecordOfNamed),
            (_, false) => {}
        }
    }

    fn data(&mut self, ino: Ino, node: &Node, record: &Record) {
        let kind = record.attr.kind;
        if kind == FileKind::Regular {
            self.contents(ino, node, record);
        } else {
            if node.inline.is_some() {
                self.found(ino, Problem::ForeignData { kind, what: "inline data" });
            }
            if node.object.is_some() {
                self.found(ino, Problem::ForeignData { kind, what: "bulk data" });
            }
        }
        let size = record.attr.size;
        match (kind, node.target) {
            (FileKind::Symlink, Some(len)) if (1..=SYMLINK_MAX as u64).contains(&len) => {
                if len != size {
                    self.found(ino, Problem::WrongTargetLength { size, len });
                }
            }
            (FileKind::Symlink, _) => self.found(ino, Problem::NoTarget),
            (_, Some(_)) => self.found(ino, Problem::ForeignData { kind, what: "a symbolic link's target" }),
            (FileKind::Regular | FileKind::Directory, None) => {}
            (_, None) if size > 0 => self.found(ino, Problem::ImpossibleSize { size, max: 0 }),
            (_, None) => {}
        }
    }

    fn contents(&mut self, ino: Ino, node: &Node, record: &Record) {
        let (size, bulk) = (record.attr.size, record.layout == Layout::Bulk);
        let max = if bulk { FILE_SIZE_MAX } else { BLOCK };
        if size > max {
            self.found(ino, Problem::ImpossibleSize { size, max });
        }
        match node.inline {
            Some(len) if bulk => self.found(ino, Problem::InlineBesideBulk { len }),
            Some(len) if len > size => self.found(ino, Problem::InlineBeyondSize { size, len }),
            _ => {}
        }
        let seen = if bulk { size.div_ceil(BLOCK) } else { 0 };
        if let Some(object) = node.object.filter(|object| object.end > seen && size <= max) {
            let blocks = object.blocks.min(object.end - seen);
            self.found(ino, Problem::BlocksBeyondSize { size, blocks });
        }
    }

    fn openers(&mut self, ino: Ino, node: &Node, record: &Record) {
        if node.openers.is_empty() {
            return;
        }
        if !node.opened {
            self.found(ino, Problem::OpenerWithoutMark { sessions: node.openers.clone() });
        }
        let living = self.living(&node.openers);
        let gone: Vec<u64> = node.openers.iter().copied().filter(|s| !living.contains(s)).collect();
        if record.attr.nlink > 0 && !gone.is_empty() {
            self.found(ino, Problem::StaleOpeners { sessions: gone });
        }
    }

    /// Those of `sessions` that live, as far as one can tell: one without an anchor does not.
    fn living(&self, sessions: &[u64]) -> Vec<u64> {
        let lives = |session: &u64| {
            self.store.sessions.contains(session)
                && self.known.alive.as_ref().is_none_or(|alive| alive.contains(session))
        };
        sessions.iter().copied().filter(lives).collect()
    }

    fn number(&mut self, ino: Ino) {
        let ours = ino == ROOT || REPAIR_INOS.contains(&ino);
        if !ours && ino < FIRST_ALLOCATED {
            self.found(ino, Problem::NotAllocated { below: FIRST_ALLOCATED });
        } else if let Some(below) = self.known.allocated_below.filter(|below| ino >= *below) {
            self.found(ino, Problem::NotAllocated { below });
        }
    }

    fn orphan_records(&mut self) {
        for ino in &self.store.orphans {
            if self.store.record(*ino).is_none() {
                self.found(*ino, Problem::OrphanRecordWithoutInode);
            }
        }
    }

    fn sessions(&mut self) {
        let Some(alive) = &self.known.alive else { return };
        for session in self.store.sessions.difference(alive) {
            self.found(0, Problem::DeadSession { session: *session });
        }
    }

    fn count(&mut self) {
        let kinds = self.store.inodes.values().filter_map(|node| node.record.as_ref());
        let totals = &mut self.report.totals;
        for record in kinds {
            match record.attr.kind {
                FileKind::Directory => totals.directories += 1,
                FileKind::Regular => totals.files += 1,
                _ => totals.others += 1,
            }
        }
        totals.entries = self.store.entries.len() as u64;
        totals.blocks = self.store.inodes.values().filter_map(|n| n.object).map(|o| o.blocks).sum();
    }
}
