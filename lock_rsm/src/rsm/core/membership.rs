//! Who belongs to the group: what a master decides about it, and how a replica that is left out asks to be taken in.
//!
//! The rules of changing are those of consensus (one voter at a time, nothing before the master has committed in its own
//! view). What is decided here is which change, in this order, and only by a master that a majority follows:
//!
//! 1. A replica that an operator wants gone goes: see [`retire`](super::retire).
//! 2. A member that has been silent for long is removed, and so is one whose address another incarnation asks from, unless it
//!    still answers.
//! 3. A joiner that has caught up gets its vote, unless a member is silent and about to be removed: should the joiner die as
//!    well, the living might be no majority of so many.
//! 4. A replica that asks is taken in without a vote.
//!
//! Before votes change, those who will have them must have answered after that was decided: see [`confirm`](super::confirm).
//!
//! Of an even number of members more than half are needed, as before the removal of one; so a group of two never becomes a
//! group of one by itself: neither could know that it is not the other one that goes on alone.

use super::super::config::MEMBERS_MAX;
use super::confirm::{Decision, Witness};
use super::replica::ReplicaCore;
use super::retire::Order;
use super::waiting::Ticket;
use crate::consensus::{Follower, Member, Membership, ReplicaId, Role};
use std::collections::BTreeMap;

/// How often a master looks at its members.
const LOOK_EVERY_MS: u64 = 10;
/// Whoever has not asked again for this long does not want to join any more.
const ASKED_WITHIN_MS: u64 = 2_000;
/// Replicas that may ask at the same time; more have to ask again later.
const ASKERS_MAX: usize = 64;
/// How often a replica that is left out asks.
const ASK_EVERY_MS: u64 = 200;
/// A joiner whose log is at most this many entries behind is given its vote: what a busy master sends in a moment.
const LAG_MAX: u64 = 1_024;

/// What a replica keeps about the members beside what consensus does.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Who asked a master to be taken in: where it listens, and when.
    askers: BTreeMap<ReplicaId, (String, u64)>,
    pub(super) look_again_ms: u64,
    /// Who is to leave for good.
    pub(super) order: Option<Order>,
    /// The change of votes that a master wants, and waits to be confirmed.
    decision: Option<Decision>,
    /// Since when no master was heard of.
    masterless_since_ms: Option<u64>,
    ask_again_ms: u64,
}

impl Standing {
    /// Whether a replica that listens at `address` has asked to be taken in.
    pub(super) fn asks(&self, address: &str) -> bool {
        self.askers.values().any(|(asker, _)| asker == address)
    }
}

impl<T: Ticket> ReplicaCore<T> {
    /// A replica that is not among the members, or does not hear that it is, asks to be taken in.
    pub(super) fn on_asked(&mut self, now_ms: u64, id: ReplicaId, address: String) {
        let has_left = self.core.membership().is_retired(id);
        let may_ask = self.standing.askers.len() < ASKERS_MAX || self.standing.askers.contains_key(&id);
        if self.core.role() == Role::Master && id != self.core.id() && may_ask && !has_left {
            self.standing.askers.insert(id, (address, now_ms));
            self.standing.look_again_ms = 0;
        }
    }

    /// Whether this replica should ask to be taken in, now: it has heard of no master for too long. If it is a member all the
    /// same, asking does no harm.
    pub(super) fn must_ask(&mut self, now_ms: u64) -> bool {
        if self.core.master().is_some() || self.head_start.waits(now_ms) {
            self.standing.masterless_since_ms = None;
            return false;
        }
        let since_ms = *self.standing.masterless_since_ms.get_or_insert(now_ms);
        let is_member = self.core.membership().is_voter(self.core.id());
        let patience_ms = if is_member { 2 * self.config.election_timeout_ms } else { 0 };
        let is_due = now_ms >= since_ms + patience_ms && now_ms >= self.standing.ask_again_ms;
        if is_due {
            self.standing.ask_again_ms = now_ms + ASK_EVERY_MS;
        }
        is_due
    }

