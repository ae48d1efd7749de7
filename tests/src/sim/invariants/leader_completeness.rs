//! Leader completeness: a new master has every entry that was committed in earlier views (§3.6.3).

use super::{Invariant, Nodes, Seen, hold, running};
use lock_rsm::consensus::{Core, ReplicaId, Role, Viewstamp};
use std::collections::{BTreeMap, BTreeSet};

/// What was committed, and in which view that became known.
#[derive(Default)]
pub(super) struct LeaderCompleteness {
    committed: BTreeMap<u64, (Viewstamp, u64)>,
    looked_at: BTreeSet<(u64, ReplicaId)>,
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Committed(entries) => {
                let Some(core) = running(nodes, at) else { return Ok(()) };
                for entry in *entries {
                    self.committed.entry(entry.stamp.seq).or_insert((entry.stamp, core.view()));
                }
                Ok(())
            }
            Seen::Step => nodes.values().filter_map(|node| node.core()).try_for_each(|core| self.check(core)),
            _ => Ok(()),
        }
    }
}

impl LeaderCompleteness {
    fn check(&mut self, core: &Core) -> Result<(), String> {
        if core.role() != Role::Master || !self.looked_at.insert((core.view(), core.id())) {
            return Ok(());
        }
        let (base, stamps) = core.log_stamps();
        for (seq, (stamp, view)) in self.committed.range(base.seq + 1..) {
            // A master may be late: a later view may have one already, and commit.
            let has = usize::try_from(seq - base.seq - 1).ok().and_then(|index| stamps.get(index));
            hold!(
                *view >= core.view() || has == Some(stamp),
                "the master of view {} lacks {stamp}, which was committed in view {view}; it has {has:?} there",
                core.view()
            );
        }
        Ok(())
    }
}
