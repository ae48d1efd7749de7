//! A master changes the membership by one voter, and not before the change before is committed, and something in its own
//! view (§4.1, and the correction of July 2015).

use super::{Invariant, Nodes, Seen, hold, running};
use lock_rsm::consensus::{Membership, Payload, ReplicaId, Role, Viewstamp};
use std::collections::{BTreeMap, BTreeSet};

/// The memberships in each replica's log that it does not know to be committed.
#[derive(Default)]
pub(super) struct OneChangeAtATime {
    logs: BTreeMap<ReplicaId, BTreeMap<u64, (Viewstamp, Membership)>>,
}

impl Invariant for OneChangeAtATime {
    fn name(&self) -> &'static str {
        "one change at a time"
    }

    fn observe(&mut self, at: ReplicaId, seen: &Seen<'_>, nodes: &Nodes) -> Result<(), String> {
        match seen {
            Seen::Started(disk) => {
                let first = disk.snapshot.as_ref().map(|snapshot| &snapshot.meta);
                let base = first
                    .map_or((Viewstamp::ZERO, disk.founding.clone()), |it| (it.stamp, it.membership.clone()));
                let log = BTreeMap::from([(base.0.seq, base)]);
                self.logs.insert(at, log);
                disk.log.values().for_each(|entry| self.note(at, entry.stamp, &entry.payload));
            }
            Seen::Logged(write) => {
                if let Some((snapshot, discard)) = &write.install {
                    let log = self.logs.entry(at).or_default();
                    let seq = snapshot.meta.stamp.seq;
                    log.retain(|&kept, _| kept > seq && !discard);
                    log.insert(seq, (snapshot.meta.stamp, snapshot.meta.membership.clone()));
                }
                if let Some(from) = write.truncate_from {
                    self.logs.entry(at).or_default().retain(|&kept, _| kept < from);
                }
                for entry in &write.append {
                    self.note(at, entry.stamp, &entry.payload);
                    self.check(at, entry.stamp, &entry.payload, nodes)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl OneChangeAtATime {
    fn note(&mut self, at: ReplicaId, stamp: Viewstamp, payload: &Payload) {
        if let Payload::Membership(membership) = payload {
            self.logs.entry(at).or_default().insert(stamp.seq, (stamp, membership.clone()));
        }
    }

    /// Looks at a change that a master just made.
    fn check(&self, at: ReplicaId, stamp: Viewstamp, payload: &Payload, nodes: &Nodes) -> Result<(), String> {
        let Payload::Membership(after) = payload else { return Ok(()) };
        let Some(core) = running(nodes, at) else { return Ok(()) };
        if core.role() != Role::Master || core.view() != stamp.view {
            return Ok(());
        }
        let Some((_, (before_stamp, before))) = self.logs[&at].range(..stamp.seq).next_back() else {
            return Ok(());
        };
        hold!(
            before_stamp.seq <= core.committed(),
            "master {at} changes the membership at {stamp}, and the change at {before_stamp} is not committed"
        );
        let voters = |membership: &Membership| membership.voters().collect::<BTreeSet<_>>();
        let changed = voters(before).symmetric_difference(&voters(after)).count();
        hold!(changed <= 1, "master {at} changes {changed} votes at once at {stamp}");
        Ok(())
    }
}
