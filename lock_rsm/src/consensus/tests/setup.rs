//! What a simulated cluster is like.

use super::network::Weather;
use crate::consensus::{Config, Member, Membership, ReplicaId};

/// A driver that does not do what the core's page says. The checker must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Sends without waiting for the disk, and says that all is on disk.
    NeverWaits,
    /// Does not write votes and views.
    ForgetsPromises,
    /// Leaves entries on disk that should be taken back.
    NeverTruncates,
    /// Loses the last entry when it restarts.
    LosesTail,
}

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    /// Replicas of the founding membership: 1, 2, …
    pub(crate) voters: u64,
    /// Replicas that wait to be taken in, numbered on.
    pub(crate) spares: u64,
    pub(crate) weather: Weather,
    /// A write takes up to this long.
    pub(crate) disk_ms_max: u64,
    /// Clocks start at different times and run at different rates.
    pub(crate) skewed_clocks: bool,
    /// No two replicas may believe at one time that a quorum stands by them. True only with even clocks and
    /// no hand-over.
    pub(crate) check_lease: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Setup {
    pub(crate) fn new(voters: u64, seed: u64) -> Setup {
        Setup {
            seed,
            voters,
            spares: 0,
            weather: Weather::FAIR,
            disk_ms_max: 3,
            skewed_clocks: false,
            check_lease: true,
            sabotage: None,
        }
    }

    pub(crate) fn config(&self, id: ReplicaId, incarnation: u64) -> Config {
        Config {
            append_bytes_max: 400,
            append_entries_max: 8,
            inflight_messages_max: 4,
            inflight_bytes_max: 1_000,
            uncommitted_bytes_max: 4_000,
            tail_bytes_max: 200,
            pinned_bytes_max: 1_000,
            snapshot_chunk_bytes_max: 64,
            snapshot_retry_ms: 100,
            ..Config::new(id, self.seed ^ (id << 32) ^ (incarnation << 48))
        }
    }
}

/// The founding membership of `voters` replicas.
pub(crate) fn founders(voters: u64) -> Membership {
    Membership::of((1..=voters).map(|id| member(id, true)).collect())
}

pub(crate) fn member(id: ReplicaId, voter: bool) -> Member {
    Member { id, address: format!("replica-{id}"), voter }
}
