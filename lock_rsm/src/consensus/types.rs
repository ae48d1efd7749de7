//! The words of the protocol: stamps, members, entries, and what a restarted replica remembers.

use super::wire_bytes;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A replica's identity: drawn at random when its data directory is created, never used again by another.
pub type ReplicaId = u64;

/// The greatest view and sequence number that a replica believes or uses itself; the rest of the range is left free, so that
/// no sum of such numbers overflows.
///
/// Both are counted up one by one, so no group comes so far: a thousand million entries a second take 146 years. There is
/// no closer bound. A replica that was away, or that joins, may hear of any number its group has come to, so how far a
/// number is ahead of the own ones says nothing; and a message has no more to prove itself than its sender's identity.
pub(crate) const COUNTED_MAX: u64 = 1 << 62;

/// Where an entry stands: the view in which a master first appended it, and its place in the log.
///
/// Ordered by view, then by sequence number; of two logs the one whose last stamp is greater is "more up to
/// date" (§3.6.1). Two entries with the same stamp are the same entry and follow the same entries (log
/// matching, §3.5). `(0, 0)` stands before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Viewstamp {
    /// Number of the view in which the entry was proposed.
    pub view: u64,
    /// Place in the log; the first entry has 1, and there are no holes.
    pub seq: u64,
}

impl Viewstamp {
    /// Before the first entry of any log.
    pub const ZERO: Viewstamp = Viewstamp { view: 0, seq: 0 };

    /// The stamp of entry `seq` proposed in `view`.
    pub const fn new(view: u64, seq: u64) -> Viewstamp {
        Viewstamp { view, seq }
    }
}

impl Viewstamp {
    /// Whether a group could ever come so far.
    pub(super) fn is_plausible(self) -> bool {
        self.view <= COUNTED_MAX && self.seq <= COUNTED_MAX
    }
}

impl fmt::Display for Viewstamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.view, self.seq)
    }
}

/// One replica of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its identity.
    pub id: ReplicaId,
    /// Where it listens, `HOST:PORT`. Not interpreted here.
    pub address: String,
    /// Whether it counts in quorums and may become master. A member that does not only receives the log
    /// (§4.2.1).
    pub voter: bool,
}

/// A replica that was a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its identity.
    pub id: ReplicaId,
    /// Where it listened.
    pub address: String,
    /// It was replaced or has left for good: it does not become a member again. Others, which were merely
    /// silent, may.
    pub retired: bool,
}

/// Former members remembered. Of more, the oldest that may come back are forgotten first.
pub const FORMER_MAX: usize = 64;

/// Who belongs to the group. The latest one in a replica's log is in force, committed or not (§4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The members, in the order of the configuration.
    pub members: Vec<Member>,
    /// Who was one, the last one to go last.
    pub former: Vec<Former>,
}

impl Membership {
    /// These members, and nobody before them.
    pub fn of(members: Vec<Member>) -> Membership {
        Membership { members, former: Vec::new() }
    }

    /// The same with one more member, which may have been one before.
    pub fn with(&self, member: Member) -> Membership {
        let mut next = self.clone();
        next.former.retain(|former| former.id != member.id);
        next.members.push(member);
        next
    }

    /// The same without the member `id`, which is remembered.
    pub fn without(&self, id: ReplicaId) -> Membership {
        let mut next = self.clone();
        if let Some(Member { id, address, .. }) = self.get(id).cloned() {
            next.members.retain(|member| member.id != id);
            next.former.push(Former { id, address, retired: false });
        }
        while next.former.len() > FORMER_MAX {
            let oldest = next.former.iter().position(|former| !former.retired).unwrap_or(0);
            next.former.remove(oldest);
        }
        next
    }

    /// The same, where the replicas that were members at `address` and are not any more never become it again.
    pub fn retiring(&self, address: &str) -> Membership {
        let mut next = self.clone();
        let there = next.former.iter_mut().filter(|former| former.address == address);
        there.for_each(|former| former.retired = true);
        next
    }

    /// Whether the replica `id` has left for good.
    pub fn is_retired(&self, id: ReplicaId) -> bool {
        self.former.iter().any(|former| former.retired && former.id == id)
    }

    /// Who has left for good.
    pub fn retired(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.former.iter().filter(|former| former.retired).map(|former| former.id)
    }

    /// Where the voting members listen, in the order in which they became that.
    pub fn voting_addresses(&self) -> Vec<String> {
        let voters = self.members.iter().filter(|member| member.voter);
        voters.map(|member| member.address.clone()).collect()
    }

