//! Every message between an extent client and the server.
//!
//! Values, bulk data and what accompanies them travel raw in the payload of a frame, one after the other in the order
//! the header names them; the header (through `rpc::codec`) carries only their lengths. So bulk data is never run through
//! the codec, and the receiver slices the payload without copying. The keys of a lookup stand in the header itself: a call
//! without payload is answered on the connection's own task when it is ready at once, which cached lookups are.
//!
//! The body of every reply but the fence's is `Result<T, StoreError>`, because a status number could not say *which*
//! key is corrupt. [`FENCE`] answers with an empty body or the number [`StoreError::code`], so that a lock server needs
//! to know nothing but [`Fence`] to call it.

use crate::error::StoreError;
use crate::types::{
    BootId, COMMIT_BYTES_MAX, COMMIT_OBJECTS_MAX, COMMIT_OPS_MAX, KEY_MAX, Key, OBJECT_SIZE_MAX, ObjectId,
    Op, VALUE_MAX, Value,
};
use bytes::{Bytes, BytesMut};
use rpc::Proc;
use serde::{Deserialize, Serialize};

/// [`WriteArgs`] with the data as payload -> [`WriteReply`]: bulk data into the server's page cache.
pub const WRITE: Proc = 0x6001;
/// [`GetArgs`] -> [`GetReply`] with the values as payload.
pub const GET: Proc = 0x6002;
/// [`ScanArgs`] -> [`ScanReply`] with keys and values as payload.
pub const SCAN: Proc = 0x6005;
/// [`ReadArgs`] -> `()` with the bytes as payload.
pub const READ: Proc = 0x6006;
/// [`CommitArgs`] with keys and values as payload -> `()`: all or nothing, durable when answered.
pub const COMMIT: Proc = 0x6007;
/// `()` -> [`StatFs`](crate::StatFs).
pub const STATFS: Proc = 0x6008;
/// [`Fence`] -> `()`, or a status: nothing of that session lands once this is answered.
pub const FENCE: Proc = 0x6010;
/// `()` -> [`ExtentStatus`](crate::ExtentStatus).
pub const STATUS: Proc = 0x6011;

/// Most bytes of bulk data in one [`WRITE`] or [`READ`]; the client splits larger ones.
pub const DATA_MAX: u64 = 8 << 20;
/// Most ranges in one [`WRITE`] or [`READ`].
pub const RANGES_MAX: usize = 4096;
/// Most keys in one [`GET`].
pub const KEYS_MAX: usize = 4096;
/// A [`GET`] or [`SCAN`] answers what fits in about this many bytes (and at least one entry); the client asks for the rest.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// A [`SCAN`] answers at most this many entries at once.
pub const SCAN_ENTRIES_MAX: u32 = 16 * 1024;

/// What every reply body but the fence's is.
pub type Reply<T> = Result<T, StoreError>;

/// Bulk data to lay down, see [`WRITE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteArgs {
    /// Who writes.
    pub session: u64,
    /// Where to.
    pub object: ObjectId,
    /// (offset, length) of each piece; the payload holds the pieces in this order. Later pieces win where they overlap.
    pub ranges: Vec<(u64, u32)>,
}

/// Answer of [`WRITE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReply {
    /// The life of the server that took the write.
    pub boot: BootId,
}

/// Keys to look up, see [`GET`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetArgs {
    /// The keys.
    pub keys: Vec<WireKey>,
}

/// Answer of [`GET`], for the first keys asked: all of them, or as many as fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// Length of each value in the payload; `None` for an absent key.
    pub values: Vec<Option<u32>>,
}

/// A range of keys, see [`SCAN`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanArgs {
    /// The first key.
    pub from: WireKey,
    /// One past the last key.
    pub to: WireKey,
    /// Most entries wanted.
    pub limit: u32,
}

/// Answer of [`SCAN`], in ascending order of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReply {
    /// Lengths of each key and value in the payload.
    pub entries: Vec<(u32, u32)>,
    /// Whether the range holds more entries after these.
    pub more: bool,
}

/// Bulk data to read, see [`READ`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadArgs {
    /// What to read from.
    pub object: ObjectId,
    /// (offset, length) of each piece; the answer's payload holds them in this order.
    pub ranges: Vec<(u64, u32)>,
}

/// A batch to commit, see [`COMMIT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitArgs {
    /// Who commits.
    pub session: u64,
    /// The operations in order; the payload holds their keys and values in this order.
    pub ops: Vec<WireOp>,
    /// Objects whose written data becomes durable with this commit, and the life of the server that took the writes.
    pub objects: Vec<(ObjectId, BootId)>,
}

