//! All programs are given the same entries in the same order, each once, and nothing that is not committed.

use super::{Invariant, Nodes, Seen, fingerprint, hold};
use lock_rsm::consensus::{ReplicaId, Viewstamp};
use std::collections::BTreeMap;

/// What was applied at each place, and how far each program is.
#[derive(Default)]
pub(super) struct SameSequence {
    committed: BTreeMap<u64, (Viewstamp, u64)>,
    applied: BTreeMap<ReplicaId, u64>,
}

impl Invariant for SameSequence {
    fn name(&self) -> &'static str {
        "same sequence everywhere"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, _: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Started(disk) => {
                let from = disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.meta.stamp.seq);
                self.applied.insert(at, from);
            }
            Seen::Restored(meta, _) => {
                self.applied.insert(at, meta.stamp.seq);
            }
            Seen::Committed(entries) => {
                for entry in *entries {
                    self.committed.entry(entry.stamp.seq).or_insert((entry.stamp, fingerprint(entry)));
                }
            }
            Seen::Applied(entry, _) => {
                let before = self.applied.insert(at, entry.stamp.seq).unwrap_or(0);
                hold!(
                    entry.stamp.seq == before + 1,
                    "the program of replica {at} is given {} after entry {before}",
                    entry.stamp
                );
                let committed = self.committed.get(&entry.stamp.seq);
                hold!(
                    committed == Some(&(entry.stamp, fingerprint(entry))),
                    "the program of replica {at} is given {} and committed is {committed:?}",
                    entry.stamp
                );
            }
            _ => {}
        }
        Ok(())
    }
}