    /// The member that listens at `address`.
    pub fn at(&self, address: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.address == address)
    }

    /// The member with identity `id`.
    pub fn get(&self, id: ReplicaId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether `id` belongs to the group, voting or not.
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.get(id).is_some()
    }

    /// Whether `id` counts in quorums.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.get(id).is_some_and(|member| member.voter)
    }

    /// The identities that count in quorums.
    pub fn voters(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.members.iter().filter(|member| member.voter).map(|member| member.id)
    }

    /// How many voters are needed for a decision. Without voters no number is enough.
    pub fn majority(&self) -> usize {
        self.voters().count() / 2 + 1
    }

    /// Whether the voters among `ids` are a majority.
    pub fn is_quorum(&self, ids: &BTreeSet<ReplicaId>) -> bool {
        self.voters().filter(|id| ids.contains(id)).count() >= self.majority()
    }

    /// Whether no identity appears twice, and no more former members than may be.
    pub(super) fn is_sane(&self) -> bool {
        let former = self.former.iter().map(|former| former.id);
        let distinct: BTreeSet<ReplicaId> =
            self.members.iter().map(|member| member.id).chain(former).collect();
        distinct.len() == self.members.len() + self.former.len() && self.former.len() <= FORMER_MAX
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing. A new master appends one to commit what its predecessors left (§3.6.2, §6.4).
    Noop,
    /// A command of the replicated program.
    Command(#[serde(with = "wire_bytes")] Bytes),
    /// The membership in force from this entry on.
    Membership(Membership),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub stamp: Viewstamp,
    /// What it says.
    pub payload: Payload,
}

/// What an entry costs beside its payload, in memory and on the wire, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 32;

impl Entry {
    /// Bytes this entry is counted with against the limits of [`Config`](super::Config).
    pub fn size_bytes(&self) -> usize {
        let payload = match &self.payload {
            Payload::Noop => 0,
            Payload::Command(bytes) => bytes.len(),
            Payload::Membership(membership) => {
                let members = membership.members.iter().map(|member| &member.address);
                let former = membership.former.iter().map(|former| &former.address);
                members.chain(former).map(|address| address.len() + ENTRY_OVERHEAD_BYTES).sum()
            }
        };
        payload + ENTRY_OVERHEAD_BYTES
    }
}

/// The promises of a replica that must survive a crash (§3.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest view number this replica has seen. Never decreases.
    pub view: u64,
    /// Whom it voted for in that view. Never changes within a view.
    pub voted_for: Option<ReplicaId>,
}

/// What a snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry whose effect is in the snapshot.
    pub stamp: Viewstamp,
    /// The membership in force after that entry.
    pub membership: Membership,
}

/// What a replica is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Follows a master, or waits for one.
    Slave,
    /// Asks whether it could win an election, without disturbing anybody (§9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Orders the commands of its view.
    Master,
}

/// A view as this replica knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewInfo {
    /// The view number.
    pub number: u64,
    /// Its master; `None` while there is none or it is not known.
    pub master: Option<ReplicaId>,
    /// The membership in force.
    pub membership: Membership,
}

/// What the master knows of another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follower {
    /// Who it is.
    pub id: ReplicaId,
    /// Whether it counts in quorums.
    pub voter: bool,
    /// Its log is known to agree with the master's, on its disk, up to here.
    pub matched: u64,
    /// Milliseconds since the sending of the last heartbeat that it answered in this view.
    pub silent_ms: u64,
    /// Whether it lacks entries that the master's log no longer has.
    pub needs_snapshot: bool,
}

/// What a replica's disk remembers when it starts.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The promises.
    pub hard_state: HardState,
    /// The latest snapshot on disk, if any.
    pub snapshot: Option<SnapshotMeta>,
    /// The log on disk, without holes. Entries that the snapshot covers are ignored.
    pub entries: Vec<Entry>,
    /// The membership before the first entry of the log: the founding membership, or an empty one in a
    /// replica that waits to be taken in. Not looked at when there is a snapshot.
    pub membership: Membership,
    /// The last entry whose effect the replicated program already has: [`Outputs::committed`](super::Outputs)
    /// starts after it. At least the snapshot's seq (load the snapshot first); plainly that, or 0, for a
    /// program that lives in memory.
    pub applied: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(ids: impl IntoIterator<Item = ReplicaId>) -> Membership {
        let member = |id| Member { id, address: format!("a:{id}"), voter: true };
        Membership::of(ids.into_iter().map(member).collect())
    }

    #[test]
    fn who_goes_is_remembered_until_it_comes_back() {
        let three = membership([1, 2, 3]);
        let two = three.without(2);
        assert_eq!(two.former, [Former { id: 2, address: "a:2".into(), retired: false }]);
        let back = two.with(three.get(2).unwrap().clone());
        assert!(back.former.is_empty() && back.contains(2) && back.is_sane());
        assert_eq!(two.without(9), two);
    }

    #[test]
    fn the_retired_are_all_that_went_from_an_address() {
        let gone = membership([1, 2, 3]).without(2).without(3).retiring("a:2");
        assert!(gone.is_retired(2) && !gone.is_retired(3) && !gone.is_retired(1));
        assert_eq!(gone.retired().collect::<Vec<_>>(), [2]);
        assert_eq!(gone.retiring("a:1"), gone, "a member is not retired");
    }

    #[test]
    fn the_retired_are_remembered_longest() {
        let mut all = membership(1..=FORMER_MAX as u64 + 10);
        for id in 1..=FORMER_MAX as u64 + 9 {
            all = all.without(id);
            if id == 3 {
                all = all.retiring("a:3");
            }
        }
        assert!(all.is_sane() && all.former.len() == FORMER_MAX);
        assert_eq!(all.former.first().map(|former| former.id), Some(3));
        assert_eq!(all.former.last().map(|former| former.id), Some(FORMER_MAX as u64 + 9));
    }
}
