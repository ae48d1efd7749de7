//! When an entry is first taken for committed, a majority of the voters has it on disk (§3.5, §3.8).

use super::{Invariant, Nodes, Seen, hold, running};
use lock_rsm::consensus::ReplicaId;

/// How far anybody has committed.
#[derive(Default)]
pub(super) struct CommittedAreDurable {
    upto: u64,
}

impl Invariant for CommittedAreDurable {
    fn name(&self) -> &'static str {
        "committed entries are durable"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        let (Seen::Committed(entries), Some(core)) = (seen, running(nodes, at)) else { return Ok(()) };
        let membership = core.membership();
        let known = self.upto;
        for entry in entries.iter().filter(|entry| entry.stamp.seq > known) {
            let has = |id: &ReplicaId| nodes.get(id).is_some_and(|node| node.disk.holds(entry.stamp));
            let holders = membership.voters().filter(has).count();
            hold!(
                holders >= membership.majority(),
                "replica {at} takes {} for committed, and {holders} of {} voters have it on disk",
                entry.stamp,
                membership.voters().count()
            );
            self.upto = entry.stamp.seq;
        }
        Ok(())
    }
}
