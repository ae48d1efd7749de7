//! File contents: reading, writing, syncing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::attr::clear_privileges;
use crate::core::blocks::{self, Block, Index};
use crate::core::cache::{Presence, ReadPattern, State, Wish};
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::{BLOCK, Layout, Record};
use crate::core::fs::Fs;
use crate::core::locking::Locked;
use crate::core::reports::{Caller, OpenId};
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::tx::last_needed;
use crate::core::types::{Cred, FILE_SIZE_MAX, FileKind, Ino, Mode, Time};

/// The first read-ahead of a sequential reader.
const WINDOW_MIN: u64 = 2 * BLOCK;
/// Wishes of readers that may wait.
const WISHES_MAX: usize = 64;
/// An access time older than this is brought up to date by a read.
const ATIME_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Up to `len` bytes from `offset`; fewer only at the end of the file.
    pub async fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes, FsError> {
        attempt!(self.read_once(ino, offset, len))
    }

    async fn read_once(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes, Step> {
        let held = self.lock(&[(ino, Mode::Shared)]).await?;
        let record = self.record(&held, ino).await?;
        refuse_other(&record)?;
        let len = record.attr.size.saturating_sub(offset).min(len.into());
        if len == 0 {
            return Ok(Bytes::new());
        }
        let ahead =
            self.with_state(&held, |st| plan_ahead(st, &record, offset + len, offset, &self.0.limits))?;
        if ahead.wished {
            self.0.to_fetch.signal();
        }
        let data = self.blocks(&held, &record, blocks::touched(offset, len), ahead.upto).await?;
        let (epoch, now) = (held.epoch, self.0.clock.now());
        drop(held);
        if atime_due(&record, now) {
            self.touch_atime(epoch, ino, now);
        }
        Ok(blocks::gather(&data, offset, len as usize))
    }

    /// Sets the access time where that costs no lock traffic: when the exclusive lock is at hand anyway.
    fn touch_atime(&self, epoch: u64, ino: Ino, now: Time) {
        let Some(held) = self.try_lock(epoch, (ino, Mode::Exclusive)) else { return };
        let Ok(mut tx) = self.begin(&held) else { return };
        if let Presence::There(mut record) = tx.inode(ino).record {
            record.attr.atime = now;
            tx.put(record);
        }
    }

    /// As [`Fs::write_by`], through no open of the file.
    pub async fn write(
        &self,
        ino: Ino,
        offset: u64,
        data: Bytes,
        append: bool,
        cred: Cred,
    ) -> Result<u32, FsError> {
        self.write_by(Caller::Anybody, ino, offset, data, append, cred).await
    }

    /// Writes all of `data` at `offset`, or with `append` at the true end. A writer other than root clears set-uid
    /// and set-gid. Instead the caller may be told what was lost; then nothing is written.
    pub async fn write_by(
        &self,
        caller: Caller,
        ino: Ino,
        offset: u64,
        data: Bytes,
        append: bool,
        cred: Cred,
    ) -> Result<u32, FsError> {
        let len = u32::try_from(data.len()).map_err(|_| FsError::Invalid("more than 4 GiB in one write"))?;
        self.make_room(true).await?;
        let offset = if append { None } else { Some(offset) };
        attempt!(self.write_once(caller, ino, offset, &data, cred))?;
        Ok(len)
    }

    async fn write_once(
        &self,
        caller: Caller,
        ino: Ino,
        offset: Option<u64>,
        data: &Bytes,
        cred: Cred,
    ) -> Result<(), Step> {
        let held = self.lock(&[(ino, Mode::Exclusive)]).await?;
        self.0.state.lock().reports.tell(ino, caller)?;
        let mut record = self.record(&held, ino).await?;
        refuse_other(&record)?;
        if data.is_empty() {
            return Ok(());
        }
        let offset = offset.unwrap_or(record.attr.size);
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_SIZE_MAX);
        let end = end.ok_or(FsError::FileTooBig)?.max(record.attr.size);
        let (loaded, last) = self.load_for_write(&held, &record, offset, data.len() as u64, end).await?;
        let mut tx = self.begin(&held)?;
        if offset / BLOCK > record.attr.size.div_ceil(BLOCK) {
            tx.clear_tail(&record, end);
        }
        tx.resize(&mut record, end, last);
        tx.write(&record, offset, data, loaded);
        record.modified(tx.now);
        clear_privileges(&mut record, cred);
        tx.put(record);
        Ok(())
    }

    /// The old data that a write needs: of blocks written in part, and of the last block if the file grows beyond it.
    async fn load_for_write(
        &self,
        held: &Locked<L::Guard>,
        record: &Record,
        offset: u64,
        len: u64,
        end: u64,
    ) -> Result<(BTreeMap<Index, Block>, Option<Block>), Step> {
        let touched = blocks::touched(offset, len);
        let whole = |index: Index| {
            offset <= index * BLOCK
                && offset + len >= (index * BLOCK + BLOCK).min(end)
                && touched.contains(&index)
        };
        let last = last_needed(record, end);
        let mut want = vec![touched.start, touched.end - 1];
        want.extend(last);
        want.sort_unstable();
        want.dedup();
        want.retain(|index| !whole(*index) && *index < record.attr.size.div_ceil(BLOCK));
        if want.is_empty() {
            return Ok((BTreeMap::new(), last.map(|_| Block::default())));
        }
        let loaded = self.blocks(held, record, want, 0).await?;
        // A block that is overwritten as a whole needs no old data.
        let last = last.map(|index| loaded.get(&index).cloned().unwrap_or_default());
        Ok((loaded, last))
    }

    /// As [`Fs::flush_by`], through no open of the file.
    pub async fn flush(&self, ino: Ino) -> Result<(), FsError> {
        self.flush_by(Caller::Anybody, ino).await
    }

    /// What `close(2)` waits for (the FLUSH request): writes nothing, but tells what was lost (EIO) or does not fit
    /// (ENOSPC).
    pub async fn flush_by(&self, caller: Caller, ino: Ino) -> Result<(), FsError> {
        let mut st = self.0.state.lock();
        st.reports.warn(ino, caller)?;
        if st.full && st.dirty(ino).is_some() { Err(FsError::NoSpace) } else { Ok(()) }
    }

    /// As [`Fs::fsync_by`], through no open of the file.
    pub async fn fsync(&self, ino: Ino) -> Result<(), FsError> {
        self.fsync_by(Caller::Anybody, ino).await
    }

    /// Makes everything that happened to this inode (and before it on this mount) durable. Also for directories.
    pub async fn fsync_by(&self, caller: Caller, ino: Ino) -> Result<(), FsError> {
        #[cfg(feature = "planted")]
        if lock_rsm::planted::is_in_stack(lock_rsm::planted::StackBug::SyncWithoutFlush) {
            return Ok(());
        }
        let (epoch, dirty) = {
            // One look: a session lost between two would leave nothing dirty and nothing told.
            let mut st = self.0.state.lock();
            st.reports.tell(ino, caller)?;
            (st.epoch, st.dirty(ino))
        };
        let Some(generation) = dirty else { return Ok(()) };
        let result = self.flush_to(epoch, generation).await;
        if result == Err(FsError::Lost) {
            // Told now; not a second time.
            let _ = self.0.state.lock().reports.tell(ino, caller);
        }
        result
    }

    /// A file was opened, successfully; what is done through this open is to name it as the caller.
    pub fn opened(&self, ino: Ino) -> OpenId {
        self.0.state.lock().reports.opened(ino)
    }

    /// The open is over, besides [`Fs::release`].
    pub fn closed(&self, id: OpenId) {
        self.0.state.lock().reports.closed(id);
    }
}