/// An [`Op`] with lengths in the place of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WireOp {
    /// See [`Op::Put`].
    Put {
        /// Length of the key.
        key: u32,
        /// Length of the value, after the key.
        value: u32,
    },
    /// See [`Op::Delete`].
    Delete {
        /// Length of the key.
        key: u32,
    },
    /// See [`Op::DeletePrefix`].
    DeletePrefix {
        /// Length of the prefix.
        prefix: u32,
    },
    /// See [`Op::Truncate`].
    Truncate {
        /// The object to cut.
        object: ObjectId,
        /// Its new length in bytes.
        size: u64,
    },
    /// See [`Op::Remove`].
    Remove {
        /// The object to remove.
        object: ObjectId,
    },
}

/// Asks that nothing of `session` be taken any more, ever, see [`FENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The session to fence.
    pub session: u64,
}

/// A key in a header, encoded as one run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireKey(pub Key);

impl Serialize for WireKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for WireKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<WireKey, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = WireKey;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of a key")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<WireKey, E> {
                Ok(WireKey(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<WireKey, E> {
                Ok(WireKey(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Cuts a payload into the pieces its header names.
pub struct Unpacker {
    rest: Bytes,
}

impl Unpacker {
    /// Starts at the front of `payload`.
    pub fn new(payload: Bytes) -> Unpacker {
        Unpacker { rest: payload }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: u32) -> Result<Bytes, StoreError> {
        if self.rest.len() < len as usize {
            return Err(invalid("the payload is shorter than its header says"));
        }
        Ok(self.rest.split_to(len as usize))
    }

    /// To be called when all pieces are taken: nothing may be left over.
    pub fn finish(self) -> Result<(), StoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(invalid("the payload is longer than its header says")) }
    }
}

/// Separates operations into header and payload.
pub fn pack_ops(ops: &[Op]) -> (Vec<WireOp>, Bytes) {
    let mut payload = BytesMut::with_capacity(ops.iter().map(Op::cost).sum());
    let mut put = |bytes: &Bytes| {
        payload.extend_from_slice(bytes);
        bytes.len() as u32
    };
    let wire = ops
        .iter()
        .map(|op| match op {
            Op::Put { key, value } => WireOp::Put { key: put(key), value: put(value) },
            Op::Delete { key } => WireOp::Delete { key: put(key) },
            Op::DeletePrefix { prefix } => WireOp::DeletePrefix { prefix: put(prefix) },
            Op::Truncate { object, size } => WireOp::Truncate { object: *object, size: *size },
            Op::Remove { object } => WireOp::Remove { object: *object },
        })
        .collect();
    (wire, payload.freeze())
}

/// The inverse of [`pack_ops`]; what it returns is within all bounds.
pub fn unpack_ops(wire: &[WireOp], payload: Bytes) -> Result<Vec<Op>, StoreError> {
    let mut from = Unpacker::new(payload);
    let ops = wire
        .iter()
        .map(|op| {
            Ok(match *op {
                WireOp::Put { key, value } => Op::Put { key: from.take(key)?, value: from.take(value)? },
                WireOp::Delete { key } => Op::Delete { key: from.take(key)? },
                WireOp::DeletePrefix { prefix } => Op::DeletePrefix { prefix: from.take(prefix)? },
                WireOp::Truncate { object, size } => Op::Truncate { object, size },
                WireOp::Remove { object } => Op::Remove { object },
            })
        })
        .collect::<Result<Vec<Op>, StoreError>>()?;
    from.finish()?;
    check_ops(&ops)?;
    Ok(ops)
}

/// Checks a commit's operations against the bounds.
pub fn check_ops(ops: &[Op]) -> Result<(), StoreError> {
    check_size("the number of operations in a commit", ops.len() as u64, COMMIT_OPS_MAX as u64)?;
    check_size("a commit", ops.iter().map(|op| op.cost() as u64).sum(), COMMIT_BYTES_MAX as u64)?;
    for op in ops {
        match op {
            Op::Put { key, value } => {
                check_key(key)?;
                check_size("a value", value.len() as u64, VALUE_MAX as u64)?;
            }
            Op::Delete { key } => check_key(key)?,
            Op::DeletePrefix { prefix } if prefix.is_empty() => {
                return Err(invalid("an empty prefix to delete"));
            }
            Op::DeletePrefix { prefix } => check_key(prefix)?,
            Op::Truncate { size, .. } => check_size("the size of an object", *size, OBJECT_SIZE_MAX)?,
            Op::Remove { .. } => {}
        }
    }
    Ok(())
}

/// Checks the objects a commit names.
pub fn check_objects(objects: &[(ObjectId, BootId)]) -> Result<(), StoreError> {
    check_size("the number of objects in a commit", objects.len() as u64, COMMIT_OBJECTS_MAX as u64)
}

/// Checks the keys of a lookup.
pub fn check_keys(keys: &[Key]) -> Result<(), StoreError> {
    check_size("the number of keys in a lookup", keys.len() as u64, KEYS_MAX as u64)?;
    keys.iter().try_for_each(check_key)
}

/// Checks the ranges of a bulk read or write, and returns how many bytes they are together.
pub fn check_ranges(ranges: &[(u64, u32)]) -> Result<u64, StoreError> {
    check_size("the number of ranges", ranges.len() as u64, RANGES_MAX as u64)?;
    check_range_ends(ranges)?;
    let total = ranges.iter().map(|(_, len)| u64::from(*len)).sum();
    check_size("the data of one call", total, DATA_MAX)?;
    Ok(total)
}

/// Checks that ranges lie within the largest object.
pub fn check_range_ends(ranges: &[(u64, u32)]) -> Result<(), StoreError> {
    ranges.iter().try_for_each(|(offset, len)| {
        check_size("the end of a range", offset.saturating_add(u64::from(*len)), OBJECT_SIZE_MAX)
    })
}

fn check_key(key: &Key) -> Result<(), StoreError> {
    check_size("a key", key.len() as u64, KEY_MAX as u64)
}

fn check_size(what: &str, size: u64, max: u64) -> Result<(), StoreError> {
    if size <= max { Ok(()) } else { Err(StoreError::TooLarge { what: what.to_string(), size, max }) }
}

/// Puts values behind one another, and says how long each is.
pub fn pack_values(values: &[Option<Value>]) -> (Vec<Option<u32>>, Bytes) {
    let mut payload = BytesMut::with_capacity(values.iter().flatten().map(Bytes::len).sum());
    let lens = values
        .iter()
        .map(|value| {
            value.as_ref().map(|value| {
                payload.extend_from_slice(value);
                value.len() as u32
            })
        })
        .collect();
    (lens, payload.freeze())
}

/// Puts entries behind one another, and says how long each key and value is.
pub fn pack_entries(entries: &[(Key, Value)]) -> (Vec<(u32, u32)>, Bytes) {
    let mut payload = BytesMut::with_capacity(entries.iter().map(|(k, v)| k.len() + v.len()).sum());
    let lens = entries
        .iter()
        .map(|(key, value)| {
            payload.extend_from_slice(key);
            payload.extend_from_slice(value);
            (key.len() as u32, value.len() as u32)
        })
        .collect();
    (lens, payload.freeze())
}

pub(crate) fn invalid(what: &str) -> StoreError {
    StoreError::Invalid { what: what.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn op() -> impl Strategy<Value = Op> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        prop_oneof![
            (bytes(40), bytes(400)).prop_map(|(key, value)| Op::Put { key, value }),
            bytes(40).prop_map(|key| Op::Delete { key }),
            bytes(40).prop_filter("empty", |p| !p.is_empty()).prop_map(|prefix| Op::DeletePrefix { prefix }),
            (any::<u64>(), 0..OBJECT_SIZE_MAX).prop_map(|(object, size)| Op::Truncate { object, size }),
            any::<u64>().prop_map(|object| Op::Remove { object }),
        ]
    }

    proptest! {
        #[test]
        fn operations_survive_packing(ops in proptest::collection::vec(op(), 0..20)) {
            let (wire, payload) = pack_ops(&ops);
            prop_assert_eq!(unpack_ops(&wire, payload).unwrap(), ops);
        }

        #[test]
        fn a_payload_of_another_length_is_refused(ops in proptest::collection::vec(op(), 0..20), cut in 1usize..9) {
            let (wire, payload) = pack_ops(&ops);
            let mut longer = payload.to_vec();
            longer.extend(vec![0; cut]);
            prop_assert!(unpack_ops(&wire, Bytes::from(longer)).is_err());
            if payload.len() >= cut {
                prop_assert!(unpack_ops(&wire, payload.slice(..payload.len() - cut)).is_err());
            }
        }
    }

    #[test]
    fn bounds_are_kept() {
        let put = |k: usize, v: usize| Op::Put { key: vec![1; k].into(), value: vec![2; v].into() };
        assert_eq!(check_ops(&[put(KEY_MAX, VALUE_MAX)]), Ok(()));
        assert!(matches!(check_ops(&[put(KEY_MAX + 1, 0)]), Err(StoreError::TooLarge { .. })));
        assert!(matches!(check_ops(&[put(0, VALUE_MAX + 1)]), Err(StoreError::TooLarge { .. })));
        assert!(matches!(check_ops(&vec![put(8, VALUE_MAX); 12]), Err(StoreError::TooLarge { .. })));
        assert!(matches!(
            check_ops(&[Op::DeletePrefix { prefix: Key::new() }]),
            Err(StoreError::Invalid { .. })
        ));
        assert!(check_ranges(&[(u64::MAX, 1)]).is_err());
        assert!(check_ranges(&[(0, u32::MAX); 3]).is_err());
        assert_eq!(check_ranges(&[(5, 6), (7, 8)]), Ok(14));
    }
}
