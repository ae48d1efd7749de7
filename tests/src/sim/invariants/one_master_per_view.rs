//! Election safety: at most one master in a view (§3.4).

use super::{Invariant, Nodes, Seen, hold};
use lock_rsm::consensus::{ReplicaId, Role};
use std::collections::BTreeMap;

/// Who was master of each view.
#[derive(Default)]
pub(super) struct OneMasterPerView(BTreeMap<u64, ReplicaId>);

impl Invariant for OneMasterPerView {
    fn name(&self) -> &'static str {
        "one master per view"
    }

    fn observe(&mut self, _: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        if !matches!(seen, Seen::Step) {
            return Ok(());
        }
        let masters =
            nodes.values().filter_map(|node| node.core()).filter(|core| core.role() == Role::Master);
        for core in masters {
            let first = *self.0.entry(core.view()).or_insert(core.id());
            hold!(first == core.id(), "view {} has the masters {first} and {}", core.view(), core.id());
        }
        Ok(())
    }
}