fn refuse_other(record: &Record) -> Result<(), FsError> {
    match record.attr.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(FsError::IsDir),
        _ => Err(FsError::Invalid("only regular files have contents here")),
    }
}

fn atime_due(record: &Record, now: Time) -> bool {
    let a = &record.attr;
    a.atime <= a.mtime || a.atime <= a.ctime || now.since(a.atime).is_some_and(|age| age >= ATIME_AGE)
}

struct Ahead {
    /// Blocks up to here are fetched along if any must be fetched.
    upto: Index,
    wished: bool,
}

/// Watches how a file is read: reads that follow each other closely double the window up to its bound. What the
/// window covers and nobody asked for yet is wished for in the background.
fn plan_ahead(
    st: &mut State,
    record: &Record,
    end: u64,
    offset: u64,
    limits: &crate::core::fs::Limits,
) -> Ahead {
    let ino = record.attr.ino;
    if record.layout != Layout::Bulk {
        return Ahead { upto: 0, wished: false };
    }
    let mut pattern = st.inode(ino).reading;
    // The kernel's own read-ahead comes from several threads, a little out of order.
    let slack = pattern.window.max(WINDOW_MIN);
    if offset > pattern.next.saturating_add(slack) || offset.saturating_add(slack) < pattern.next {
        st.inode(ino).reading = ReadPattern { next: end, window: 0, asked: end };
        return Ahead { upto: 0, wished: false };
    }
    pattern.window = (pattern.window * 2).max(WINDOW_MIN).min(limits.read_ahead_max);
    pattern.next = pattern.next.max(end);
    let want = pattern.next.saturating_add(pattern.window);
    let mut wished = false;
    if pattern.asked < end {
        pattern.asked = want;
    } else if pattern.asked < want && pattern.asked < record.attr.size && pattern.window > 0 {
        if st.wishes.len() < WISHES_MAX {
            st.wishes.push_back(Wish { ino, from: pattern.asked, len: pattern.window });
            wished = true;
        }
        pattern.asked += pattern.window;
    }
    st.inode(ino).reading = pattern;
    Ahead { upto: want.div_ceil(BLOCK), wished }
}
