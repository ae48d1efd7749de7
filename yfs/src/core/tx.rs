//! One operation's changes: made under the state mutex without a pause, so that they all fall into one generation.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::blocks::{self, Block, Index};
use super::cache::{Openers, Presence, State};
use super::dir::{Dir, Target};
use super::errors::Step;
use super::event::Event;
use super::format::{self, BLOCK, Layout, Record};
use super::fs::{Fs, Limits};
use super::locking::Locked;
use super::traits::{Clock, Extents, Locks};
use super::types::{FileKind, Ino, Time};

/// Changes under way. Check everything first: once a change is made the rest must follow.
pub(super) struct Tx<'a> {
    state: MutexGuard<'a, State>,
    limits: &'a Limits,
    to_flush: &'a Event,
    session: u64,
    /// The time of all the changes.
    pub now: Time,
}

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Begins an operation's changes; `Again` if the guards are worth nothing any more.
    pub(super) fn begin(&self, held: &Locked<L::Guard>) -> Result<Tx<'_>, Step> {
        self.begin_epoch(held.epoch)
    }

    /// As [`Fs::begin`], for changes that belong to an epoch without a guard (those of a revoke).
    pub(super) fn begin_epoch(&self, epoch: u64) -> Result<Tx<'_>, Step> {
        // Asked before the epoch is compared: if it is still the same then, this is its session.
        let session = self.0.locks.session();
        let now = self.0.clock.now();
        let state = self.0.state.lock();
        // No session: it was just lost, and we are about to hear of it.
        if state.epoch != epoch || session == 0 {
            return Err(Step::Again);
        }
        Ok(Tx { state, limits: &self.0.limits, to_flush: &self.0.to_flush, session, now })
    }
}

impl Deref for Tx<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        let limits = self.limits;
        if self.open.is_full(limits.generation_records_max, limits.generation_bytes_max) {
            self.close();
        }
        self.trim(limits);
        if !self.closed.is_empty() {
            self.to_flush.signal();
        }
    }
}

