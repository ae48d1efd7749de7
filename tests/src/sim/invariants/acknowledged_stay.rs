//! What was acknowledged to a client stays: in the end every replica has it, where it was said to be.

use super::{Invariant, Nodes, Seen, hold};
use lock_rsm::consensus::ReplicaId;
use std::collections::BTreeMap;

/// Everything acknowledged, and where it is.
#[derive(Default)]
pub(super) struct AcknowledgedStay(BTreeMap<u64, u64>);

impl Invariant for AcknowledgedStay {
    fn name(&self) -> &'static str {
        "what was acknowledged stays"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, _: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Acknowledged(answer) => {
                let other = self.0.insert(answer.place, answer.item);
                hold!(
                    other.is_none_or(|item| item == answer.item),
                    "place {} was given to {:#x} and to {other:x?}",
                    answer.place,
                    answer.item
                );
            }
            Seen::End(content) => {
                for (&place, item) in &self.0 {
                    let held = usize::try_from(place).ok().and_then(|place| content.items.get(place));
                    hold!(
                        held == Some(item),
                        "{item:#x} was acknowledged at {place}, and replica {at} has {held:x?} there"
                    );
                }
            }
            _ => {}
        }
        Ok(())
    }
}
