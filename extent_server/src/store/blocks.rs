//! Bulk data: reading and writing the blocks of objects, every block against its checksum.
//!
//! A block's checksum covers all 64 KiB of it, zeros beyond the end of the file included. A block without checksum is a
//! hole and reads as zeros, whatever lies in the file: what was written but not committed before a crash, or what a
//! truncation has not yet given back.
//!
//! Blocks are overwritten in place. Before the first byte of a *committed* block changes, the block is marked on disk;
//! its commit takes the mark off. So a crash in between leaves a mark, and opening the store recomputes that block's
//! checksum instead of calling it corrupt.

use super::chunk::{CHUNK_BLOCKS, blocks_of, place};
use super::fences::Fences;
use super::health::Health;
use super::kv::Kv;
use super::object::Object;
use super::objects::Objects;
use super::probe::{Point, Probe};
use super::space::{Need, Space};
use super::steps::Step;
use crate::error::StoreError;
use crate::format::DataDir;
use crate::group_commit::{Batch, GroupCommit};
use crate::protocol::{check_ranges, invalid};
use crate::types::{BLOCK_SIZE, ObjectId};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const BLOCK: usize = BLOCK_SIZE as usize;

/// Ranges from this size on are on their way to the disk as soon as they are written, so that the disk works while more
/// arrives and the commit has less to wait for.
const EARLY_MIN: usize = 512 * 1024;

/// The bulk half of the embedded store.
pub(crate) struct Bulk {
    pub(crate) kv: Arc<Kv>,
    pub(crate) objects: Objects,
    pub(crate) group: Arc<GroupCommit>,
    pub(crate) fences: Arc<Fences>,
    pub(crate) space: Arc<Space>,
    pub(crate) health: Arc<Health>,
    pub(crate) probe: Option<Arc<dyn Probe>>,
    /// Keeps the directory locked for as long as files are open.
    pub(crate) _data: Arc<DataDir>,
}

impl Bulk {
    /// The bytes of `ranges` one after the other, each block checked.
    pub(crate) fn read(&self, object: ObjectId, ranges: &[(u64, u32)]) -> Result<Bytes, StoreError> {
        let total = check_ranges(ranges)?;
        let object = self.object(object)?;
        let mut out = BytesMut::zeroed(total as usize);
        let _io = object.io.read();
        let mut rest = &mut out[..];
        for &(offset, len) in ranges {
            let (range, after) = rest.split_at_mut(len as usize);
            self.read_range(&object, offset, range)?;
            rest = after;
        }
        Ok(out.freeze())
    }

    /// Fills `out`, which is zeroed, from `offset` on. The caller holds `io`.
    fn read_range(&self, object: &Object, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        if out.is_empty() {
            return Ok(());
        }
        let end = offset + out.len() as u64;
        let mut file = None;
        for block in blocks_of(offset, out.len() as u64) {
            let Some(crc) = object.state.lock().crc(&self.kv, object.id, block)? else { continue };
            let file = match &file {
                Some(file) => file,
                None => file.insert(self.file(object)?),
            };
            let start = block * BLOCK_SIZE;
            let (from, to) = (offset.max(start), end.min(start + BLOCK_SIZE));
            let part = &mut out[(from - offset) as usize..(to - offset) as usize];
            if part.len() == BLOCK {
                read_block(object, file, block, crc, part)?;
            } else {
                let mut whole = vec![0; BLOCK];
                read_block(object, file, block, crc, &mut whole)?;
                part.copy_from_slice(&whole[(from - start) as usize..(to - start) as usize]);
            }
        }
        Ok(())
    }

    /// Writes `data` into `ranges`; see the module's description.
    pub(crate) fn write(
        &self,
        session: u64,
        object: ObjectId,
        ranges: &[(u64, u32)],
        data: &Bytes,
    ) -> Result<(), StoreError> {
        if check_ranges(ranges)? != data.len() as u64 {
            return Err(invalid("the ranges of a write do not add up to its data"));
        }
        self.health.check()?;
        self.fences.check(session)?;
        if data.is_empty() {
            return Ok(());
        }
        self.space.check(data.len() as u64, Need::Grow)?;
        let object = self.object(object)?;
        let _writer = object.writer.lock();
        self.prepare(session, &object, &touched(ranges))?;
        self.probe(Point::BeforeData(object.id))?;
        let _io = object.io.write();
        // Held until the last byte is down: a fence answered means that nothing more comes.
        let _unfenced = self.fences.hold(session)?;
        let file = self.objects.file(&object, true).map_err(|e| self.io_error(&object, &e))?;
        let file = file.expect("it was to be created");
        let mut rest = &data[..];
        for &(offset, len) in ranges {
            let (range, after) = rest.split_at(len as usize);
            if len > 0 {
                self.write_range(session, &object, &file, offset, range)?;
            }
            rest = after;
        }
        self.probe(Point::AfterData(object.id))
    }

