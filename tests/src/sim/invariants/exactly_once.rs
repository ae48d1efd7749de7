//! Exactly once: no program holds anything twice, however often it was asked for, and an answer tells the truth.

use super::{Invariant, Nodes, Seen, hold};
use lock_rsm::consensus::ReplicaId;
use std::collections::{BTreeMap, BTreeSet};

/// Where each thing was put, and what each program has.
#[derive(Default)]
pub(super) struct ExactlyOnce {
    places: BTreeMap<u64, u64>,
    held: BTreeMap<ReplicaId, BTreeSet<u64>>,
}

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, _: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Started(_) => {
                self.held.remove(&at);
            }
            Seen::Restored(_, content) => {
                self.held.remove(&at);
                self.look(at, &content.items)?;
            }
            Seen::Applied(_, content) => self.look(at, &content.items)?,
            Seen::Acknowledged(answer) => {
                let place = self.places.get(&answer.item);
                hold!(
                    place == Some(&answer.place),
                    "{:#x} was answered to be at {} and is at {place:?}",
                    answer.item,
                    answer.place
                );
            }
            _ => {}
        }
        Ok(())
    }
}

impl ExactlyOnce {
    /// Looks at what is new in a program.
    fn look(&mut self, at: ReplicaId, items: &[u64]) -> Result<(), String> {
        let held = self.held.entry(at).or_default();
        for (place, item) in items.iter().enumerate().skip(held.len()) {
            hold!(held.insert(*item), "replica {at} executed {item:#x} twice, the second time at {place}");
            let known = *self.places.entry(*item).or_insert(place as u64);
            hold!(known == place as u64, "{item:#x} was executed at {known}, and at {place} by replica {at}");
        }
        Ok(())
    }
}
