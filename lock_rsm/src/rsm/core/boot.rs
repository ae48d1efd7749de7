//! A replica as its disk remembers it.

use super::super::service::Service;
use super::super::state::{Machine, ReplyLimits};
use super::super::store::Recovered;
use super::super::types::StateError;
use super::program::Program;
use super::replica::{ReplicaConfig, ReplicaCore};
use super::waiting::{Ticket, Waiting};
use crate::consensus::{Config, Core, Membership, RestoreError, Restored};
use std::sync::Arc;

/// Both halves of a replica.
pub struct Boot<T> {
    /// The deciding half.
    pub core: ReplicaCore<T>,
    /// The executing half.
    pub program: Program<T>,
    /// The requests they share, for giving up when the replica is over.
    pub waiting: Waiting<T>,
}

/// Why what the disk remembers is of no use.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The log contradicts itself.
    #[error(transparent)]
    Log(#[from] RestoreError),
    /// The program cannot read the snapshot.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A replica that goes on from what its disk remembers: `recovered`, in the group founded by `founding`, with `service` in
/// its initial state.
pub fn boot<T: Ticket>(
    config: ReplicaConfig,
    service: Arc<dyn Service>,
    recovered: Recovered,
    founding: Membership,
    now_ms: u64,
) -> Result<Boot<T>, BootError> {
    let bounds = config.consensus();
    boot_within(config, bounds, service, recovered, founding, now_ms)
}

/// [`boot`] with bounds of one's own for messages, windows and what is kept in memory. Small ones make a simulator meet
/// the rare cases. Identity, timers and seed are those of `config`.
pub fn boot_within<T: Ticket>(
    config: ReplicaConfig,
    bounds: Config,
    service: Arc<dyn Service>,
    recovered: Recovered,
    founding: Membership,
    now_ms: u64,
) -> Result<Boot<T>, BootError> {
    let mut machine = Machine::new(service, ReplyLimits::default());
    let mut snapshot = None;
    if let Some(saved) = recovered.snapshot {
        machine.restore(saved.state, saved.meta.stamp)?;
        snapshot = Some(saved.meta);
    }
    let applied = machine.applied();
    let restored = Restored {
        hard_state: recovered.hard_state,
        snapshot,
        entries: recovered.entries,
        membership: founding,
        applied: applied.seq,
    };
    let Config { id, election_timeout_ms, heartbeat_ms, rng_seed, .. } = config.consensus();
    let consensus = Config { id, election_timeout_ms, heartbeat_ms, rng_seed, ..bounds };
    let core = Core::new(consensus, restored, now_ms)?;
    let waiting = Waiting::default();
    Ok(Boot {
        core: ReplicaCore::new(core, config, waiting.clone(), applied, now_ms),
        program: Program::new(machine, waiting.clone()),
        waiting,
    })
}
