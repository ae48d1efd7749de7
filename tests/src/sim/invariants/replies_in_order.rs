//! What began after another request was answered comes after it. With [`exactly_once`](super::exactly_once) that makes the
//! history of appends linearizable: the places are the order, and it respects real time.

use super::{Invariant, Nodes, Seen, hold};
use lock_rsm::consensus::ReplicaId;

/// Holds no state: a request remembers how much was answered when it was first made.
#[derive(Default)]
pub(super) struct RepliesInOrder;

impl Invariant for RepliesInOrder {
    fn name(&self) -> &'static str {
        "replies respect real time"
    }

    fn observe(&mut self, _: ReplicaId, seen: &Seen<'_>, _: &Nodes) -> Result<(), String> {
        let Seen::Acknowledged(answer) = seen else { return Ok(()) };
        hold!(
            answer.place >= answer.began_after,
            "{:#x} was put at {}, and {} places were answered before it was asked for",
            answer.item,
            answer.place,
            answer.began_after
        );
        Ok(())
    }
}
