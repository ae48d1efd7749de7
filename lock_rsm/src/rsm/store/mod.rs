//! The durable side of a replica: its log, promises, identity and snapshots.
//!
//! [`Store`] is what the driver needs of it, so that a simulator can put its own disk under a replica;
//! [`DiskStore`] is the real one, a directory of the replica's own:
//!
//! | path | what |
//! | --- | --- |
//! | `LOCK` | held by the process that uses the directory |
//! | `FORMAT` | text: kind, version, group, whether the directory is complete |
//! | `WATERMARK` | a lower bound of what is known to be on disk, to recognise a log that lost its end |
//! | `PROGRESS` | the same, noted after every write and never waited for |
//! | `log/` | log, promises and identity, in files that are written from front to back |
//! | `snapshots/` | the snapshot that the log names |
//!
//! `docs/on-disk-format.md` has it byte by byte.

mod disk;
mod files;
mod frame;
pub(crate) mod fuzzing;
mod log_record;
mod progress;
mod replay;
mod segment;
mod snapshots;
mod spans;
mod watermark;

#[cfg(test)]
mod tests;

pub use disk::DiskStore;

use super::state::state_hash;
use crate::consensus::{Entry, HardState, Membership, ReplicaId, SnapshotMeta, Viewstamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Who a data directory belongs to, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Drawn at random when the directory was made.
    pub id: ReplicaId,
    /// The address the replica was made for.
    pub address: String,
}

/// What a store remembers when it is opened.
#[derive(Debug)]
pub struct Recovered {
    /// Whose store it is.
    pub identity: Identity,
    /// The members that founded the group, once it is formed.
    pub founding: Option<Membership>,
    /// The replica's promises.
    pub hard_state: HardState,
    /// The latest snapshot and its bytes.
    pub snapshot: Option<Snapshot>,
    /// The log after the snapshot, without holes.
    pub entries: Vec<Entry>,
}

/// A snapshot with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// The marshalled state.
    pub state: Bytes,
}

/// One batch of the core's outputs that must reach the disk whole, in the order of the fields.
#[derive(Debug, Default)]
pub struct LogWrite {
    /// New promises.
    pub hard_state: Option<HardState>,
    /// A received snapshot, and whether it voids the whole log.
    pub install: Option<(Snapshot, bool)>,
    /// Drop the entries from this seq on.
    pub truncate_from: Option<u64>,
    /// Entries to add.
    pub append: Vec<Entry>,
}

impl LogWrite {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none()
            && self.install.is_none()
            && self.truncate_from.is_none()
            && self.append.is_empty()
    }
}

/// A piece of the snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// The snapshot it belongs to.
    pub meta: SnapshotMeta,
    /// Where it starts.
    pub offset: u64,
    /// Its bytes.
    pub data: Bytes,
    /// Whether the snapshot ends with it.
    pub done: bool,
}

/// A snapshot that is on disk and not in force yet. As stored: in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSnapshot {
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// Which one it is; every snapshot written in a directory has a greater one than those before.
    pub generation: u64,
    /// Bytes of the state.
    pub len: u64,
    /// 64-bit FNV-1a of the state.
    pub hash: u64,
}

/// The slow part of saving a snapshot, to be run on any thread while the store goes on working.
pub type SaveSnapshot = Box<dyn FnOnce() -> Result<SavedSnapshot, StoreError> + Send>;

/// A replica's disk. All writes are durable when the call returns; after a failed write the store is of no more use.
pub trait Store: Send + 'static {
    /// Writes batches, in order, with as few syncs as it can.
    fn write(&mut self, batches: Vec<LogWrite>) -> Result<(), StoreError>;
    /// Records the founding membership.
    fn form(&mut self, founding: &Membership) -> Result<(), StoreError>;
    /// Gives back what writes a snapshot of the replica's own state to the disk, durably, without holding up the log.
    fn save_snapshot(&mut self, snapshot: Snapshot) -> SaveSnapshot;
    /// Puts in force what [`save_snapshot`](Self::save_snapshot)'s work gave, and drops the log it covers.
    fn snapshot_saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError>;
    /// A piece of the latest snapshot: from `offset` when it is still the one at `stamp`, else from its start.
    fn snapshot_piece(
        &mut self,
        stamp: Option<Viewstamp>,
        offset: u64,
    ) -> Result<Option<SnapshotPiece>, StoreError>;
    /// Called after each write was reported: notes beside the store how far it got, when that is due.
    fn mark(&mut self) -> Result<(), StoreError>;
    /// Called when there has been nothing to write for a while, and before the store is dropped.
    fn settle(&mut self) -> Result<(), StoreError>;
}

/// Why a replica's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works in it.
    #[error("the data directory {dir} is in use by another process; stop that one or give another --data")]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds something else.
    #[error("{dir} is not the data directory of a lock replica and not empty; give another --data")]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// It was made for another address.
    #[error(
        "the data directory {dir} belongs to the replica {theirs}, not {mine}; start it with that address or give another --data"
    )]
    OtherReplica {
        /// The directory.
        dir: PathBuf,
        /// The address it was made for.
        theirs: String,
        /// The address this replica has.
        mine: String,
    },
    /// It is of a version this program does not know.
    #[error(
        "the data directory {dir} has format version {found}, which this program does not know; use the program that wrote it"
    )]
    Version {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: String,
    },
    /// Something in it is not as it was written.
    #[error(
        "the data directory {dir} is damaged: {what}; this replica must not vote from it: restore the directory from a copy, or replace the replica by a new member"
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system refused.
    #[error("{path}: {source}; see to the disk, its room and the permissions, then start again")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A snapshot cannot be written for want of a thread.
    #[error("{what}; the replica stops, because its log would grow without bound")]
    Thread {
        /// What happened.
        what: String,
    },
    /// The disk failed while in use.
    #[error(
        "writing to the data directory {dir} failed: {what}; the replica stops, because nothing it says would be durable"
    )]
    Write {
        /// The directory.
        dir: PathBuf,
        /// What the store said.
        what: String,
    },
}

impl StoreError {
    fn io(path: &Path, source: std::io::Error) -> StoreError {
        StoreError::Io { path: path.to_owned(), source }
    }

    pub(super) fn thread(what: impl Into<String>) -> StoreError {
        StoreError::Thread { what: what.into() }
    }

    fn damaged(dir: &Path, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { dir: dir.to_owned(), what: what.into() }
    }
}

/// A group is named by the members that founded it: their identities are random.
pub(super) fn cluster_id(founding: &Membership) -> u64 {
    state_hash(&rpc::codec::encode(&founding.members))
}