    /// As master: changes the membership if that is called for and possible.
    pub(super) fn manage_members(&mut self, now_ms: u64) {
        if self.core.role() != Role::Master {
            self.standing.askers.clear();
            self.standing.order = None;
            self.standing.decision = None;
            return;
        }
        if now_ms < self.standing.look_again_ms || self.handing_over_until_ms.is_some() {
            return;
        }
        self.standing.look_again_ms = now_ms + LOOK_EVERY_MS;
        let may_change = self.core.is_settled()
            && self.core.membership_is_committed()
            && self.core.is_master_with_quorum(now_ms);
        if !may_change {
            self.standing.decision = None;
            return;
        }
        self.standing.askers.retain(|_, (_, asked_ms)| now_ms < *asked_ms + ASKED_WITHIN_MS);
        let followers = self.core.followers(now_ms);
        self.forget_order_when_done(now_ms);
        let retiring = self.whom_to_retire(now_ms, &followers);
        if retiring.as_ref().is_some_and(|membership| !membership.contains(self.core.id())) {
            // The next master removes this one, and nobody waits for an election.
            let _ = self.core.hand_over(now_ms);
            return;
        }
        let change = retiring
            .or_else(|| self.whom_to_remove(&followers))
            .or_else(|| self.whom_to_promote(&followers))
            .or_else(|| self.whom_to_take_in());
        let Some(membership) = change else {
            self.standing.decision = None;
            return;
        };
        if self.is_confirmed(now_ms, &membership, &followers) {
            self.standing.decision = None;
            // Refused when something came between; the next look will tell.
            let _ = self.core.propose_membership(now_ms, membership);
        }
    }

    /// Whether a change may be made now: it changes no votes, or those who will have them have answered since it was first
    /// wanted.
    fn is_confirmed(&mut self, now_ms: u64, membership: &Membership, followers: &[Follower]) -> bool {
        if membership.voters().eq(self.core.membership().voters()) {
            return true;
        }
        let (view, me) = (self.core.view(), self.core.id());
        let away_after_ms = 2 * self.config.election_timeout_ms;
        let witness = Witness { now_ms, view, me, followers, away_after_ms };
        let decided = self.standing.decision.take().filter(|decision| decision.is_for(membership, &witness));
        let decision = decided.unwrap_or_else(|| Decision::new(membership.clone(), &witness));
        let is_confirmed = decision.is_confirmed(&witness);
        self.standing.decision = Some(decision);
        is_confirmed
    }

    /// The longest silent one of those that have to go.
    fn whom_to_remove(&self, followers: &[Follower]) -> Option<Membership> {
        let limit_ms = self.config.remove_after_ms.unwrap_or(u64::MAX);
        let must_go = |follower: &&Follower| {
            follower.silent_ms >= limit_ms
                || (follower.silent_ms >= self.config.election_timeout_ms && self.is_replaced(follower.id))
        };
        let gone = followers.iter().filter(must_go).max_by_key(|follower| follower.silent_ms)?;
        Some(self.core.membership().without(gone.id))
    }

    /// Whether another incarnation asks from this member's address.
    fn is_replaced(&self, id: ReplicaId) -> bool {
        let Some(member) = self.core.membership().get(id) else { return false };
        let mut askers = self.standing.askers.iter();
        askers.any(|(asker, (address, _))| *asker != id && *address == member.address)
    }

    fn whom_to_promote(&self, followers: &[Follower]) -> Option<Membership> {
        let is_missed =
            |follower: &Follower| follower.voter && follower.silent_ms >= 2 * self.config.election_timeout_ms;
        if self.config.remove_after_ms.is_some() && followers.iter().any(is_missed) {
            return None;
        }
        let last = self.core.last().seq;
        let is_ready = |follower: &&Follower| {
            !follower.voter
                && !follower.needs_snapshot
                && follower.matched > 0
                && follower.matched + LAG_MAX >= last
                && follower.silent_ms < self.config.election_timeout_ms
        };
        let ready = followers.iter().find(is_ready)?;
        let mut membership = self.core.membership().clone();
        // Members stand in the order in which they became that.
        let at = membership.members.iter().position(|member| member.id == ready.id)?;
        let member = membership.members.remove(at);
        membership.members.push(Member { voter: true, ..member });
        Some(membership)
    }

    fn whom_to_take_in(&mut self) -> Option<Membership> {
        let membership = self.core.membership();
        self.standing.askers.retain(|id, _| !membership.contains(*id) && !membership.is_retired(*id));
        if membership.members.len() >= MEMBERS_MAX {
            return None;
        }
        // An address has one replica; who had it before has to go first.
        let is_free = |address: &String| membership.at(address).is_none();
        let (&id, (address, _)) = self.standing.askers.iter().find(|(_, (address, _))| is_free(address))?;
        Some(membership.with(Member { id, address: address.clone(), voter: false }))
    }
}
