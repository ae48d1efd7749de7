//! What the core wants done.

use super::message::Message;
use super::types::{Entry, HardState, ReplicaId, SnapshotMeta, ViewInfo, Viewstamp};
use bytes::Bytes;

/// What the core wants done, since it was last asked. See the module's page for the order of doing it.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Number of this batch, for [`Core::persisted`](super::Core::persisted). Grows by one with each batch.
    pub number: u64,
    /// To disk: the promises, replacing the former ones.
    pub hard_state: Option<HardState>,
    /// To disk and to the program: a received snapshot takes the place of state and log.
    pub install_snapshot: Option<InstallSnapshot>,
    /// To disk: drop the entries from this seq on, before `append`. There may be none.
    pub truncate_from: Option<u64>,
    /// To disk: entries to add to the log, consecutive.
    pub append: Vec<Entry>,
    /// To send at once.
    pub messages: Vec<(ReplicaId, Message)>,
    /// To send once everything in this and all earlier batches is on disk, never before.
    pub after_persist: Vec<(ReplicaId, Message)>,
    /// To the program, after `install_snapshot`: committed entries, consecutive, each once in the life of
    /// this core.
    pub committed: Vec<Entry>,
    /// The view number, master or membership differs from what was announced last (or nothing was yet).
    pub view_changed: Option<ViewInfo>,
    /// Reads that a quorum confirmed: answer each once the program has applied its seq.
    pub reads_ready: Vec<ReadReady>,
    /// Tokens of reads that will never be confirmed, because this replica is no longer master.
    pub reads_failed: Vec<u64>,
    /// Pieces of a snapshot to read and hand in by [`Core::send_snapshot`](super::Core::send_snapshot).
    pub snapshots_wanted: Vec<SnapshotWanted>,
    /// Received pieces of a snapshot to store (in memory or in a temporary file). After the last one
    /// [`Core::snapshot_received`](super::Core::snapshot_received) or
    /// [`Core::snapshot_spoilt`](super::Core::snapshot_spoilt) is due.
    pub snapshot_chunks: Vec<SnapshotChunk>,
}

impl Outputs {
    /// Whether there is anything to write. If not, the batch is on disk as soon as its predecessors are, and
    /// [`Core::persisted`](super::Core::persisted) need not be called for it.
    pub fn must_persist(&self) -> bool {
        self.hard_state.is_some()
            || self.install_snapshot.is_some()
            || self.truncate_from.is_some()
            || !self.append.is_empty()
    }
}

/// A snapshot that was received whole and takes the place of what this replica had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallSnapshot {
    /// Which. It must be on disk in the same atomic batch as the change of the log.
    pub meta: SnapshotMeta,
    /// Whether every entry on disk is void. If not, only those up to the snapshot's seq may go.
    pub discard_log: bool,
}

/// A confirmed read (§6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// As given to [`Core::read`](super::Core::read).
    pub token: u64,
    /// Once the program has applied this, its state includes everything that was answered before the read
    /// began.
    pub seq: u64,
}

/// A piece of a snapshot that a member needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotWanted {
    /// Who needs it.
    pub to: ReplicaId,
    /// The snapshot that it is in the middle of. `None`: any, from its start, and the latest is best. If this
    /// one is gone, give the latest from its start.
    pub stamp: Option<Viewstamp>,
    /// Where the piece starts.
    pub offset: u64,
}

/// A received piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Which snapshot. One with `offset` 0 voids whatever was stored before.
    pub meta: SnapshotMeta,
    /// Where `data` belongs: where the piece before ended.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether this is the last piece.
    pub done: bool,
}