    /// Waits until no commit is carrying the touched blocks, and marks on disk those that were committed.
    fn prepare(&self, session: u64, object: &Object, touched: &BTreeMap<u64, u64>) -> Result<(), StoreError> {
        let mut steps = Vec::new();
        let mut state = object.state.lock();
        for (&chunk, &bits) in touched {
            while state.chunk(&self.kv, object.id, chunk)?.committing & bits != 0 {
                object.settled.wait(&mut state);
            }
        }
        for (&index, &touches) in touched {
            let chunk = state.chunk(&self.kv, object.id, index)?;
            let bits = touches & chunk.committed & !chunk.marked;
            if bits != 0 {
                steps.push(Step::Mark { object: object.id, chunk: index, bits });
            }
        }
        drop(state);
        if steps.is_empty() {
            return Ok(());
        }
        let marks: Vec<_> = steps.iter().filter_map(Step::as_mark).collect();
        self.group.submit(Batch { session: Some(session), steps }).wait()?;
        let mut state = object.state.lock();
        for (index, bits) in marks {
            let chunk = state.chunk(&self.kv, object.id, index)?;
            chunk.marked |= bits;
            // The next commit takes the mark off, even if the write to come fails before it changes anything.
            chunk.dirty |= bits;
        }
        Ok(())
    }

    /// Writes one range and notes the new checksums. The caller holds `writer` and `io`.
    fn write_range(
        &self,
        session: u64,
        object: &Object,
        file: &File,
        offset: u64,
        data: &[u8],
    ) -> Result<(), StoreError> {
        let crcs = self.crcs_after(object, file, offset, data)?;
        object.state.lock().unsynced = true;
        if let Err(e) = file.write_all_at(data, offset) {
            self.after_failed_write(object, file, blocks_of(offset, data.len() as u64))?;
            return Err(self.io_error(object, &e));
        }
        if data.len() >= EARLY_MIN {
            start_writeback(file, offset, data.len());
        }
        let mut state = object.state.lock();
        for (block, crc) in crcs {
            let (chunk, slot) = place(block);
            state.chunk(&self.kv, object.id, chunk)?.wrote(session, slot, crc);
        }
        Ok(())
    }

    /// The checksums that the touched blocks will have. A hole that is filled in part is emptied in the file first.
    fn crcs_after(
        &self,
        object: &Object,
        file: &File,
        offset: u64,
        data: &[u8],
    ) -> Result<Vec<(u64, u32)>, StoreError> {
        let end = offset + data.len() as u64;
        let mut crcs = Vec::new();
        for block in blocks_of(offset, data.len() as u64) {
            let start = block * BLOCK_SIZE;
            let (from, to) = (offset.max(start), end.min(start + BLOCK_SIZE));
            let part = &data[(from - offset) as usize..(to - offset) as usize];
            let crc = if part.len() == BLOCK {
                crc32fast::hash(part)
            } else {
                let mut whole = vec![0; BLOCK];
                let old = object.state.lock().crc(&self.kv, object.id, block)?;
                match old {
                    Some(crc) => read_block(object, file, block, crc, &mut whole)?,
                    None => empty(file, start, BLOCK_SIZE).map_err(|e| self.io_error(object, &e))?,
                }
                whole[(from - start) as usize..(to - start) as usize].copy_from_slice(part);
                crc32fast::hash(&whole)
            };
            crcs.push((block, crc));
        }
        Ok(crcs)
    }

