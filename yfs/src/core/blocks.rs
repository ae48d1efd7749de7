//! The cache of file data: blocks of 64 KiB, shared copy-on-write with the generations that flush them.
//!
//! A block's buffer may be shorter than 64 KiB (what is missing is zeros) and never reaches beyond the file's size. An
//! inline file has at most block 0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::format::BLOCK;
use super::types::Ino;

/// Data of one block. A closed generation shares it; changing it then copies it.
pub type Block = Arc<Vec<u8>>;

/// Number of a block within its file.
pub type Index = u64;

struct Cached {
    data: Block,
    /// The generation that changed it last; 0 when read from the store.
    changed: u64,
    used: bool,
}

/// All cached blocks of all files.
#[derive(Default)]
pub struct Blocks {
    map: BTreeMap<(Ino, Index), Cached>,
    bytes: usize,
    /// Being fetched by someone right now.
    fetching: BTreeSet<(Ino, Index)>,
    /// Where the search for something to drop goes on.
    hand: (Ino, Index),
}

impl Blocks {
    /// Bytes cached.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A block's data, if cached.
    pub fn get(&mut self, ino: Ino, index: Index) -> Option<Block> {
        let cached = self.map.get_mut(&(ino, index))?;
        cached.used = true;
        Some(cached.data.clone())
    }

    /// Puts data into the cache; `changed` as in the module's words.
    pub fn put(&mut self, ino: Ino, index: Index, data: Block, changed: u64) {
        self.bytes += data.len();
        if let Some(old) = self.map.insert((ino, index), Cached { data, changed, used: true }) {
            self.bytes -= old.data.len();
        }
    }

    /// Takes a block out to change it, so that it is not shared with the cache.
    pub fn take(&mut self, ino: Ino, index: Index) -> Option<Block> {
        let cached = self.map.remove(&(ino, index))?;
        self.bytes -= cached.data.len();
        Some(cached.data)
    }

    /// Drops all blocks of a file from a block on.
    pub fn drop_from(&mut self, ino: Ino, from: Index) {
        let doomed: Vec<_> = self.map.range((ino, from)..=(ino, Index::MAX)).map(|(k, _)| *k).collect();
        for (ino, index) in doomed {
            self.take(ino, index);
        }
    }

    /// Claims the fetching of a block; `false` when someone is at it.
    pub fn claim(&mut self, ino: Ino, index: Index) -> bool {
        self.fetching.insert((ino, index))
    }

    /// Ends a claim.
    pub fn unclaim(&mut self, ino: Ino, index: Index) {
        self.fetching.remove(&(ino, index));
    }

    /// Drops clean blocks that were not used lately until at most `bytes_max` are cached, looking at no more than
    /// `steps` blocks.
    pub fn shrink(&mut self, bytes_max: usize, committed: u64, steps: usize) {
        for _ in 0..steps {
            if self.bytes <= bytes_max {
                return;
            }
            let Some((&place, cached)) = self.map.range_mut(self.hand..).next() else {
                self.hand = (0, 0);
                continue;
            };
            self.hand = (place.0, place.1.saturating_add(1));
            if cached.changed <= committed && !std::mem::take(&mut cached.used) {
                self.take(place.0, place.1);
            }
        }
    }
}

/// The blocks that a range of bytes touches.
pub fn touched(offset: u64, len: u64) -> std::ops::Range<Index> {
    if len == 0 { 0..0 } else { offset / BLOCK..(offset + len - 1) / BLOCK + 1 }
}

/// How many bytes of block `index` a file of `size` bytes has.
pub fn block_len(size: u64, index: Index) -> usize {
    // At most BLOCK, so it fits.
    size.saturating_sub(index.saturating_mul(BLOCK)).min(BLOCK) as usize
}

/// The block with `data` written at `at`.
pub fn overwrite(block: Block, at: usize, data: &[u8]) -> Block {
    let mut block = block;
    let end = at + data.len();
    let whole = at == 0 && end >= block.len();
    if whole && Arc::get_mut(&mut block).is_none() {
        return Arc::new(data.to_vec());
    }
    let bytes = Arc::make_mut(&mut block);
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(data);
    block
}

/// The block cut to `len` bytes.
pub fn cut(block: Block, len: usize) -> Block {
    let mut block = block;
    if block.len() > len {
        match Arc::get_mut(&mut block) {
            Some(bytes) => bytes.truncate(len),
            None => block = Arc::new(block[..len].to_vec()),
        }
    }
    block
}

/// Copies `len` bytes from `offset` out of blocks that are all there (missing ends are zeros).
pub fn gather(blocks: &BTreeMap<Index, Block>, offset: u64, len: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(len);
    let mut at = offset;
    while out.len() < len {
        let start = (at % BLOCK) as usize;
        let want = (len - out.len()).min(BLOCK as usize - start);
        let data = blocks.get(&(at / BLOCK)).map_or(&[][..], |b| &b[..]);
        let have = data.len().saturating_sub(start).min(want);
        out.extend_from_slice(&data[start.min(data.len())..start.min(data.len()) + have]);
        out.resize(out.len() + want - have, 0);
        at += want as u64;
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_block_is_copied_before_it_changes() {
        let old: Block = Arc::new(b"abcdef".to_vec());
        let new = overwrite(old.clone(), 2, b"XY");
        assert_eq!((&old[..], &new[..]), (&b"abcdef"[..], &b"abXYef"[..]));
        let grown = overwrite(new, 8, b"Z");
        assert_eq!(&grown[..], b"abXYef\0\0Z");
        assert_eq!(&cut(grown.clone(), 3)[..], b"abX");
        assert_eq!(grown.len(), 9);
    }

    #[test]
    fn ranges_and_lengths() {
        assert_eq!(touched(0, 0), 0..0);
        assert_eq!(touched(BLOCK - 1, 2), 0..2);
        assert_eq!(touched(BLOCK, BLOCK), 1..2);
        assert_eq!((block_len(10, 0), block_len(BLOCK + 3, 1), block_len(5, 7)), (10, 3, 0));
    }

    #[test]
    fn gathers_across_blocks_and_short_ends() {
        let blocks = BTreeMap::from([(0, Arc::new(b"ab".to_vec())), (1, Arc::new(b"cd".to_vec()))]);
        assert_eq!(&gather(&blocks, 1, 3)[..], b"b\0\0");
        let got = gather(&blocks, BLOCK - 1, 4);
        assert_eq!(&got[..], b"\0cd\0");
    }

    #[test]
    fn shrinking_spares_dirty_and_used_blocks() {
        let mut blocks = Blocks::default();
        for i in 0..10 {
            blocks.put(1, i, Arc::new(vec![0; 100]), if i < 3 { 7 } else { 0 });
        }
        blocks.shrink(0, 6, 1000);
        assert_eq!(blocks.bytes(), 300);
        blocks.shrink(0, 7, 1000);
        assert_eq!(blocks.bytes(), 0);
    }
}