impl Tx<'_> {
    /// The session of the changes.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Marks an inode as changed in the open generation.
    fn touch(&mut self, ino: Ino) {
        let (session, now) = (self.session, self.now);
        self.open.begun.get_or_insert((session, now));
        self.open.change(ino);
        let number = self.open.number;
        self.inode(ino).dirty = number;
    }

    /// New attributes.
    pub fn put(&mut self, record: Record) {
        let ino = record.attr.ino;
        self.touch(ino);
        self.open.change(ino).attr = true;
        self.inode(ino).record = Presence::There(record);
    }

    /// A new inode, and the target of a symlink.
    pub fn create(&mut self, record: Record, target: Option<Bytes>) {
        let ino = record.attr.ino;
        self.put(record);
        let number = self.open.number;
        let change = self.open.change(ino);
        change.created = true;
        change.target = target.is_some();
        let inode = self.inode(ino);
        inode.tail_clean = true;
        inode.openers = Openers::None;
        inode.target = target;
        if record.is_dir() {
            inode.dir = Some(Box::new(Dir::empty()));
        } else {
            inode.note_cut(number, 0);
        }
    }

    /// An inode and all its data are removed.
    pub fn remove(&mut self, record: &Record) {
        let ino = record.attr.ino;
        self.touch(ino);
        self.open.cut_blocks(ino, 0);
        self.open.change_inline(ino, 0);
        self.open.change(ino).removed = Some(record.layout != Layout::Inline);
        let dirty = self.open.number;
        self.forget(ino);
        let inode = self.inode(ino);
        inode.record = Presence::Gone;
        inode.dirty = dirty;
    }

    /// A name now stands for `target` instead of `old`. The directory's record is changed, but not put.
    pub fn set_entry(&mut self, dir: &mut Record, name: &[u8], old: Option<Target>, target: Option<Target>) {
        let ino = dir.attr.ino;
        let is_dir = |t: Option<Target>| u32::from(t.is_some_and(|t| t.1 == FileKind::Directory));
        dir.attr.size = dir.attr.size + u64::from(target.is_some()) - u64::from(old.is_some());
        dir.attr.nlink = dir.attr.nlink + is_dir(target) - is_dir(old);
        dir.modified(self.now);
        self.touch(ino);
        let number = self.open.number;
        self.open.change_entry(ino, name, old.is_some(), target);
        self.with_dir(ino, |d| {
            d.change(name, target, number);
        });
    }

    /// A mark about `ino` (see `format.rs`) is set or removed.
    pub fn set_mark(&mut self, ino: Ino, key: Bytes, existed: bool, value: Option<Bytes>) {
        self.touch(ino);
        self.open.change_mark(key, existed, value);
    }

    /// Before data is written to a file: what was cut from its bulk object in this generation must be committed
    /// first, because data goes to the store ahead of the cut.
    pub fn settle_cut(&mut self, ino: Ino) {
        if self.open.cuts(ino) {
            self.close();
        }
    }

    /// Puts a changed block of a file.
    pub fn put_block(&mut self, record: &Record, index: Index, block: Block) {
        let ino = record.attr.ino;
        self.touch(ino);
        if record.layout == Layout::Bulk {
            self.open.change_block(ino, index);
        } else {
            assert!(index == 0, "an inline file has one block");
            self.open.change_inline(ino, block.len());
        }
        let number = self.open.number;
        self.blocks.put(ino, index, block, number);
    }

    /// Gives a file another size: cuts or grows by a hole. `last` is the data of the block that [`last_needed`] named.
    /// The record is changed, but not put.
    pub fn resize(&mut self, record: &mut Record, size: u64, last: Option<Block>) {
        let old = record.attr.size;
        if size < old {
            self.cut(record, size, last);
        } else if size > old {
            self.grow(record, size, last);
        }
    }

    /// Before a file grows to `size` with whole blocks left as holes: a client that died may have written there
    /// without ever committing, so that the store shows its data. Cuts it off, in a generation of its own.
    pub fn clear_tail(&mut self, record: &Record, size: u64) {
        let ino = record.attr.ino;
        if self.inode(ino).tail_clean || size <= BLOCK {
            return;
        }
        let old = if record.layout == Layout::Bulk { record.attr.size } else { 0 };
        self.put(*record);
        let number = self.open.number;
        let change = self.open.change(ino);
        change.truncated = Some(change.truncated.map_or(old, |t| t.min(old)));
        let inode = self.inode(ino);
        inode.note_cut(number, record.attr.size);
        inode.tail_clean = true;
        self.settle_cut(ino);
    }

    fn cut(&mut self, record: &mut Record, size: u64, last: Option<Block>) {
        let ino = record.attr.ino;
        self.touch(ino);
        let (number, index) = (self.open.number, size / BLOCK);
        record.attr.size = size;
        self.open.cut_blocks(ino, size.div_ceil(BLOCK));
        self.state.blocks.drop_from(ino, size.div_ceil(BLOCK));
        let inode = self.inode(ino);
        inode.note_cut(number, size);
        inode.tail_clean |= record.layout == Layout::Bulk;
        if record.layout == Layout::Bulk {
            let change = self.open.change(ino);
            change.truncated = Some(change.truncated.map_or(size, |t| t.min(size)));
            if size == 0 {
                record.layout = Layout::Emptied;
            }
        } else {
            self.open.change_inline(ino, 0);
        }
        let cached = self.state.blocks.take(ino, index);
        let len = blocks::block_len(size, index);
        if len == 0 {
            return;
        }
        if record.layout != Layout::Bulk {
            let block = last.expect("the value of an inline file that is cut was loaded");
            drop(cached);
            self.put_block(record, index, blocks::cut(block, len));
        } else if let Some(block) = cached {
            // Written only if it was dirty anyway: who lets the file grow again writes the zeros.
            self.state.blocks.put(ino, index, blocks::cut(block, len), number);
        }
    }

    fn grow(&mut self, record: &mut Record, size: u64, last: Option<Block>) {
        let ino = record.attr.ino;
        self.settle_cut(ino);
        self.touch(ino);
        let old = record.attr.size;
        let was_bulk = record.layout == Layout::Bulk;
        record.attr.size = size;
        if !was_bulk && size > BLOCK {
            record.layout = Layout::Bulk;
            self.open.change_inline(ino, 0);
        }
        if record.layout == Layout::Bulk && !old.is_multiple_of(BLOCK) {
            // Written again in full: what the store has behind the old end may be anything.
            let block = last.expect("the block of the old end was loaded");
            self.put_block(record, old / BLOCK, block);
        } else if record.layout == Layout::Bulk && !was_bulk && old > 0 {
            self.put_block(record, 0, last.expect("the value of an inline file that grows out was loaded"));
        }
    }

    /// Writes `data` at `offset` into a file that is large enough. `loaded` has what the cache may have dropped of
    /// blocks that are written in part.
    pub fn write(&mut self, record: &Record, offset: u64, data: &[u8], mut loaded: BTreeMap<Index, Block>) {
        let ino = record.attr.ino;
        self.settle_cut(ino);
        let mut done = 0;
        for index in blocks::touched(offset, data.len() as u64) {
            let start = (offset + done as u64 - index * BLOCK) as usize;
            let part = &data[done..data.len().min(done + BLOCK as usize - start)];
            done += part.len();
            let whole = start == 0 && part.len() >= blocks::block_len(record.attr.size, index);
            // Let go of before the change, so that the cache's buffer need not be copied for it.
            let spare = loaded.remove(&index);
            let block = if whole {
                Arc::new(part.to_vec())
            } else {
                // Neither cached nor loaded: it was beyond the old end, or a hole.
                let old = self.state.blocks.take(ino, index).or(spare).unwrap_or_default();
                blocks::overwrite(old, start, part)
            };
            self.put_block(record, index, block);
        }
    }

    /// Marks for an inode that lost its last name but is open.
    pub fn set_orphan(&mut self, ino: Ino, orphan: bool) {
        self.set_mark(ino, format::orphan_key(ino), !orphan, orphan.then(format::mark));
    }
}

/// The block whose data [`Tx::resize`] needs to give a file another size.
pub(super) fn last_needed(record: &Record, size: u64) -> Option<Index> {
    let (old, bulk) = (record.attr.size, record.layout == Layout::Bulk);
    let cut = size < old;
    match bulk {
        true if !cut && size > old && !old.is_multiple_of(BLOCK) => Some(old / BLOCK),
        false if cut && size > 0 => Some(0),
        false if !cut && size > BLOCK && old > 0 => Some(0),
        _ => None,
    }
}
