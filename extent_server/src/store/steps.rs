//! What a commit does to the key-value store, and how the records of the store are named there.
//!
//! All records live in one LSM tree, told apart by the first byte of their keys. One tree, because then a flush of it to
//! disk is always a prefix of the history, and the sequence number stored with each group tells how long a prefix.

use super::chunk::Crcs;
use crate::types::{Key, ObjectId, Op, Value};

/// One change. The steps of a batch apply in order.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sets a user key.
    Put { key: Key, value: Value },
    /// Removes a user key.
    Delete { key: Key },
    /// Removes all user keys with a prefix.
    DeletePrefix { prefix: Key },
    /// Drops checksums and marks of an object from a block on.
    Trim { object: ObjectId, first: u64 },
    /// Sets the checksums that `crcs` has, and takes the marks off these blocks.
    SetCrcs { object: ObjectId, chunk: u64, crcs: Box<Crcs> },
    /// Marks blocks whose committed contents are about to be overwritten in place.
    Mark { object: ObjectId, chunk: u64, bits: u64 },
    /// Fences a session.
    Fence { session: u64 },
}

impl Step {
    /// About how many bytes the step brings into the log.
    pub(crate) fn cost(&self) -> u64 {
        32 + match self {
            Step::Put { key, value } => (key.len() + value.len()) as u64,
            Step::Delete { key } | Step::DeletePrefix { prefix: key } => key.len() as u64,
            Step::SetCrcs { crcs, .. } => 4 * u64::from(crcs.present().count_ones()),
            Step::Trim { .. } | Step::Mark { .. } | Step::Fence { .. } => 16,
        }
    }

    /// Chunk and blocks of a mark.
    pub(crate) fn as_mark(&self) -> Option<(u64, u64)> {
        match self {
            Step::Mark { chunk, bits, .. } => Some((*chunk, *bits)),
            _ => None,
        }
    }

    /// Whether the step gives space back, so that it is let through when the store is full.
    pub(crate) fn frees(&self) -> bool {
        matches!(
            self,
            Step::Delete { .. } | Step::DeletePrefix { .. } | Step::Trim { .. } | Step::Fence { .. }
        )
    }
}

impl From<Op> for Step {
    fn from(op: Op) -> Step {
        match op {
            Op::Put { key, value } => Step::Put { key, value },
            Op::Delete { key } => Step::Delete { key },
            Op::DeletePrefix { prefix } => Step::DeletePrefix { prefix },
            Op::Truncate { object, size } => Step::Trim { object, first: super::chunk::first_dropped(size) },
            Op::Remove { object } => Step::Trim { object, first: 0 },
        }
    }
}

/// First byte of the keys of each kind of record.
pub(crate) mod space {
    /// Keys of the user.
    pub(crate) const USER: u8 = b'k';
    /// Block checksums, by object and chunk.
    pub(crate) const CRCS: u8 = b'c';
    /// Blocks overwritten in place since they were committed, by object and chunk.
    pub(crate) const MARKS: u8 = b'm';
    /// Fenced sessions.
    pub(crate) const FENCES: u8 = b'f';
    /// The store's own: [`SEQUENCE`](super::SEQUENCE), [`IDENTITY`](super::IDENTITY).
    pub(crate) const SYSTEM: u8 = b's';
}

/// Where the number of the last group of commits is kept.
pub(crate) const SEQUENCE: &[u8] = &[space::SYSTEM, b'q'];

/// Where the identity of the store is kept, so that a foreign tree under our mark is noticed.
pub(crate) const IDENTITY: &[u8] = &[space::SYSTEM, b'i'];

/// The stored key of a user's key.
pub(crate) fn user_key(key: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(1 + key.len());
    raw.push(space::USER);
    raw.extend_from_slice(key);
    raw
}

/// The stored key of the checksums (or marks) of a chunk.
pub(crate) fn chunk_key(space: u8, object: ObjectId, chunk: u64) -> Vec<u8> {
    let mut raw = object_prefix(space, object);
    raw.extend_from_slice(&chunk.to_be_bytes());
    raw
}

/// What the stored keys of an object's checksums (or marks) begin with.
pub(crate) fn object_prefix(space: u8, object: ObjectId) -> Vec<u8> {
    let mut raw = Vec::with_capacity(17);
    raw.push(space);
    raw.extend_from_slice(&object.to_be_bytes());
    raw
}

/// Object and chunk of a stored key of checksums or marks.
pub(crate) fn parse_chunk_key(raw: &[u8]) -> Option<(ObjectId, u64)> {
    let (object, chunk) = raw.get(1..)?.split_at_checked(8)?;
    Some((u64::from_be_bytes(object.try_into().ok()?), u64::from_be_bytes(chunk.try_into().ok()?)))
}

/// The stored key of a fence.
pub(crate) fn fence_key(session: u64) -> Vec<u8> {
    object_prefix(space::FENCES, session)
}

/// The session of a stored key of a fence.
pub(crate) fn parse_fence_key(raw: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(raw.get(1..)?.try_into().ok()?))
}

/// A stored key in words.
pub(crate) fn describe(raw: &[u8]) -> String {
    match (raw.first(), parse_chunk_key(raw)) {
        (Some(&space::USER), _) => format!("key \"{}\"", raw[1..].escape_ascii()),
        (Some(&space::CRCS), Some((object, chunk))) => {
            format!("checksums of object {object:#x}, chunk {chunk}")
        }
        (Some(&space::MARKS), Some((object, chunk))) => format!("marks of object {object:#x}, chunk {chunk}"),
        _ => format!("record \"{}\"", raw.escape_ascii()),
    }
}
