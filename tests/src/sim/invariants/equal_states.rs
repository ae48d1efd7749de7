//! Replicas are equal: at the same viewstamp every program holds the same, and has the same hash, reply table included.

use super::{Invariant, Nodes, Seen, hold};
use lock_rsm::consensus::{ReplicaId, Viewstamp};
use std::collections::BTreeMap;

/// What was seen first after each entry.
#[derive(Default)]
pub(super) struct EqualStates {
    contents: BTreeMap<Viewstamp, (ReplicaId, u64)>,
    hashes: BTreeMap<Viewstamp, (ReplicaId, u64)>,
}

impl Invariant for EqualStates {
    fn name(&self) -> &'static str {
        "equal states at equal viewstamps"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, _: &Nodes) -> Result<(), String> {
        let (known, stamp, word) = match seen {
            Seen::Applied(entry, content) => (&mut self.contents, entry.stamp, content.chain),
            Seen::Restored(meta, content) => (&mut self.contents, meta.stamp, content.chain),
            Seen::Hashed(stamp, hash) => (&mut self.hashes, *stamp, *hash),
            _ => return Ok(()),
        };
        let (first, expected) = *known.entry(stamp).or_insert((at, word));
        hold!(word == expected, "replicas {first} and {at} differ after {stamp}");
        Ok(())
    }
}
