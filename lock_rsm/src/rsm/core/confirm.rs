//! A change of the votes is made only when those who are to decide from then on are there *after* it was decided on.
//!
//! A change of the membership is in force at the master as soon as it is in its log, and cannot be taken back by it: from then
//! on it needs a majority of the new voters. That an election timeout ago a majority was heard says little about them. Take
//! three members, of whom one is silent, but will be back, and another answered a moment ago and is just losing its disk. If the
//! master now removes the silent one, the lost one is needed for ever: of the two members left, only the master is there. Without
//! the removal the silent one, once back, would be a majority together with the master, and both would remove the lost one.
//!
//! So the master first decides and then asks: the change is made once every voter of the resulting membership has answered a
//! heartbeat that was *sent after the decision*, but for those that are away themselves, and if they are a majority of it. Who
//! loses its disk before it could answer is away soon, and the majority is missing, or is one without it. Who loses it after it
//! answered, loses it as if it had done so after the change: what the group can bear is then what the new membership can bear, and
//! the time in between is one round trip and one write, not an election timeout.
//!
//! The decision is void when anything else becomes the thing to do, such as when the silent one is heard again.

use crate::consensus::{Follower, Membership, ReplicaId};

/// A change of the votes that waits for its voters to answer.
#[derive(Debug)]
pub(super) struct Decision {
    /// The view of the master that decided.
    view: u64,
    membership: Membership,
    since_ms: u64,
}

/// Who decides on a change, and what it knows of the others.
#[derive(Clone, Copy)]
pub(super) struct Witness<'a> {
    pub(super) now_ms: u64,
    pub(super) view: u64,
    /// The master itself.
    pub(super) me: ReplicaId,
    pub(super) followers: &'a [Follower],
    /// Whoever is silent for so long is away.
    pub(super) away_after_ms: u64,
}

impl Decision {
    pub(super) fn new(membership: Membership, witness: &Witness<'_>) -> Decision {
        Decision { view: witness.view, membership, since_ms: witness.now_ms }
    }

    /// Whether this is the decision for `membership`.
    pub(super) fn is_for(&self, membership: &Membership, witness: &Witness<'_>) -> bool {
        self.view == witness.view && self.membership == *membership
    }

    /// Whether the voters to be have answered since.
    pub(super) fn is_confirmed(&self, witness: &Witness<'_>) -> bool {
        let mut there = usize::from(self.membership.is_voter(witness.me));
        for voter in self.membership.voters().filter(|&id| id != witness.me) {
            let Some(follower) = witness.followers.iter().find(|follower| follower.id == voter) else {
                return false;
            };
            if follower.silent_ms >= witness.away_after_ms {
                continue;
            }
            // Sent after the decision, not just in the same millisecond.
            if follower.silent_ms >= witness.now_ms.saturating_sub(self.since_ms) {
                return false;
            }
            there += 1;
        }
        there >= self.membership.majority()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Member;

    fn membership(ids: &[ReplicaId]) -> Membership {
        let member = |&id| Member { id, address: String::new(), voter: true };
        Membership::of(ids.iter().map(member).collect())
    }

    /// Followers 2, 3, … that were silent for so long.
    fn followers(silent_ms: &[u64]) -> Vec<Follower> {
        let follower =
            |(id, &silent_ms)| Follower { id, voter: true, matched: 0, silent_ms, needs_snapshot: false };
        (2..).zip(silent_ms).map(follower).collect()
    }

    /// Whether master 1, which decided at 1000 on these members, may go on at `now_ms`.
    fn confirmed(members: &[ReplicaId], now_ms: u64, silent_ms: &[u64]) -> bool {
        let followers = followers(silent_ms);
        let witness = Witness { now_ms, view: 4, me: 1, followers: &followers, away_after_ms: 300 };
        let decided = Witness { now_ms: 1_000, ..witness };
        Decision::new(membership(members), &decided).is_confirmed(&witness)
    }

    #[test]
    fn an_answer_to_something_sent_before_does_not_count() {
        assert!(!confirmed(&[1, 2], 1_000, &[0, 2_000]), "answered in this very millisecond");
        assert!(!confirmed(&[1, 2], 1_030, &[30, 2_030]));
        assert!(confirmed(&[1, 2], 1_030, &[29, 2_030]));
    }

    #[test]
    fn who_was_heard_and_does_not_answer_is_waited_for_until_it_is_away() {
        assert!(!confirmed(&[1, 2, 3, 4], 1_100, &[10, 120, 10, 2_000]));
        assert!(confirmed(&[1, 2, 3, 4], 1_280, &[10, 300, 10, 2_000]), "three of four are enough");
        assert!(!confirmed(&[1, 2, 3, 4], 1_500, &[10, 520, 400, 2_000]), "two of four are not");
        assert!(!confirmed(&[1, 2], 9_000, &[8_020, 9_000]));
    }

    #[test]
    fn a_master_that_goes_does_not_count_itself() {
        assert!(confirmed(&[2, 3], 1_100, &[10, 20]));
        assert!(!confirmed(&[2, 3], 2_000, &[10, 1_900]));
        assert!(confirmed(&[2], 1_100, &[10]));
    }

    #[test]
    fn a_decision_is_for_one_change_of_one_master() {
        let all = followers(&[0]);
        let witness = Witness { now_ms: 5, view: 4, me: 1, followers: &all, away_after_ms: 300 };
        let decision = Decision::new(membership(&[1, 2]), &witness);
        assert!(decision.is_for(&membership(&[1, 2]), &witness));
        assert!(!decision.is_for(&membership(&[1]), &witness));
        assert!(!decision.is_for(&membership(&[1, 2]), &Witness { view: 5, ..witness }));
    }
}
