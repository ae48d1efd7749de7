//! One bulk object in memory: its open file, and what is known of its blocks.
//!
//! Lock order, outermost first: `commits`, `writer`, `io`, the fences, `state` and `file` (held briefly, never together).
//! Several objects' `commits` are taken in ascending order of ids.

use super::chunk::{CHUNK_BLOCKS, Crcs, from_block, place, slots};
use super::kv::Kv;
use crate::error::StoreError;
use crate::types::ObjectId;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

/// Clean chunks remembered for one object; 256 describe 1 GiB of it in about 80 KiB of memory.
const CLEAN_CHUNKS_MAX: usize = 256;

/// A bulk object.
pub(crate) struct Object {
    pub(crate) id: ObjectId,
    /// Held by a commit that names, cuts or removes the object, until it is durable.
    pub(crate) commits: Mutex<()>,
    /// Held by whoever writes to the object.
    pub(crate) writer: Mutex<()>,
    /// Shared by readers; exclusive while bytes of the file and checksums change together.
    pub(crate) io: RwLock<()>,
    pub(crate) state: Mutex<State>,
    /// Signalled when a commit has let go of its blocks.
    pub(crate) settled: Condvar,
    pub(crate) file: Mutex<Option<Arc<File>>>,
}

/// What is known of an object's blocks.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) chunks: BTreeMap<u64, Chunk>,
    /// Written to since the file was last synced.
    pub(crate) unsynced: bool,
    /// The file's directory entry may not be on disk.
    pub(crate) created: bool,
}

/// Blocks of one chunk. Each set is the bits of its blocks.
#[derive(Default)]
pub(crate) struct Chunk {
    /// As a reader sees them now, uncommitted writes included.
    pub(crate) crcs: Crcs,
    /// Blocks with a checksum in the key-value store.
    pub(crate) committed: u64,
    /// Blocks written (or marked to be) since they were committed.
    pub(crate) dirty: u64,
    /// Committed blocks marked on disk as overwritten.
    pub(crate) marked: u64,
    /// Blocks on their way through a commit; nobody may write to them until it is done.
    pub(crate) committing: u64,
    /// Uncommitted blocks that one session alone has written to.
    owners: Vec<(u64, u64)>,
}

impl Chunk {
    /// Notes that `session` has written block `slot`.
    pub(crate) fn wrote(&mut self, session: u64, slot: u32, crc: u32) {
        let bit = 1 << slot;
        let fresh = self.dirty & bit == 0;
        let shared = self.owners.iter().any(|(owner, bits)| *owner != session && bits & bit != 0);
        if shared {
            self.disown(bit);
        } else if fresh {
            match self.owners.iter_mut().find(|(owner, _)| *owner == session) {
                Some((_, bits)) => *bits |= bit,
                None => self.owners.push((session, bit)),
            }
        }
        self.crcs.set(slot, crc);
        self.dirty |= bit;
    }

    /// Gives up what `session` alone wrote into holes, and returns those blocks. What it overwrote in place stays as it
    /// is, nobody's.
    pub(crate) fn drop_session(&mut self, session: u64) -> u64 {
        let owned = self.owners.iter().find(|(owner, _)| *owner == session).map_or(0, |(_, bits)| *bits);
        self.disown(owned);
        let holes = owned & !self.committed;
        self.crcs.clear(holes);
        self.dirty &= !holes;
        holes
    }

    /// The commit of `bits` is durable.
    pub(crate) fn committed(&mut self, bits: u64) {
        self.committed |= bits;
        self.dirty &= !bits;
        self.marked &= !bits;
        self.disown(bits);
    }

    /// The blocks of `bits` are gone, in the key-value store as well.
    pub(crate) fn dropped(&mut self, bits: u64) {
        self.crcs.clear(bits);
        self.committed &= !bits;
        self.dirty &= !bits;
        self.marked &= !bits;
        self.disown(bits);
    }

    fn disown(&mut self, bits: u64) {
        self.owners.iter_mut().for_each(|(_, owned)| *owned &= !bits);
        self.owners.retain(|(_, owned)| *owned != 0);
    }

    fn is_clean(&self) -> bool {
        self.dirty | self.marked | self.committing == 0
    }
}

impl State {
    /// The chunk, fetched from the key-value store if it is not in memory.
    pub(crate) fn chunk(&mut self, kv: &Kv, object: ObjectId, index: u64) -> Result<&mut Chunk, StoreError> {
        if !self.chunks.contains_key(&index) {
            if self.chunks.len() >= CLEAN_CHUNKS_MAX {
                self.chunks.retain(|_, chunk| !chunk.is_clean());
            }
            let crcs = kv.crcs(object, index)?;
            let committed = crcs.present();
            self.chunks.insert(index, Chunk { crcs, committed, ..Chunk::default() });
        }
        Ok(self.chunks.get_mut(&index).expect("it was just put there"))
    }

    /// The checksum a reader must find in `block`; `None` for a hole.
    pub(crate) fn crc(&mut self, kv: &Kv, object: ObjectId, block: u64) -> Result<Option<u32>, StoreError> {
        let (chunk, slot) = place(block);
        Ok(self.chunk(kv, object, chunk)?.crcs.get(slot))
    }

    /// The blocks in memory from block `first` on that are not holes, ascending.
    pub(crate) fn present_from(&self, first: u64) -> Vec<u64> {
        let chunks = self.chunks.range(first / CHUNK_BLOCKS..);
        let blocks = chunks.flat_map(|(index, chunk)| {
            let bits = chunk.crcs.present() & from_block(*index, first);
            slots(bits).map(move |slot| index * CHUNK_BLOCKS + u64::from(slot))
        });
        blocks.collect()
    }

    /// Whether nothing is lost when this is forgotten.
    pub(crate) fn is_clean(&self) -> bool {
        !self.unsynced && !self.created && self.chunks.values().all(Chunk::is_clean)
    }

    /// Whether writes wait for a commit.
    pub(crate) fn is_dirty(&self) -> bool {
        self.chunks.values().any(|chunk| chunk.dirty != 0)
    }
}

impl Object {
    pub(crate) fn new(id: ObjectId) -> Object {
        Object {
            id,
            commits: Mutex::new(()),
            writer: Mutex::new(()),
            io: RwLock::new(()),
            state: Mutex::default(),
            settled: Condvar::new(),
            file: Mutex::new(None),
        }
    }

    /// A block of this object in words.
    pub(crate) fn describe(&self, block: u64) -> String {
        format!("block {block} of object {:#x}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_session_leaves_holes_where_it_was_alone() {
        let mut chunk = Chunk { committed: 0b1, dirty: 0, ..Chunk::default() };
        chunk.crcs.set(0, 9);
        chunk.wrote(7, 0, 10); // overwritten in place
        chunk.wrote(7, 1, 11); // alone in a hole
        chunk.wrote(7, 2, 12); // then also by another
        chunk.wrote(8, 2, 13);
        chunk.wrote(8, 3, 14); // another alone
        assert_eq!(chunk.drop_session(7), 0b10);
        assert_eq!(chunk.crcs.present(), 0b1101);
        assert_eq!(chunk.dirty, 0b1101);
        assert_eq!(chunk.drop_session(7), 0);
        assert_eq!(chunk.drop_session(8), 0b1000);
    }

    #[test]
    fn committed_blocks_are_nobodys() {
        let mut chunk = Chunk::default();
        chunk.wrote(7, 1, 11);
        chunk.committed(0b10);
        assert_eq!((chunk.dirty, chunk.committed), (0, 0b10));
        assert_eq!(chunk.drop_session(7), 0);
        assert!(chunk.is_clean());
    }
}
