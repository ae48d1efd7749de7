//! What happens to a replica.

use super::super::store::SnapshotPiece;
use super::retire::Retire;
use super::waiting::RequestKey;
use crate::consensus::{Message, ReplicaId, SnapshotMeta};
use bytes::Bytes;

/// Something that happened.
#[derive(Debug)]
pub enum Input<T> {
    /// A message from another replica of the same group, meant for this one.
    Message {
        /// The sender.
        from: ReplicaId,
        /// What it says.
        message: Message,
    },
    /// Somebody wants a command executed. Proposals are put into the log together when the effects are taken.
    Propose(Proposal<T>),
    /// Everything in [`Effects::writes`](super::Effects::writes) up to this number is on disk.
    Persisted(u64),
    /// A snapshot that [`Task::Snapshot`](super::Task::Snapshot) asked for is on disk.
    SnapshotSaved(SnapshotMeta),
    /// A piece of the snapshot on disk, as asked for in [`Effects::pieces`](super::Effects::pieces).
    Piece {
        /// The replica that needs it.
        to: ReplicaId,
        /// The piece.
        piece: SnapshotPiece,
    },
    /// The program has worked off this many bytes of entries, counted since the start: the sum of
    /// [`Report::bytes`](super::Report::bytes).
    Applied(u64),
    /// Another replica of this group asks to be taken in (again), as [`Effects::ask_in`](super::Effects::ask_in) told it to.
    /// For the master; others ignore it.
    Asked {
        /// Its identity.
        id: ReplicaId,
        /// Where it listens.
        address: String,
    },
    /// Somebody who may wants a replica to leave the group for good. For the master; others ignore it. It is to be repeated
    /// until [`ReplicaCore::retirement`](super::ReplicaCore::retirement) says that it is done.
    Order(Retire),
    /// Another replica says that this one has left the group for good.
    Retired,
    /// Time passed.
    Tick,
    /// The replica is to stop.
    Stop(Stop),
}

/// A request to be put into the log.
#[derive(Debug)]
pub struct Proposal<T> {
    /// Which request of which client; `None` for the group's own.
    pub key: RequestKey,
    /// An encoded [`Command`](super::Command).
    pub command: Bytes,
    /// Who is to be answered.
    pub ticket: T,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Hand mastership over first.
    Gracefully,
    /// As a crash would.
    AtOnce,
}
