//! Replicas that keep the rules say nothing that another one could take for nonsense: no message contradicts itself, or what
//! its receiver knows for certain.

use super::{Invariant, Nodes, Seen, hold, running};
use lock_rsm::consensus::ReplicaId;

/// Holds no state: each replica counts.
#[derive(Default)]
pub(super) struct NoNonsense;

impl Invariant for NoNonsense {
    fn name(&self) -> &'static str {
        "nobody speaks nonsense"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        let Seen::Step = seen else { return Ok(()) };
        let count = running(nodes, at).map_or(0, |core| core.malformed_messages());
        hold!(count == 0, "replica {at} was sent {count} messages that make no sense");
        Ok(())
    }
}
