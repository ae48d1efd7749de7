//! Promises: a replica votes once in a view, for a view it has on disk, and never goes back to an earlier view (§3.6.1, §3.8).

use super::{Invariant, Nodes, Seen, hold, running};
use lock_rsm::consensus::{Body, ReplicaId};
use std::collections::BTreeMap;

/// The votes and views that left each replica.
#[derive(Default)]
pub(super) struct OneVotePerView {
    votes: BTreeMap<(ReplicaId, u64), ReplicaId>,
    /// The latest view in which a replica promised something.
    promised: BTreeMap<ReplicaId, u64>,
}

impl Invariant for OneVotePerView {
    fn name(&self) -> &'static str {
        "one vote per view"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Started(_) => self.remembers(at, nodes)?,
            Seen::Sent(to, message) => {
                let candidate = match message.body {
                    Body::Vote { granted: true } => Some(*to),
                    Body::RequestVote { .. } => Some(at),
                    Body::Appended { .. } => None,
                    _ => return Ok(()),
                };
                self.promise(at, message.view, candidate, nodes)?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl OneVotePerView {
    /// A replica that starts again knows what it promised.
    fn remembers(&self, at: ReplicaId, nodes: &Nodes) -> Result<(), String> {
        let Some(core) = running(nodes, at) else { return Ok(()) };
        let (kept, promised) = (core.hard_state(), self.promised.get(&at).copied().unwrap_or(0));
        hold!(
            kept.view >= promised,
            "replica {at} promised something in view {promised} and remembers {kept:?}"
        );
        let vote = self.votes.get(&(at, kept.view));
        hold!(
            vote.is_none_or(|vote| kept.voted_for == Some(*vote)),
            "replica {at} voted for {vote:?} in view {} and remembers {kept:?}",
            kept.view
        );
        Ok(())
    }

    fn promise(
        &mut self,
        at: ReplicaId,
        view: u64,
        candidate: Option<ReplicaId>,
        nodes: &Nodes,
    ) -> Result<(), String> {
        let latest = self.promised.entry(at).or_default();
        *latest = view.max(*latest);
        let Some(candidate) = candidate else { return Ok(()) };
        let vote = *self.votes.entry((at, view)).or_insert(candidate);
        hold!(vote == candidate, "replica {at} votes for {vote} and for {candidate} in view {view}");
        let kept = nodes[&at].disk.hard_state;
        hold!(
            kept.view > view || (kept.view == view && kept.voted_for == Some(candidate)),
            "replica {at} votes for {candidate} in view {view} and has {kept:?} on its disk"
        );
        Ok(())
    }
}
