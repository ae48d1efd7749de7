//! Checksums of 64 consecutive blocks of an object: one record of the key-value store.
//!
//! Grouping keeps the records few (a 1 TiB object has 262,144) and still small enough to be rewritten for one block.

use crate::types::BLOCK_SIZE;

/// Blocks in a chunk; a set of them is the bits of a `u64`.
pub(crate) const CHUNK_BLOCKS: u64 = 64;

/// Which blocks of a chunk exist, and their checksums. A block that does not exist is a hole: zeros, whatever its file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crcs {
    present: u64,
    crc: [u32; CHUNK_BLOCKS as usize],
}

impl Default for Crcs {
    fn default() -> Crcs {
        Crcs { present: 0, crc: [0; CHUNK_BLOCKS as usize] }
    }
}

impl Crcs {
    /// Bits of the blocks that exist.
    pub(crate) fn present(&self) -> u64 {
        self.present
    }

    /// The checksum of block `slot` of this chunk, if it exists.
    pub(crate) fn get(&self, slot: u32) -> Option<u32> {
        (self.present >> slot & 1 == 1).then(|| self.crc[slot as usize])
    }

    pub(crate) fn set(&mut self, slot: u32, crc: u32) {
        self.present |= 1 << slot;
        self.crc[slot as usize] = crc;
    }

    /// Turns the blocks of `bits` into holes.
    pub(crate) fn clear(&mut self, bits: u64) {
        self.present &= !bits;
        slots(bits).for_each(|slot| self.crc[slot as usize] = 0);
    }

    /// Takes over from `other` the blocks it has.
    pub(crate) fn overlay(&mut self, other: &Crcs) {
        slots(other.present).for_each(|slot| self.set(slot, other.crc[slot as usize]));
    }

    /// Only the blocks of `bits`.
    pub(crate) fn only(&self, bits: u64) -> Crcs {
        let mut part = self.clone();
        part.clear(!bits);
        part
    }

    /// The bitmap and the checksums of the blocks in it, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(8 + 4 * self.present.count_ones() as usize);
        body.extend_from_slice(&self.present.to_le_bytes());
        for slot in slots(self.present) {
            body.extend_from_slice(&self.crc[slot as usize].to_le_bytes());
        }
        body
    }

    /// The inverse of [`Crcs::encode`].
    pub(crate) fn decode(body: &[u8]) -> Option<Crcs> {
        let (present, rest) = body.split_first_chunk::<8>()?;
        let present = u64::from_le_bytes(*present);
        if rest.len() != 4 * present.count_ones() as usize {
            return None;
        }
        let mut crcs = Crcs::default();
        for (slot, crc) in slots(present).zip(rest.chunks_exact(4)) {
            crcs.set(slot, u32::from_le_bytes(crc.try_into().expect("a chunk of four")));
        }
        Some(crcs)
    }
}

/// The positions of the bits set, ascending.
pub(crate) fn slots(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let slot = bits.trailing_zeros();
        (bits != 0).then(|| {
            bits &= bits - 1;
            slot
        })
    })
}

/// Chunk and slot of a block.
pub(crate) fn place(block: u64) -> (u64, u32) {
    (block / CHUNK_BLOCKS, (block % CHUNK_BLOCKS) as u32)
}

/// The first block that a truncation to `size` drops.
pub(crate) fn first_dropped(size: u64) -> u64 {
    size.div_ceil(BLOCK_SIZE)
}

/// The bits of the blocks of `chunk` at or beyond block `first`.
pub(crate) fn from_block(chunk: u64, first: u64) -> u64 {
    let start = chunk * CHUNK_BLOCKS;
    if first <= start {
        u64::MAX
    } else if first >= start + CHUNK_BLOCKS {
        0
    } else {
        u64::MAX << (first - start)
    }
}

/// The blocks that `len` > 0 bytes at `offset` touch, as a range.
pub(crate) fn blocks_of(offset: u64, len: u64) -> std::ops::RangeInclusive<u64> {
    offset / BLOCK_SIZE..=(offset + len - 1) / BLOCK_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive_encoding(blocks in proptest::collection::btree_map(0u32..64, any::<u32>(), 0..64)) {
            let mut crcs = Crcs::default();
            blocks.iter().for_each(|(slot, crc)| crcs.set(*slot, *crc));
            prop_assert_eq!(Crcs::decode(&crcs.encode()), Some(crcs.clone()));
            prop_assert_eq!(slots(crcs.present()).collect::<Vec<_>>(), blocks.keys().copied().collect::<Vec<_>>());
        }

        #[test]
        fn a_cut_drops_the_whole_blocks_beyond(chunk in 0u64..4, size in 0u64..(4 * 64 * BLOCK_SIZE)) {
            let bits = from_block(chunk, first_dropped(size));
            for slot in 0..64 {
                let begins = (chunk * CHUNK_BLOCKS + slot) * BLOCK_SIZE;
                prop_assert_eq!(bits >> slot & 1 == 1, begins >= size);
            }
        }
    }

    #[test]
    fn a_record_of_the_wrong_length_is_refused() {
        let mut crcs = Crcs::default();
        crcs.set(3, 7);
        let body = crcs.encode();
        assert_eq!(Crcs::decode(&body[..body.len() - 1]), None);
        assert_eq!(Crcs::decode(&[body, vec![0]].concat()), None);
    }
}
