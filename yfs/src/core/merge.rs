//! Two closed generations made one, when the older finds no space: what the newer removes need not be written first.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::blocks::{Block, Index};
use super::format::BLOCK;
use super::generation::Closed;
use super::traits::Op;
use super::types::Ino;

/// Bytes of operations in a merged commit; two or three full generations.
const OPS_BYTES_MAX: usize = 12 << 20;

/// Whether the newer generation's data may not go to the store before the older one is committed: the store applies
/// operations before the data that was written until then, so what the older cuts would come back.
pub fn must_wait(older: &Closed, newer: &Closed) -> bool {
    older.session != newer.session || cuts(older).any(|(object, from)| has_data(newer, object, from))
}

/// One generation with the effect of `older` and then `newer`, or `None` if that cannot be.
pub fn merge(older: &Closed, newer: &Closed) -> Option<Closed> {
    if must_wait(older, newer) {
        return None;
    }
    let mut data: BTreeMap<(Ino, Index), Block> = blocks(older).collect();
    for (object, from) in cuts(newer) {
        data.retain(|(o, index), _| *o != object || *index < from);
    }
    data.extend(blocks(newer));
    // Some of the older data may have been sent. Where it is cut now, a commit that names the object would keep it.
    let named = |object| data.range((object, 0)..=(object, Index::MAX)).next().is_some();
    if cuts(newer).any(|(object, from)| has_data(older, object, from) && named(object)) {
        return None;
    }
    let ops = join_ops(&older.ops, &newer.ops);
    let bytes: usize = ops.iter().map(op_bytes).sum();
    if bytes > OPS_BYTES_MAX {
        return None;
    }
    let inodes: BTreeSet<Ino> = older.inodes.iter().chain(&newer.inodes).copied().collect();
    Some(Closed {
        number: newer.number,
        session: newer.session,
        ops,
        bytes: bytes + data.len() * BLOCK as usize,
        data: by_object(data),
        inodes: inodes.into_iter().collect(),
    })
}

/// Objects that a generation cuts, and the first block that goes.
fn cuts(closed: &Closed) -> impl Iterator<Item = (Ino, Index)> {
    closed.ops.iter().filter_map(|op| match op {
        Op::Truncate { object, size } => Some((*object, size.div_ceil(BLOCK))),
        Op::Remove { object } => Some((*object, 0)),
        _ => None,
    })
}

fn has_data(closed: &Closed, object: Ino, from: Index) -> bool {
    closed.data.iter().any(|(o, blocks)| *o == object && blocks.iter().any(|(index, _)| *index >= from))
}

fn blocks(closed: &Closed) -> impl Iterator<Item = ((Ino, Index), Block)> {
    let of_object = |(object, blocks): &(Ino, Vec<(Index, Block)>)| {
        let object = *object;
        blocks.clone().into_iter().map(move |(index, block)| ((object, index), block))
    };
    closed.data.iter().flat_map(of_object)
}

fn by_object(data: BTreeMap<(Ino, Index), Block>) -> Vec<(Ino, Vec<(Index, Block)>)> {
    let mut out: Vec<(Ino, Vec<(Index, Block)>)> = Vec::new();
    for ((object, index), block) in data {
        match out.last_mut() {
            Some((last, blocks)) if *last == object => blocks.push((index, block)),
            _ => out.push((object, vec![(index, block)])),
        }
    }
    out
}

/// The operations of both in order, without what is overwritten or removed later.
fn join_ops(older: &[Op], newer: &[Op]) -> Vec<Op> {
    let rewritten: BTreeSet<&Bytes> = newer.iter().filter_map(key_of).collect();
    let removed: BTreeSet<&Bytes> = newer
        .iter()
        .filter_map(|op| if let Op::DeletePrefix { prefix } = op { Some(prefix) } else { None })
        .collect();
    let superseded = |key: &Bytes| {
        let owner = key.slice(..key.len().min(size_of::<Ino>()));
        rewritten.contains(key) || removed.contains(&owner)
    };
    let kept = older.iter().filter(|op| !key_of(op).is_some_and(superseded));
    kept.chain(newer).cloned().collect()
}

fn key_of(op: &Op) -> Option<&Bytes> {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => Some(key),
        _ => None,
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value } => key.len() + value.len(),
        Op::Delete { key } => key.len(),
        Op::DeletePrefix { prefix } => prefix.len(),
        Op::Truncate { .. } | Op::Remove { .. } => size_of::<u64>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn generation(number: u64, ops: Vec<Op>, data: Vec<(Ino, Vec<Index>)>) -> Closed {
        let block = |i: &Index| (*i, Arc::new(vec![number as u8]));
        let data = data.into_iter().map(|(o, list)| (o, list.iter().map(block).collect())).collect();
        Closed { number, session: 1, ops, data, inodes: vec![number], bytes: 0 }
    }

    fn put(key: &'static [u8]) -> Op {
        Op::Put { key: Bytes::from_static(key), value: Bytes::from_static(b"v") }
    }

    #[test]
    fn what_is_removed_later_is_not_written_first() {
        let prefix = Bytes::copy_from_slice(&7u64.to_be_bytes());
        let key = Bytes::from([&prefix[..], b"data"].concat());
        let old_put = Op::Put { key, value: Bytes::from_static(b"much") };
        let older = generation(1, vec![old_put, put(b"other")], vec![(7, vec![0, 1]), (8, vec![0])]);
        let newer = generation(2, vec![Op::DeletePrefix { prefix }, Op::Remove { object: 7 }], vec![]);
        let merged = merge(&older, &newer).unwrap();
        assert_eq!(merged.number, 2);
        assert_eq!(merged.ops[0], put(b"other"));
        assert_eq!(merged.ops.len(), 3);
        assert_eq!(merged.data.iter().map(|d| d.0).collect::<Vec<_>>(), [8]);
        assert_eq!(merged.inodes, [1, 2]);
    }

    #[test]
    fn newer_blocks_win() {
        let older = generation(1, vec![], vec![(7, vec![0, 1])]);
        let newer = generation(2, vec![Op::Truncate { object: 7, size: BLOCK + 1 }], vec![(7, vec![0])]);
        let merged = merge(&older, &newer).unwrap();
        let kept: Vec<_> = merged.data[0].1.iter().map(|(i, b)| (*i, b[0])).collect();
        assert_eq!(kept, [(0, 2), (1, 1)]);
    }

    #[test]
    fn data_that_was_sent_and_is_cut_now_must_not_be_named() {
        let older = generation(1, vec![], vec![(7, vec![0, 1])]);
        let cut = |size| generation(2, vec![Op::Truncate { object: 7, size }], vec![]);
        assert!(merge(&older, &cut(5)).is_none());
        assert!(merge(&older, &cut(0)).unwrap().data.is_empty());
    }

    #[test]
    fn data_written_behind_a_cut_stays_behind_it() {
        let older = generation(1, vec![Op::Truncate { object: 7, size: 0 }], vec![]);
        let newer = generation(2, vec![], vec![(7, vec![0])]);
        assert!(merge(&older, &newer).is_none());
    }
}
