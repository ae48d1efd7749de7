//! Leaving the group for good, at an operator's word: alone, or in exchange for a fresh replica.
//!
//! Whoever sees to it (`rsm::admin`) gives the master the same order again and again until it is carried out, so nothing is
//! remembered of it but what is in the log, and a new master goes on where the one before stopped. To exchange OLD for NEW:
//!
//! * NEW asks to be taken in by itself, like every replica that was started, and gets its vote by itself.
//! * OLD, when it answers, is removed once NEW votes, so that the group does not become smaller; when it does not answer, as soon
//!   as NEW has asked, because NEW does not get its vote while a member is missed.
//! * A master that is to go hands mastership over; its successor gets the order, too.
//! * With the removal, or later when OLD was removed for its silence before, it is noted in the membership that OLD is *retired*.
//!   It is never taken in again, and told so when it asks: then it stops for good.

use super::membership::Standing;
use super::replica::ReplicaCore;
use super::waiting::Ticket;
use crate::consensus::{Follower, Member, Membership, ReplicaId};
use serde::{Deserialize, Serialize};

/// An order that is not repeated for this long is void.
const ORDERED_WITHIN_MS: u64 = 2_000;

/// A replica is to leave the group for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retire {
    /// Where it listens, or did when it was a member.
    pub old: String,
    /// Where the replica listens that takes its place; `None`: nobody does.
    pub new: Option<String>,
}

/// How a replica stands to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// None listens there that is a member or wants to be.
    Nowhere,
    /// It has asked to be taken in.
    Asking,
    /// It is being caught up.
    Joining,
    /// It has its vote.
    Member,
}

/// How far an order has been carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retirement {
    /// Nobody at that address is or was a member, as far as the group remembers. These are members.
    Unknown(Vec<String>),
    /// It is the only voting member.
    Last,
    /// On its way.
    UnderWay {
        /// Whether the one to go is still a member.
        is_member: bool,
        /// How the one that comes stands.
        new: Option<Place>,
    },
    /// These are the members now.
    Done(Vec<String>),
}

/// The order that a master carries out.
#[derive(Debug)]
pub(super) struct Order {
    what: Retire,
    given_ms: u64,
}

impl Standing {
    fn order(&self, now_ms: u64) -> Option<&Retire> {
        let order = self.order.as_ref().filter(|order| now_ms < order.given_ms + ORDERED_WITHIN_MS);
        order.map(|order| &order.what)
    }
}

impl<T: Ticket> ReplicaCore<T> {
    /// An operator wants a replica to go. A later order takes the place of an earlier one.
    pub(super) fn on_order(&mut self, now_ms: u64, what: Retire) {
        if self.leads(now_ms) {
            self.standing.order = Some(Order { what, given_ms: now_ms });
            self.standing.look_again_ms = 0;
        }
    }

    /// An order that is carried out is void: a fresh replica may come at the address of the one that left.
    pub(super) fn forget_order_when_done(&mut self, now_ms: u64) {
        let is_done = |order| matches!(self.retirement(order), Retirement::Done(_));
        if self.standing.order(now_ms).is_some_and(is_done) {
            self.standing.order = None;
        }
    }

    /// How far `order` has been carried out, as this replica knows it; worth something only from a master that a majority follows.
    pub fn retirement(&self, order: &Retire) -> Retirement {
        let membership = self.core.membership();
        let addresses = || membership.voting_addresses();
        let is_member = membership.at(&order.old).is_some();
        let went = || membership.former.iter().filter(|former| former.address == order.old);
        if !is_member && went().next().is_none() {
            return Retirement::Unknown(addresses());
        }
        if is_member && order.new.is_none() && addresses() == [order.old.clone()] {
            return Retirement::Last;
        }
        let new = order.new.as_ref().map(|address| self.place(address));
        let has_come = new.is_none_or(|place| place == Place::Member);
        let is_out = !is_member && went().all(|former| former.retired);
        if has_come && is_out && self.core.membership_is_committed() {
            return Retirement::Done(addresses());
        }
        Retirement::UnderWay { is_member, new }
    }

    fn place(&self, address: &str) -> Place {
        match self.core.membership().at(address) {
            Some(Member { voter: true, .. }) => Place::Member,
            Some(_) => Place::Joining,
            None if self.standing.asks(address) => Place::Asking,
            None => Place::Nowhere,
        }
    }

    /// The membership without the one that is to go, when it is time for that.
    pub(super) fn whom_to_retire(&self, now_ms: u64, followers: &[Follower]) -> Option<Membership> {
        let Retire { old, new } = self.standing.order(now_ms)?;
        let membership = self.core.membership();
        let place = new.as_ref().map_or(Place::Member, |address| self.place(address));
        let Some(member) = membership.at(old) else {
            let is_news = membership.former.iter().any(|former| former.address == *old && !former.retired);
            return (is_news && place == Place::Member).then(|| membership.retiring(old));
        };
        let may_go = match place {
            Place::Member => true,
            Place::Nowhere => false,
            Place::Asking | Place::Joining => self.is_missed(member.id, followers),
        };
        let without = membership.without(member.id).retiring(old);
        (may_go && without.voters().next().is_some()).then_some(without)
    }

    /// Whether a member has not been heard for so long that elections would have passed.
    fn is_missed(&self, id: ReplicaId, followers: &[Follower]) -> bool {
        let silence_ms = 2 * self.config.election_timeout_ms;
        followers.iter().any(|follower| follower.id == id && follower.silent_ms >= silence_ms)
    }
}