    /// A write that fails may have changed some of its blocks. Holes stay holes; the others get the checksum of what
    /// they hold now, which is what a write cut short means on any file system.
    fn after_failed_write(
        &self,
        object: &Object,
        file: &File,
        blocks: std::ops::RangeInclusive<u64>,
    ) -> Result<(), StoreError> {
        for block in blocks {
            let mut state = object.state.lock();
            let (index, slot) = place(block);
            let chunk = state.chunk(&self.kv, object.id, index)?;
            if chunk.crcs.get(slot).is_none() {
                continue;
            }
            let mut whole = vec![0; BLOCK];
            match read_padded(file, block * BLOCK_SIZE, &mut whole) {
                Ok(()) => {
                    chunk.crcs.set(slot, crc32fast::hash(&whole));
                    chunk.dirty |= 1 << slot;
                }
                // Its checksum stays, and reading it tells.
                Err(e) => tracing::warn!("cannot read {} back: {e}", object.describe(block)),
            }
        }
        Ok(())
    }

    /// Gives up what a fenced session wrote and did not commit.
    pub(crate) fn drop_session(&self, session: u64) -> Result<(), StoreError> {
        for object in self.objects.all() {
            let _commits = object.commits.lock();
            let _writer = object.writer.lock();
            let _io = object.io.write();
            let mut state = object.state.lock();
            let dropped = state.chunks.values_mut().fold(0, |all, chunk| all | chunk.drop_session(session));
            let empty = state.chunks.values().all(|chunk| chunk.crcs.present() == 0);
            if dropped != 0 && empty && !self.kv.has_object(object.id)? {
                *state = Default::default();
                drop(state);
                self.objects.unlink(&object).map_err(|e| self.io_error(&object, &e))?;
            }
        }
        Ok(())
    }

    /// The object in memory.
    pub(crate) fn object(&self, id: ObjectId) -> Result<Arc<Object>, StoreError> {
        self.objects.get(id).map_err(|e| self.health.fail(format!("cannot sync bulk data: {e}")))
    }

    /// The file that must be there because a block of it has a checksum.
    pub(crate) fn file(&self, object: &Object) -> Result<Arc<File>, StoreError> {
        let file = self.objects.file(object, false).map_err(|e| self.io_error(object, &e))?;
        file.ok_or_else(|| StoreError::Corrupt {
            what: format!(
                "the file of object {:#x} is missing: {}",
                object.id,
                self.objects.path(object.id).display()
            ),
        })
    }

    pub(crate) fn probe(&self, point: Point) -> Result<(), StoreError> {
        match &self.probe {
            Some(probe) => probe.at(point).map_err(|e| StoreError::from_io(format!("{point:?}"), &e)),
            None => Ok(()),
        }
    }

    pub(crate) fn io_error(&self, object: &Object, e: &io::Error) -> StoreError {
        StoreError::from_io(self.objects.path(object.id).display(), e)
    }
}

/// The blocks that ranges touch, by chunk.
fn touched(ranges: &[(u64, u32)]) -> BTreeMap<u64, u64> {
    let mut touched = BTreeMap::new();
    for &(offset, len) in ranges.iter().filter(|(_, len)| *len > 0) {
        for block in blocks_of(offset, u64::from(len)) {
            *touched.entry(block / CHUNK_BLOCKS).or_default() |= 1 << (block % CHUNK_BLOCKS);
        }
    }
    touched
}

/// Reads a whole block into `out` and checks it.
pub(crate) fn read_block(
    object: &Object,
    file: &File,
    block: u64,
    crc: u32,
    out: &mut [u8],
) -> Result<(), StoreError> {
    read_padded(file, block * BLOCK_SIZE, out)
        .map_err(|e| StoreError::Io { what: format!("{}: {e}", object.describe(block)) })?;
    let found = crc32fast::hash(out);
    if found == crc {
        return Ok(());
    }
    let what = format!("{}: checksum is {crc:08x} but its bytes give {found:08x}", object.describe(block));
    Err(StoreError::Corrupt { what })
}

/// Fills `out` from the file; what lies beyond its end is zeros.
pub(crate) fn read_padded(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    out[done..].fill(0);
    Ok(())
}

/// Only a hint: errors come up when the file is synced.
fn start_writeback(file: &File, offset: u64, len: usize) {
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset as i64, len as i64, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Makes a region of the file read as zeros, giving its space back where the file system can.
fn empty(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let size = file.metadata()?.len();
    if offset >= size {
        return Ok(());
    }
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) } != 0;
    if !failed {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    if e.kind() != io::ErrorKind::Unsupported {
        return Err(e);
    }
    let zeros = vec![0; BLOCK];
    let end = size.min(offset + len);
    let mut at = offset;
    while at < end {
        let n = BLOCK_SIZE.min(end - at);
        file.write_all_at(&zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}
