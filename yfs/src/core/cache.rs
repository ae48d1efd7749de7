//! Everything the core remembers, behind one mutex that is held for short, wait-free stretches only.
//!
//! What is cached of an inode is true as long as its lock is held. What changed after the last committed generation
//! is dirty and stays; the rest can be dropped at any time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{Blocks, Index};
use super::dir::{Dir, Target};
use super::format::{BLOCK, Record};
use super::fs::Limits;
use super::generation::{Closed, Open};
use super::merge::merge;
use super::reports::Reports;
use super::types::Ino;

/// What is known of an inode's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Presence {
    /// Nothing: the store must be asked.
    #[default]
    Unknown,
    /// It was removed (or is not in the store).
    Gone,
    /// These.
    There(Record),
}

/// What is known of other sessions that have an inode open without holding its lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Openers {
    /// Nothing.
    #[default]
    Unknown,
    /// There are none, and as long as we hold the lock exclusively there come none.
    None,
}

/// How a file is being read, for read-ahead.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadPattern {
    /// Where the next read starts if it is sequential.
    pub next: u64,
    /// How far to read ahead, in bytes; 0 while the reads are random.
    pub window: u64,
    /// Up to where it was asked for already.
    pub asked: u64,
}

/// What is cached of one inode, but for its data.
#[derive(Debug, Default)]
pub struct Inode {
    /// Attributes.
    pub record: Presence,
    /// Openers elsewhere.
    pub openers: Openers,
    /// Target of a symlink.
    pub target: Option<Bytes>,
    /// Entries of a directory.
    pub dir: Option<Box<Dir>>,
    /// The last generation that changed anything of it.
    pub dirty: u64,
    /// The file was cut to `.1` bytes in generation `.0`: until that is committed, the store's data from there on is
    /// not the file's.
    pub cuts: Vec<(u64, u64)>,
    /// The store shows nothing of the bulk object beyond the file's size but what we wrote.
    pub tail_clean: bool,
    /// Fetches under way whose answer must meet the cache as it was when they began.
    pub pins: u32,
    /// Reading.
    pub reading: ReadPattern,
    used: bool,
}

impl Inode {
    /// Notes that the file was cut in a generation.
    pub fn note_cut(&mut self, generation: u64, size: u64) {
        match self.cuts.last_mut() {
            Some(last) if last.0 == generation => last.1 = last.1.min(size),
            _ => self.cuts.push((generation, size)),
        }
    }

    /// Whether block `index`, when not cached, is a hole that the store does not know of yet.
    pub fn is_hole(&self, index: Index, committed: u64) -> bool {
        self.cuts.iter().any(|(generation, size)| *generation > committed && index >= size.div_ceil(BLOCK))
    }
}

/// Opens of an inode by this mount; they outlive the lock.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenFile {
    /// Opens.
    pub count: u32,
    /// An opener key of this session was written.
    pub recorded: bool,
    /// Its last name went while it was open here.
    pub unlinked: bool,
}

/// A range that a sequential reader will want.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// File.
    pub ino: Ino,
    /// Offset.
    pub from: u64,
    /// Length.
    pub len: u64,
}

/// All the core remembers.
pub struct State {
    /// Counts lost sessions. What was learned or locked in an earlier epoch is void.
    pub epoch: u64,
    /// Cached inodes.
    pub inodes: BTreeMap<Ino, Inode>,
    /// Cached file data.
    pub blocks: Blocks,
    /// The generation that takes changes.
    pub open: Open,
    /// Closed ones, oldest first.
    pub closed: VecDeque<Arc<Closed>>,
    /// The newest generation that is durable.
    pub committed: u64,
    /// Opens by this mount.
    pub files: BTreeMap<Ino, OpenFile>,
    /// What was lost and must be said.
    pub reports: Reports,
    /// Fresh inode numbers, whose locks we hold.
    pub fresh: VecDeque<Ino>,
    /// The lock that shows others that this session lives, once it has opener keys.
    pub anchor: Option<Ino>,
    /// The last flush found no space.
    pub full: bool,
    /// What readers will want.
    pub wishes: VecDeque<Wish>,
    entries: usize,
    hand: Ino,
}

/// How many cached things one call looks at when something must go.
const STEPS: usize = 64;

impl State {
    /// Nothing cached.
    pub fn new() -> State {
        State {
            epoch: 1,
            inodes: BTreeMap::new(),
            blocks: Blocks::default(),
            open: Open::new(1),
            closed: VecDeque::new(),
            committed: 0,
            files: BTreeMap::new(),
            reports: Reports::default(),
            fresh: VecDeque::new(),
            anchor: None,
            full: false,
            wishes: VecDeque::new(),
            entries: 0,
            hand: 0,
        }
    }

