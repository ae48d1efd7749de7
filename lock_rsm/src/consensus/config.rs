//! The settings of a core. All limits are here.

use super::types::ReplicaId;

/// Who the replica is, its timers and its limits. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct Config {
    /// The identity of this replica.
    pub id: ReplicaId,
    /// A slave that hears nothing from a master for a random time between once and twice this tries to
    /// replace it; for less than once this it helps nobody else to. A master that no majority answered for
    /// this long stops acting as one ([`Core::is_master_with_quorum`](super::Core::is_master_with_quorum)),
    /// after twice this it steps down.
    pub election_timeout_ms: u64,
    /// How often a master sends heartbeats. At most a third of the election timeout is sensible.
    pub heartbeat_ms: u64,
    /// A piece of a snapshot that is not answered for this long is sent again.
    pub snapshot_retry_ms: u64,
    /// Largest command that may be proposed.
    pub command_bytes_max: usize,
    /// Entries of one `Append` message, in bytes; a single larger entry still travels, alone.
    pub append_bytes_max: usize,
    /// Entries of one `Append` message, in number.
    pub append_entries_max: usize,
    /// `Append` messages on their way to one member.
    pub inflight_messages_max: usize,
    /// Bytes of entries on their way to one member.
    pub inflight_bytes_max: usize,
    /// Entries that a master has appended and not yet committed, in bytes; beyond it proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// Reads that wait to be confirmed; beyond it reads are refused.
    pub reads_max: usize,
    /// Entries kept in memory although a snapshot covers them, in bytes, so that a member slightly behind
    /// needs none.
    pub tail_bytes_max: usize,
    /// The same, as long as a living member still has to get them.
    pub pinned_bytes_max: usize,
    /// Largest piece of a snapshot.
    pub snapshot_chunk_bytes_max: usize,
    /// Seed of the election jitter. Different in every replica.
    pub rng_seed: u64,
}

impl Config {
    /// The default timers and limits for replica `id`.
    pub fn new(id: ReplicaId, rng_seed: u64) -> Config {
        Config {
            id,
            election_timeout_ms: 150,
            heartbeat_ms: 50,
            snapshot_retry_ms: 1_000,
            command_bytes_max: 4 << 20,
            append_bytes_max: 1 << 20,
            append_entries_max: 4_096,
            inflight_messages_max: 64,
            inflight_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
            reads_max: 65_536,
            tail_bytes_max: 4 << 20,
            pinned_bytes_max: 64 << 20,
            snapshot_chunk_bytes_max: 1 << 20,
            rng_seed,
        }
    }
}
