//! What a replica keeps in each role.

use super::progress::Progress;
use super::read::Reads;
use super::types::ReplicaId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(super) enum RoleState {
    Slave,
    /// Who would vote for this replica.
    PreCandidate {
        granted: BTreeSet<ReplicaId>,
    },
    /// Who voted for this replica; itself only once that is on disk.
    Candidate {
        granted: BTreeSet<ReplicaId>,
    },
    Master(Box<Reign>),
}

/// What a master keeps.
#[derive(Debug)]
pub(super) struct Reign {
    /// Every other member.
    pub(super) followers: BTreeMap<ReplicaId, Progress>,
    /// When the view began or its membership changed last: silence is counted from then on.
    pub(super) since_ms: u64,
    /// The entry that opened the view.
    pub(super) first_seq: u64,
    pub(super) heartbeat_due_ms: u64,
    pub(super) reads: Reads,
    pub(super) handing_over: Option<HandOver>,
    /// Bytes of entries that are not committed yet.
    pub(super) uncommitted_bytes: usize,
}

/// Mastership on its way to another replica.
#[derive(Debug)]
pub(super) struct HandOver {
    pub(super) to: ReplicaId,
    /// When it counts as failed.
    pub(super) until_ms: u64,
    /// When the successor was told last.
    pub(super) told_ms: Option<u64>,
}