    /// What is cached of an inode; made empty if nothing is.
    pub fn inode(&mut self, ino: Ino) -> &mut Inode {
        let inode = self.inodes.entry(ino).or_default();
        inode.used = true;
        inode
    }

    /// What is known of a name.
    pub fn entry(&mut self, dir: Ino, name: &[u8]) -> Option<Option<Target>> {
        let inode = self.inodes.get_mut(&dir)?;
        inode.used = true;
        inode.dir.as_ref()?.get(name)
    }

    /// Works on a directory's cached entries, keeping count of them.
    pub fn with_dir(&mut self, dir: Ino, work: impl FnOnce(&mut Dir)) {
        let cached = self.inode(dir).dir.get_or_insert_default();
        let before = cached.len();
        work(cached);
        let after = cached.len();
        self.entries = self.entries + after - before;
    }

    /// Forgets everything of an inode, dirty or not.
    pub fn forget(&mut self, ino: Ino) {
        if let Some(inode) = self.inodes.remove(&ino) {
            self.entries -= inode.dir.map_or(0, |d| d.len());
        }
        self.blocks.drop_from(ino, 0);
    }

    /// Whether an inode has changes that are not durable.
    pub fn dirty(&self, ino: Ino) -> Option<u64> {
        self.inodes.get(&ino).map(|i| i.dirty).filter(|generation| *generation > self.committed)
    }

    /// Bytes kept by unflushed changes.
    pub fn dirty_bytes(&self) -> usize {
        self.open.bytes() + self.closed.iter().map(|c| c.bytes).sum::<usize>()
    }

    /// Closes the open generation if anything changed in it.
    pub fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let next = Open::new(self.open.number + 1);
        let open = std::mem::replace(&mut self.open, next);
        let closed = open.close(&self.inodes, &mut self.blocks);
        self.closed.push_back(Arc::new(closed));
    }

    /// Makes the two oldest generations (the open one counts) one, so that what the newer removes need not be written
    /// first. `false` if that cannot be.
    pub fn merge(&mut self) -> bool {
        if self.closed.len() < 2 {
            self.close();
        }
        let (Some(older), Some(newer)) = (self.closed.front(), self.closed.get(1)) else { return false };
        let Some(merged) = merge(older, newer) else { return false };
        self.closed.pop_front();
        self.closed[0] = Arc::new(merged);
        true
    }

    /// Notes that the oldest closed generation is durable.
    pub fn committed(&mut self, number: u64) {
        let done = self.closed.pop_front().expect("what was committed was closed");
        assert!(done.number == number && number > self.committed, "generations are committed in order");
        self.committed = number;
        for ino in &done.inodes {
            if let Some(inode) = self.inodes.get_mut(ino) {
                inode.cuts.retain(|(generation, _)| *generation > number);
            }
        }
    }

    /// Forgets everything that belonged to the session, and begins the next epoch.
    pub fn reset(&mut self) {
        let next = self.open.number + 1;
        let files = std::mem::take(&mut self.files);
        let reports = std::mem::take(&mut self.reports);
        *self = State {
            epoch: self.epoch + 1,
            committed: next - 1,
            open: Open::new(next),
            reports,
            ..State::new()
        };
        self.files = files.into_iter().map(|(ino, f)| (ino, OpenFile { recorded: false, ..f })).collect();
    }

    /// Drops clean things until the bounds are kept, a few at a time.
    pub fn trim(&mut self, limits: &Limits) {
        let bytes_max = limits.clean_bytes_max + self.dirty_bytes();
        self.blocks.shrink(bytes_max, self.committed, STEPS);
        for _ in 0..STEPS {
            if self.inodes.len() <= limits.inodes_max && self.entries <= limits.entries_max {
                return;
            }
            self.trim_one(limits);
        }
    }

    fn trim_one(&mut self, limits: &Limits) {
        let crowded = self.inodes.len() > limits.inodes_max;
        let Some((&ino, inode)) = self.inodes.range_mut(self.hand..).next() else {
            self.hand = 0;
            return;
        };
        self.hand = ino + 1;
        if std::mem::take(&mut inode.used) || inode.pins > 0 {
            return;
        }
        if inode.dirty <= self.committed {
            if crowded || inode.dir.is_some() {
                self.forget(ino);
            }
        } else if let Some(dir) = inode.dir.as_mut() {
            self.entries -= dir.forget_clean(self.committed);
        }
    }
}
