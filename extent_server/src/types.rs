//! The words of the store: keys, values, objects, operations.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A key: opaque bytes, ordered bytewise, at most [`KEY_MAX`] long.
pub type Key = Bytes;

/// A value: opaque bytes, at most [`VALUE_MAX`] long.
pub type Value = Bytes;

/// A bulk data object: a sparse array of bytes, kept apart from keys and values. A file system uses the inode number.
pub type ObjectId = u64;

/// One life of a server process. Bulk writes are durable only once committed to the *same* life, so each write's answer
/// names the life that took it, and the commit hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootId(pub u64);

impl std::fmt::Display for BootId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The session of callers that have none (tools, tests). It can be fenced like any other.
pub const NO_SESSION: u64 = 0;

/// Bulk data is checksummed in blocks of this many bytes.
pub const BLOCK_SIZE: u64 = 64 * 1024;

/// Longest key, in bytes.
pub const KEY_MAX: usize = 1024;

/// Longest value, in bytes.
pub const VALUE_MAX: usize = 1 << 20;

/// Most operations in one commit.
pub const COMMIT_OPS_MAX: usize = 64 * 1024;

/// Most bytes of keys and values in one commit, each operation counted with [`COMMIT_OP_COST`] more.
/// A commit is all or nothing, so it cannot be split: callers bound their generations by this.
pub const COMMIT_BYTES_MAX: usize = 12 << 20;

/// What an operation weighs besides its key and value.
pub const COMMIT_OP_COST: usize = 16;

/// Most objects named by one commit.
pub const COMMIT_OBJECTS_MAX: usize = 64 * 1024;

/// One past the last byte of the largest object.
pub const OBJECT_SIZE_MAX: u64 = 1 << 60;

/// One step of a commit. The steps of a commit apply in order and become visible together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets `key` to `value`.
    Put {
        /// The key to set.
        key: Key,
        /// What it becomes.
        value: Value,
    },
    /// Removes `key`; no error if it is absent.
    Delete {
        /// The key to remove.
        key: Key,
    },
    /// Removes every key that starts with `prefix`, those put by earlier operations of this commit included.
    DeletePrefix {
        /// What the keys to remove start with; not empty.
        prefix: Key,
    },
    /// Forgets the whole blocks of `object` that begin at or beyond `size`, uncommitted writes included, whether or not
    /// this commit names the object: they read as zeros from now on. A block that `size` cuts in two is kept, so who
    /// extends the object again must write zeros over the rest of that block.
    Truncate {
        /// The object to cut.
        object: ObjectId,
        /// Its new length in bytes.
        size: u64,
    },
    /// Forgets all of `object`, uncommitted writes included, whether or not this commit names it.
    Remove {
        /// The object to remove.
        object: ObjectId,
    },
}

impl Op {
    /// What this operation counts towards [`COMMIT_BYTES_MAX`].
    pub fn cost(&self) -> usize {
        COMMIT_OP_COST
            + match self {
                Op::Put { key, value } => key.len() + value.len(),
                Op::Delete { key } | Op::DeletePrefix { prefix: key } => key.len(),
                Op::Truncate { .. } | Op::Remove { .. } => 0,
            }
    }
}

/// Space of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatFs {
    /// All bytes there are.
    pub total: u64,
    /// Bytes that nothing takes up.
    pub free: u64,
    /// Bytes that may still be written before [`NoSpace`](crate::StoreError::NoSpace): `free` without what the system
    /// and the store keep back for themselves.
    pub available: u64,
    /// All files there may be.
    pub files: u64,
    /// Files that may still be created.
    pub files_free: u64,
}

/// Who a server is and how it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentStatus {
    /// The address it listens on.
    pub address: String,
    /// Its process id.
    pub pid: u32,
    /// This life of it.
    pub boot: BootId,
    /// The identity of its data directory, in hex.
    pub store: String,
    /// Groups of commits made durable since it started.
    pub groups: u64,
    /// Commits made durable since it started.
    pub commits: u64,
    /// Objects with writes that no commit has named yet.
    pub uncommitted_objects: u64,
    /// Sessions fenced for ever.
    pub fenced_sessions: u64,
    /// Why it takes no more writes, if its store has failed.
    pub failed: Option<String>,
}
