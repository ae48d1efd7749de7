//! Filling the cache from the store. Everything here is called with a lock held on what is fetched, so that the answer
//! is as true as the lock; an answer of an earlier epoch is thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{self, Block, Index};
use super::cache::{Inode, Openers, Presence, State};
use super::dir::{HASH_END, Target};
use super::errors::{FsError, Step};
use super::format::{self, BLOCK, Layout, Record};
use super::fs::{Fs, Inner};
use super::locking::Locked;
use super::traits::{Clock, Extents, Locks};
use super::types::{FileKind, Ino};

/// Bytes asked for in one read of the store.
const READ_MAX: u64 = 4 << 20;
/// Inodes asked for in one get of the store.
const RECORDS_MAX: usize = 1000;

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Runs `work` on the state if the guards are still worth something.
    pub(super) fn with_state<T>(
        &self,
        held: &Locked<L::Guard>,
        work: impl FnOnce(&mut State) -> T,
    ) -> Result<T, Step> {
        let mut state = self.0.state.lock();
        if state.epoch == held.epoch { Ok(work(&mut state)) } else { Err(Step::Again) }
    }

    /// An inode's attributes; `Stale` if it is gone.
    pub(super) async fn record(&self, held: &Locked<L::Guard>, ino: Ino) -> Result<Record, Step> {
        match self.presence(held, ino, false).await? {
            Presence::There(record) => Ok(record),
            _ => Err(FsError::Stale(ino).into()),
        }
    }

    /// As [`Fs::record`], of an inode held exclusively that may be about to lose its last name: also learns whether
    /// others have it open.
    pub(super) async fn record_exclusive(
        &self,
        held: &Locked<L::Guard>,
        ino: Ino,
    ) -> Result<(Record, bool), Step> {
        let Presence::There(record) = self.presence(held, ino, true).await? else {
            return Err(FsError::Stale(ino).into());
        };
        let unique = record.attr.nlink <= 1 && !record.is_dir();
        Ok((record, unique && self.opened_elsewhere(held, ino).await?))
    }

    /// What there is of an inode.
    pub(super) async fn presence(
        &self,
        held: &Locked<L::Guard>,
        ino: Ino,
        exclusive: bool,
    ) -> Result<Presence, Step> {
        let known = self.with_state(held, |st| st.inode(ino).record)?;
        if known != Presence::Unknown {
            return Ok(known);
        }
        let mut keys = vec![format::attr_key(ino)];
        keys.extend(exclusive.then(|| format::opened_key(ino)));
        let values = self.0.store.get(keys).await?;
        let presence = match values.first().and_then(Option::as_ref) {
            Some(bytes) => Presence::There(Record::decode(ino, bytes)?),
            None => Presence::Gone,
        };
        let unopened = matches!(values.get(1), Some(None));
        self.with_state(held, |st| {
            let inode = st.inode(ino);
            inode.record = presence;
            if unopened {
                inode.openers = Openers::None;
            }
            st.trim(&self.0.limits);
        })?;
        Ok(presence)
    }

    /// The attributes of many inodes, with few requests. Those that are gone are left out.
    pub(super) async fn records(
        &self,
        held: &Locked<L::Guard>,
        inos: &[Ino],
    ) -> Result<BTreeMap<Ino, Record>, Step> {
        let (mut known, mut missing) = (BTreeMap::new(), Vec::new());
        self.with_state(held, |st| {
            for ino in inos {
                match st.inodes.get(ino).map_or(Presence::Unknown, |i| i.record) {
                    Presence::There(record) => drop(known.insert(*ino, record)),
                    Presence::Unknown => missing.push(*ino),
                    Presence::Gone => {}
                }
            }
        })?;
        for chunk in missing.chunks(RECORDS_MAX) {
            let values = self.0.store.get(chunk.iter().map(|ino| format::attr_key(*ino)).collect()).await?;
            let mut learned = Vec::with_capacity(chunk.len());
            for (ino, value) in chunk.iter().zip(values) {
                let record = value.map(|bytes| Record::decode(*ino, &bytes)).transpose()?;
                learned.push((*ino, record.map_or(Presence::Gone, Presence::There)));
                known.extend(record.map(|r| (*ino, r)));
            }
            self.with_state(held, |st| {
                for (ino, presence) in learned {
                    st.inode(ino).record = presence;
                }
                st.trim(&self.0.limits);
            })?;
        }
        Ok(known)
    }

    /// What a name stands for.
    pub(super) async fn entry(
        &self,
        held: &Locked<L::Guard>,
        dir: &Record,
        name: &[u8],
    ) -> Result<Option<Target>, Step> {
        if !dir.is_dir() {
            return Err(FsError::NotDir.into());
        }
        let ino = dir.attr.ino;
        if dir.attr.nlink == 0 {
            return Ok(None);
        }
        if let Some(known) = self.with_state(held, |st| st.entry(ino, name))? {
            return Ok(known);
        }
        if dir.attr.size <= u64::from(self.0.limits.scan_page) {
            self.scan(held, ino, 0).await?;
            if let Some(known) = self.with_state(held, |st| st.entry(ino, name))? {
                return Ok(known);
            }
        }
        let key = format::entry_key(ino, name);
        let value = self.0.store.get(vec![key.clone()]).await?.into_iter().next().flatten();
        let target = value.map(|v| format::decode_entry(&key, &v)).transpose()?;
        self.with_state(held, |st| {
            st.with_dir(ino, |d| {
                d.learn(name, target);
            });
            st.trim(&self.0.limits);
        })?;
        Ok(target)
    }

    /// Learns one page of a directory's entries, from a hash on.
    pub(super) async fn scan(&self, held: &Locked<L::Guard>, dir: Ino, from: u64) -> Result<(), Step> {
        // Pinned: an entry removed here, flushed and dropped from the cache while the store answers would come back.
        let _pin = Pin::new(&self.0, held.epoch, dir)?;
        let (start, end) = format::entry_range(dir, from);
        let (page, more) = self.0.store.scan(start, end, self.0.limits.scan_page).await?;
        let mut learned: Vec<(&[u8], Target)> = Vec::with_capacity(page.len());
        let mut upto = HASH_END;
        for (key, value) in &page {
            let (hash, name) = format::entry_name(key)?;
            learned.push((name, format::decode_entry(key, value)?));
            if more {
                upto = hash;
            }
        }
        if more && upto <= from {
            return Err(FsError::Io(format!("directory {dir}: too many names with one hash")).into());
        }
        self.with_state(held, |st| {
            st.with_dir(dir, |d| {
                for (name, target) in learned {
                    d.learn(name, Some(target));
                }
                d.learned_range(from, upto);
            });
            st.trim(&self.0.limits);
        })
    }

    /// Whether another session has the inode open without holding its lock. We hold it exclusively.
    pub(super) async fn opened_elsewhere(&self, held: &Locked<L::Guard>, ino: Ino) -> Result<bool, Step> {
        if self.with_state(held, |st| st.inode(ino).openers)? == Openers::None {
            return Ok(false);
        }
        let marked = self.0.store.get(vec![format::opened_key(ino)]).await?;
        let others = match marked.first() {
            Some(Some(_)) => !self.other_openers(ino).await?.is_empty(),
            _ => false,
        };
        if !others {
            self.with_state(held, |st| st.inode(ino).openers = Openers::None)?;
        }
        Ok(others)
    }

    /// The other sessions with an opener key.
    pub(super) async fn other_openers(&self, ino: Ino) -> Result<Vec<u64>, Step> {
        let me = self.0.locks.session();
        let (mut from, to) = format::opener_range(ino);
        let mut sessions = Vec::new();
        loop {
            let (page, more) = self.0.store.scan(from.clone(), to.clone(), self.0.limits.scan_page).await?;
            for (key, _) in &page {
                sessions.push(format::trailing_id(key)?);
            }
            match page.last() {
                Some((last, _)) if more => from = after(last),
                _ => break,
            }
        }
        sessions.retain(|session| *session != me);
        Ok(sessions)
    }

    /// A symlink's target.
    pub(super) async fn target(&self, held: &Locked<L::Guard>, ino: Ino) -> Result<Bytes, Step> {
        if self.record(held, ino).await?.attr.kind != FileKind::Symlink {
            return Err(FsError::Invalid("not a symbolic link").into());
        }
        if let Some(target) = self.with_state(held, |st| st.inode(ino).target.clone())? {
            return Ok(target);
        }
        let key = format::symlink_key(ino);
        let value = self.0.store.get(vec![key.clone()]).await?.into_iter().next().flatten();
        let value =
            value.ok_or_else(|| FsError::Io(format!("symbolic link {ino} has no target in the store")))?;
        let target = format::decode_bytes(&key, &value)?;
        self.with_state(held, |st| st.inode(ino).target = Some(target.clone()))?;
        Ok(target)
    }

    /// The data of blocks `want` of a file, fetching what is not cached, and with it up to block `ahead`.
    pub(super) async fn blocks(
        &self,
        held: &Locked<L::Guard>,
        record: &Record,
        want: impl IntoIterator<Item = Index>,
        ahead: Index,
    ) -> Result<BTreeMap<Index, Block>, Step> {
        let ino = record.attr.ino;
        let mut have = BTreeMap::new();
        let mut want: Vec<Index> = want.into_iter().collect();
        loop {
            let ticket = self.0.fetched.ticket();
            let mut claims = Claims { inner: &self.0, epoch: held.epoch, ino, blocks: Vec::new() };
            self.with_state(held, |st| {
                want.retain(|&index| {
                    let block = cached(st, record, index);
                    let missing = block.is_none();
                    have.extend(block.map(|b| (index, b)));
                    missing
                });
                claims.blocks = want.iter().copied().filter(|i| st.blocks.claim(ino, *i)).collect();
                let Some(&last) = claims.blocks.last() else { return };
                for index in last + 1..ahead.min(record.attr.size.div_ceil(BLOCK)) {
                    if cached(st, record, index).is_none() && st.blocks.claim(ino, index) {
                        claims.blocks.push(index);
                    }
                }
            })?;
            if want.is_empty() {
                return Ok(have);
            }
            if claims.blocks.is_empty() {
                self.0.fetched.wait(ticket).await;
                continue;
            }
            have.extend(self.fetch_blocks(record, &claims, held).await?);
            want.retain(|index| !have.contains_key(index));
        }
    }

    async fn fetch_blocks(
        &self,
        record: &Record,
        claims: &Claims<'_, L, E, C>,
        held: &Locked<L::Guard>,
    ) -> Result<Vec<(Index, Block)>, Step> {
        let (ino, size) = (record.attr.ino, record.attr.size);
        let mut fetched = Vec::with_capacity(claims.blocks.len());
        if record.layout == Layout::Bulk {
            for chunk in claims.blocks.chunks((READ_MAX / BLOCK) as usize) {
                let ranges = chunk.iter().map(|i| (i * BLOCK, blocks::block_len(size, *i) as u32)).collect();
                let data = self.0.store.read(ino, ranges).await?;
                let mut at = 0;
                for index in chunk {
                    let len = blocks::block_len(size, *index);
                    let part = data.get(at..at + len).ok_or_else(|| short_read(ino))?;
                    fetched.push((*index, Arc::new(part.to_vec())));
                    at += len;
                }
            }
        } else {
            let key = format::inline_key(ino);
            let value = self.0.store.get(vec![key.clone()]).await?.into_iter().next().flatten();
            let data = value.map(|v| format::decode_bytes(&key, &v)).transpose()?.unwrap_or_default();
            fetched.push((0, Arc::new(data[..data.len().min(blocks::block_len(size, 0))].to_vec())));
        }
        self.with_state(held, |st| {
            for (index, block) in &fetched {
                st.blocks.put(ino, *index, block.clone(), 0);
            }
            st.trim(&self.0.limits);
        })?;
        Ok(fetched)
    }
}

