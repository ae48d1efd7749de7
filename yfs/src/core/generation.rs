//! Generations: consistent cuts of the unflushed changes.
//!
//! The open generation only notes *what* changed; the values stand in the cache, which may not drop them. Closing a
//! generation takes the values out (file data shared, not copied) and makes the operations of one atomic commit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::blocks::{Block, Blocks, Index};
use super::cache::{Inode, Presence};
use super::dir::Target;
use super::format::{self, BLOCK, Layout, Record};
use super::traits::Op;
use super::types::{Ino, Time};

/// What changed in one inode.
#[derive(Debug, Default)]
pub struct Change {
    /// Made in this generation: the store has nothing of it.
    pub created: bool,
    /// Attributes.
    pub attr: bool,
    /// Inline data (to be put, or deleted when the file is no longer inline or empty).
    pub inline: bool,
    /// Symlink target.
    pub target: bool,
    /// Blocks of bulk data.
    pub blocks: BTreeSet<Index>,
    /// The bulk object was cut to this size.
    pub truncated: Option<u64>,
    /// Removed; `true` if it ever had a bulk object.
    pub removed: Option<bool>,
    inline_bytes: usize,
}

#[derive(Debug)]
struct EntryChange {
    existed: bool,
    target: Option<Target>,
}

#[derive(Debug)]
struct MarkChange {
    existed: bool,
    value: Option<Bytes>,
}

/// The generation that takes changes.
#[derive(Debug, Default)]
pub struct Open {
    /// Its number, one more than the one before; the first is 1.
    pub number: u64,
    /// The session under which the changes were made, and when the first was.
    pub begun: Option<(u64, Time)>,
    changes: BTreeMap<Ino, Change>,
    entries: BTreeMap<(Ino, Bytes), EntryChange>,
    marks: BTreeMap<Bytes, MarkChange>,
    kv_bytes: usize,
    data_bytes: usize,
}

/// A generation on its way to the store.
#[derive(Debug)]
pub struct Closed {
    /// Its number.
    pub number: u64,
    /// The session under which it was made and must be committed.
    pub session: u64,
    /// The changes of the key-value store, and cuts and removals of bulk objects.
    pub ops: Vec<Op>,
    /// Bulk data, to be written before.
    pub data: Vec<(Ino, Vec<(Index, Block)>)>,
    /// Every inode that it changes.
    pub inodes: Vec<Ino>,
    /// Memory it holds.
    pub bytes: usize,
}

impl Open {
    /// An open generation without changes.
    pub fn new(number: u64) -> Open {
        Open { number, ..Open::default() }
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.begun.is_none()
    }

    /// Memory that its changes keep.
    pub fn bytes(&self) -> usize {
        self.data_bytes + self.kv_bytes
    }

    /// Whether it has as much as a commit should have.
    pub fn is_full(&self, records_max: usize, bytes_max: usize) -> bool {
        let records = self.changes.len() + self.entries.len() + self.marks.len();
        records >= records_max || self.kv_bytes >= KV_BYTES_MAX || self.data_bytes >= bytes_max
    }

    /// Notes who changes what, for `ino`.
    pub fn change(&mut self, ino: Ino) -> &mut Change {
        self.changes.entry(ino).or_insert_with(|| {
            self.kv_bytes += RECORD_COST;
            Change::default()
        })
    }

    /// Whether a bulk object was cut here, so that no data may be written to it before this is committed.
    pub fn cuts(&self, ino: Ino) -> bool {
        self.changes.get(&ino).is_some_and(|c| c.truncated.is_some())
    }

    /// Notes changed inline data of `len` bytes.
    pub fn change_inline(&mut self, ino: Ino, len: usize) {
        let change = self.change(ino);
        change.inline = true;
        let old = std::mem::replace(&mut change.inline_bytes, len);
        self.kv_bytes = self.kv_bytes + len - old;
    }

    /// Notes a changed block.
    pub fn change_block(&mut self, ino: Ino, index: Index) {
        if self.change(ino).blocks.insert(index) {
            self.data_bytes += BLOCK as usize;
        }
    }

    /// Forgets changed blocks from `from` on: the file was cut.
    pub fn cut_blocks(&mut self, ino: Ino, from: Index) {
        let gone = self.change(ino).blocks.split_off(&from);
        self.data_bytes -= gone.len() * BLOCK as usize;
    }

