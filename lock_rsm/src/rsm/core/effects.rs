//! What a replica wants done.

use super::super::store::LogWrite;
use super::super::types::View;
use super::waiting::Refused;
use crate::consensus::{Entry, Message, ReadReady, ReplicaId, SnapshotMeta, SnapshotWanted, ViewInfo};
use bytes::Bytes;

/// What is to be done since the effects were last taken.
#[derive(Debug)]
pub struct Effects<T> {
    /// The view number, its master or the membership changed: who to be connected to.
    pub view: Option<ViewInfo>,
    /// To be sent at once, each to the replica named. They may be lost.
    pub messages: Vec<(ReplicaId, Message)>,
    /// To be written, in order, each as one atomic batch.
    pub writes: Vec<Write>,
    /// For the program, in order, after those of earlier effects.
    pub tasks: Vec<Task>,
    /// Pieces of the snapshot on disk to read after the `writes`, for [`Input::Piece`](super::Input::Piece).
    pub pieces: Vec<SnapshotWanted>,
    /// Reads that a majority confirmed: each may be answered once the program has applied its seq.
    pub reads_ready: Vec<ReadReady>,
    /// Reads that this replica will never answer, because it is no longer the master. They are to be asked for elsewhere.
    pub reads_failed: Vec<u64>,
    /// This replica hears of no master, perhaps because it does not belong to the group (any more): every replica that may
    /// know the group, or at least its master, should be told so by [`Input::Asked`](super::Input::Asked).
    pub ask_in: bool,
    /// Who has left the group for good, when that is news: whoever asks for one of them to be taken in is told so.
    pub retired: Option<Vec<ReplicaId>>,
    /// This replica has left the group for good: it is to stop, and never to be started from its disk again.
    pub has_left: bool,
    /// Whose requests are refused.
    pub refused: Vec<(T, Refused)>,
    /// The replica was told to stop and may.
    pub done: bool,
}

impl<T> Default for Effects<T> {
    fn default() -> Self {
        Effects {
            view: None,
            messages: Vec::new(),
            writes: Vec::new(),
            tasks: Vec::new(),
            pieces: Vec::new(),
            reads_ready: Vec::new(),
            reads_failed: Vec::new(),
            ask_in: false,
            retired: None,
            has_left: false,
            refused: Vec::new(),
            done: false,
        }
    }
}

/// A batch for the disk.
#[derive(Debug)]
pub struct Write {
    /// Reported by [`Input::Persisted`](super::Input::Persisted) when durable.
    pub number: u64,
    /// What to write.
    pub write: LogWrite,
}

/// Work for the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Committed entries, consecutive.
    Apply(Vec<Entry>),
    /// A received snapshot takes the place of the state.
    Restore(SnapshotMeta, Bytes),
    /// Marshal the state, which is now the one `SnapshotMeta` names, and have it written.
    Snapshot(SnapshotMeta),
    /// A view was adopted, and whether this replica is its master; the state then includes everything committed in earlier
    /// views. Without a master it is none to adopt: this replica leads no longer.
    View(View, bool),
}