/// A block's data if no fetch is needed for it.
fn cached(st: &mut State, record: &Record, index: Index) -> Option<Block> {
    let ino = record.attr.ino;
    if let Some(block) = st.blocks.get(ino, index) {
        return Some(block);
    }
    let committed = st.committed;
    let hole = |inode: &Inode| inode.is_hole(index, committed);
    let beyond = index >= record.attr.size.div_ceil(BLOCK);
    (beyond || st.inodes.get(&ino).is_some_and(hole)).then(Block::default)
}

fn short_read(ino: Ino) -> FsError {
    FsError::Io(format!("the extent store gave too little data of inode {ino}"))
}

/// The first key behind `key`.
pub(super) fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// Keeps what is cached of an inode from being dropped to save memory.
pub(super) struct Pin<'a, L, E, C> {
    inner: &'a Inner<L, E, C>,
    epoch: u64,
    ino: Ino,
}

impl<'a, L, E, C> Pin<'a, L, E, C> {
    pub(super) fn new(inner: &'a Inner<L, E, C>, epoch: u64, ino: Ino) -> Result<Self, Step> {
        let mut st = inner.state.lock();
        if st.epoch != epoch {
            return Err(Step::Again);
        }
        st.inode(ino).pins += 1;
        Ok(Pin { inner, epoch, ino })
    }
}

impl<L, E, C> Drop for Pin<'_, L, E, C> {
    fn drop(&mut self) {
        let mut st = self.inner.state.lock();
        if st.epoch == self.epoch {
            st.inode(self.ino).pins -= 1;
        }
    }
}

/// Blocks that this operation fetches; others wait for it instead of fetching them too.
struct Claims<'a, L, E, C> {
    inner: &'a Inner<L, E, C>,
    epoch: u64,
    ino: Ino,
    blocks: Vec<Index>,
}

impl<L, E, C> Drop for Claims<'_, L, E, C> {
    fn drop(&mut self) {
        if self.blocks.is_empty() {
            return;
        }
        let mut st = self.inner.state.lock();
        if st.epoch == self.epoch {
            for index in &self.blocks {
                st.blocks.unclaim(self.ino, *index);
            }
        }
        drop(st);
        self.inner.fetched.signal();
    }
}