    /// Notes that a name now stands for `target`; `existed` = it stood for something before.
    pub fn change_entry(&mut self, dir: Ino, name: &[u8], existed: bool, target: Option<Target>) {
        let cost = RECORD_COST + name.len();
        let place = (dir, Bytes::copy_from_slice(name));
        let change = self.entries.entry(place.clone()).or_insert_with(|| {
            self.kv_bytes += cost;
            EntryChange { existed, target }
        });
        change.target = target;
        if target.is_none() && !change.existed {
            self.entries.remove(&place);
            self.kv_bytes -= cost;
        }
    }

    /// Notes that a mark (a key whose value is known now) is set or removed; `existed` as in [`Open::change_entry`].
    pub fn change_mark(&mut self, key: Bytes, existed: bool, value: Option<Bytes>) {
        let change = self.marks.entry(key.clone()).or_insert_with(|| {
            self.kv_bytes += RECORD_COST;
            MarkChange { existed, value: None }
        });
        change.value = value;
        if change.value.is_none() && !change.existed {
            self.marks.remove(&key);
            self.kv_bytes -= RECORD_COST;
        }
    }

    /// Takes the values out of the cache. `session` is that of the first change.
    pub fn close(self, inodes: &BTreeMap<Ino, Inode>, blocks: &mut Blocks) -> Closed {
        let session = self.begun.expect("a generation without changes is not closed").0;
        let mut closed = Closed {
            number: self.number,
            session,
            ops: Vec::with_capacity(self.changes.len() + self.entries.len() + self.marks.len()),
            data: Vec::new(),
            inodes: self.changes.keys().copied().collect(),
            bytes: self.data_bytes + self.kv_bytes,
        };
        for (ino, change) in self.changes {
            close_inode(&mut closed, ino, &change, inodes, blocks);
        }
        for ((dir, name), change) in self.entries {
            let key = format::entry_key(dir, &name);
            closed.ops.push(match change.target {
                Some((ino, kind)) => Op::Put { key, value: format::encode_entry(ino, kind) },
                None => Op::Delete { key },
            });
        }
        let mark = |(key, change): (Bytes, MarkChange)| match change.value {
            Some(value) => Op::Put { key, value },
            None => Op::Delete { key },
        };
        closed.ops.extend(self.marks.into_iter().map(mark));
        closed
    }
}

/// Bytes of records in one commit, well below the largest frame.
const KV_BYTES_MAX: usize = 4 << 20;
/// What a small record costs in memory and in a frame, roughly.
const RECORD_COST: usize = 128;

fn close_inode(
    out: &mut Closed,
    ino: Ino,
    change: &Change,
    inodes: &BTreeMap<Ino, Inode>,
    blocks: &mut Blocks,
) {
    if let Some(had_bulk) = change.removed {
        // What was made and removed within one generation never reaches the store.
        if !change.created {
            out.ops.push(Op::DeletePrefix { prefix: format::inode_prefix(ino) });
            out.ops.extend(had_bulk.then_some(Op::Remove { object: ino }));
        }
        return;
    }
    if !(change.attr || change.inline || change.target || !change.blocks.is_empty()) {
        return;
    }
    let inode = inodes.get(&ino).expect("a changed inode stays cached until it is committed");
    let Presence::There(record) = inode.record else {
        unreachable!("a changed inode that was not removed has attributes")
    };
    out.ops.push(Op::Put { key: format::attr_key(ino), value: record.encode() });
    if change.inline {
        match inline_value(ino, &record, blocks) {
            Some(value) => out.ops.push(Op::Put { key: format::inline_key(ino), value }),
            None if change.created => {}
            None => out.ops.push(Op::Delete { key: format::inline_key(ino) }),
        }
    }
    if let (true, Some(target)) = (change.target, &inode.target) {
        out.ops.push(Op::Put { key: format::symlink_key(ino), value: format::encode_bytes(target) });
    }
    out.ops.extend(change.truncated.map(|size| Op::Truncate { object: ino, size }));
    let data: Vec<_> = change
        .blocks
        .iter()
        .map(|index| (*index, blocks.get(ino, *index).expect("a changed block stays cached until committed")))
        .collect();
    if !data.is_empty() {
        out.data.push((ino, data));
    }
}

fn inline_value(ino: Ino, record: &Record, blocks: &mut Blocks) -> Option<Bytes> {
    if record.layout == Layout::Bulk {
        return None;
    }
    let block = blocks.get(ino, 0).filter(|b| !b.is_empty())?;
    assert!(block.len() as u64 <= record.attr.size, "inline data of inode {ino} reaches beyond its size");
    Some(format::encode_bytes(&block))
}
