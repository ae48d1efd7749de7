//! A master takes entries for committed by counting who has them only up to one of its own view; the ones before it are
//! committed with it (§3.6.2). An entry of an earlier view may be on a majority of disks and yet be overwritten.

use super::{Invariant, Nodes, Seen, hold, running};
use lock_rsm::consensus::{ReplicaId, Role};

/// Holds no state: each commit is looked at by itself.
#[derive(Default)]
pub(super) struct OwnViewCommits;

impl Invariant for OwnViewCommits {
    fn name(&self) -> &'static str {
        "a master commits in its own view"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        let (Seen::Committed(_), Some(core)) = (seen, running(nodes, at)) else { return Ok(()) };
        if core.role() != Role::Master {
            return Ok(());
        }
        let (base, stamps) = core.log_stamps();
        let last = stamps.into_iter().find(|stamp| stamp.seq == core.committed()).unwrap_or(base);
        hold!(
            last.view == core.view(),
            "replica {at}, master of view {}, takes {last} for committed",
            core.view()
        );
        Ok(())
    }
}
