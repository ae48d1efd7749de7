//! Why an input was refused. A refusal changes nothing.

use super::types::{ReplicaId, Viewstamp};

/// A proposal was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the master takes proposals.
    #[error("this replica is not the master")]
    NotMaster {
        /// The master, where known.
        hint: Option<ReplicaId>,
    },
    /// Too much is waiting to be committed. Try again later.
    #[error("{uncommitted_bytes} bytes wait to be committed, which is the limit; try again later")]
    Overloaded {
        /// What waits.
        uncommitted_bytes: usize,
    },
    /// The command is larger than [`Config::command_bytes_max`](super::Config::command_bytes_max).
    #[error("a command of {size} bytes is larger than the limit of {max}")]
    TooLarge {
        /// The command's size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing was proposed.
    #[error("no command to propose")]
    Empty,
}

/// A read was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Only the master confirms reads.
    #[error("this replica is not the master")]
    NotMaster {
        /// The master, where known.
        hint: Option<ReplicaId>,
    },
    /// Too many reads wait.
    #[error("{waiting} reads wait to be confirmed, which is the limit; try again later")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
}

/// A change of the membership was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Only the master changes the membership.
    #[error("this replica is not the master")]
    NotMaster {
        /// The master, where known.
        hint: Option<ReplicaId>,
    },
    /// The master has not committed an entry of its own view yet, so it may not know what its predecessors
    /// committed (the correction of 2015 to §4.1). Try again later.
    #[error("the master of this view has not committed anything yet; try again later")]
    ViewNotSettled,
    /// Another change is on its way. Try again when it is committed.
    #[error("the membership change at {pending} is not committed yet; try again later")]
    ChangePending {
        /// Seq of that change.
        pending: u64,
    },
    /// More than one voter would come or go (§4.1: the two majorities would not overlap).
    #[error("{changes} voters would come or go at once; only one may")]
    TooManyChanges {
        /// How many.
        changes: usize,
    },
    /// Two members have the same identity.
    #[error("a member is named twice")]
    Duplicate,
    /// Nobody would be left to vote.
    #[error("no voter would be left")]
    NoVoters,
}

/// Mastership cannot be handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// Only the master can.
    #[error("this replica is not the master")]
    NotMaster,
    /// No other voter is known to be alive.
    #[error("no other voting replica answers")]
    NobodyToHandOverTo,
}

/// A snapshot, or a piece of one, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It is not wanted (any more): the member caught up, the view changed, or the offset is not the one
    /// asked for.
    #[error("this piece of a snapshot is not wanted any more")]
    NotWanted,
    /// The snapshot stands for something this log does not have, or ends before this log starts.
    #[error("the snapshot at {stamp} does not belong to this log")]
    Foreign {
        /// The snapshot's stamp.
        stamp: Viewstamp,
    },
    /// The piece is larger than
    /// [`Config::snapshot_chunk_bytes_max`](super::Config::snapshot_chunk_bytes_max).
    #[error("a piece of {size} bytes is larger than the limit of {max}")]
    TooLarge {
        /// The piece's size.
        size: usize,
        /// The limit.
        max: usize,
    },
}

/// What the disk remembers contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An entry is missing.
    #[error("the log has a hole: entry {expected} is missing, entry {found} is there")]
    Hole {
        /// What should be there.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// An entry's view is less than its predecessor's.
    #[error("the log is out of order: entry {found} follows {previous}")]
    Disorder {
        /// The predecessor.
        previous: Viewstamp,
        /// The entry.
        found: Viewstamp,
    },
    /// An entry or the snapshot is of a later view than the replica remembers having seen.
    #[error("the log reaches into view {log_view}, but the replica remembers only view {hard_state_view}")]
    ViewLost {
        /// The view of the last entry.
        log_view: u64,
        /// The remembered view.
        hard_state_view: u64,
    },
    /// More is applied than there is, or less than the snapshot holds.
    #[error("applied position {applied} is outside {from}..={to}")]
    Applied {
        /// The claim.
        applied: u64,
        /// The snapshot's seq.
        from: u64,
        /// The log's last seq.
        to: u64,
    },
    /// A number that no group comes to, however long it lives.
    #[error("{number} is no number of a view or an entry: no group ever comes so far")]
    Implausible {
        /// The number.
        number: u64,
    },
    /// A membership names a member twice.
    #[error("the membership at {stamp} names a member twice")]
    Duplicate {
        /// Where.
        stamp: Viewstamp,
    },
}
