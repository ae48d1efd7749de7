//! Elections: pre-vote, votes, and how a replica changes its role (§3.4, §3.6.1, §4.2.3, §9.6).

use super::core::Core;
use super::message::Body;
use super::role::RoleState;
use super::types::{COUNTED_MAX, HardState, ReplicaId, Viewstamp};
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};
use std::collections::BTreeSet;

impl Core {
    /// Tries to become master now instead of waiting for the election timeout. Without effect in a master, in
    /// a replica that may not vote, and while a master is alive as far as this replica knows.
    pub fn campaign(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        if !matches!(self.role, RoleState::Master(_)) && !self.has_living_master() {
            self.election_timeout();
        }
    }

    /// The next election timeout is a random time between once and twice the minimum away (§3.4).
    pub(super) fn postpone_election(&mut self) {
        let timeout = self.config.election_timeout_ms;
        self.election_due_ms = self.now_ms + timeout + self.rng.below(timeout.max(1));
    }

    /// No master was heard of for too long.
    pub(super) fn election_timeout(&mut self) {
        self.postpone_election();
        self.set_master(None);
        if self.may_campaign() {
            self.ask_whether_to_campaign();
        } else {
            self.role = RoleState::Slave;
        }
    }

    /// Whether a master was heard so recently that this replica helps nobody to replace it.
    pub(super) fn has_living_master(&self) -> bool {
        match self.role {
            RoleState::Master(_) => self.is_master_with_quorum(self.now_ms),
            _ => {
                self.heard_ms.is_some_and(|heard_ms| self.now_ms < heard_ms + self.config.election_timeout_ms)
            }
        }
    }

    /// Whether this replica has a vote. As long as the entry that takes it away may not be committed it has
    /// to go on as if it had one, without counting itself: it may be the only one that has that entry, and so
    /// the only electable one (§4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        // Nobody would listen to a candidate beyond the last view.
        self.view() < COUNTED_MAX
            && self
                .log
                .memberships_since(self.committed)
                .any(|membership| membership.is_voter(self.config.id))
    }

    fn ask_whether_to_campaign(&mut self) {
        self.role = RoleState::PreCandidate { granted: BTreeSet::new() };
        let last = self.log.last();
        for voter in self.other_voters() {
            self.send(voter, Body::PreVote { last });
        }
        self.on_pre_vote_reply(self.config.id, self.view() + 1, true);
    }

    /// `view` is the asker's, before it would campaign. Nothing changes here.
    pub(super) fn on_pre_vote(&mut self, from: ReplicaId, view: u64, last: Viewstamp) {
        let is_behind = last < self.log.last();
        #[cfg(feature = "planted")]
        let is_behind = is_behind && !planted::has(Bug::VoteForShorterLog);
        let granted = view >= self.view() && !is_behind && !self.has_living_master();
        self.send(from, Body::PreVoteReply { campaign_view: view + 1, granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: ReplicaId, campaign_view: u64, is_granted: bool) {
        let (wanted, is_voter) = (self.view() + 1, self.log.membership().is_voter(from));
        let RoleState::PreCandidate { granted } = &mut self.role else { return };
        if !is_granted || campaign_view != wanted || !is_voter {
            return;
        }
        granted.insert(from);
        if self.log.membership().is_quorum(granted) {
            self.start_campaign(false);
        }
    }

    /// Opens a view and asks for votes in it. The own vote counts once it is on disk, and so do the others:
    /// the request is sent only then, or a candidate that crashed and lost the end of its log could collect
    /// votes given to the longer one.
    pub(super) fn start_campaign(&mut self, hand_over: bool) {
        assert!(self.may_campaign(), "only a voter campaigns");
        self.leave_role();
        self.role = RoleState::Candidate { granted: BTreeSet::new() };
        self.incoming = None;
        self.set_master(None);
        self.set_hard_state(HardState { view: self.view() + 1, voted_for: Some(self.config.id) });
        self.postpone_election();
        let last = self.log.last();
        for voter in self.other_voters() {
            self.send_after_persist(voter, Body::RequestVote { last, hand_over });
        }
    }

    pub(super) fn own_vote_is_durable(&mut self) {
        self.on_vote(self.config.id, true);
    }

    pub(super) fn on_request_vote(&mut self, from: ReplicaId, last: Viewstamp) {
        let free = self.hard_state.voted_for.is_none_or(|id| id == from);
        let is_behind = last < self.log.last();
        #[cfg(feature = "planted")]
        let (free, is_behind) =
            (free || planted::has(Bug::VoteTwice), is_behind && !planted::has(Bug::VoteForShorterLog));
        if !free || is_behind {
            return self.send(from, Body::Vote { granted: false });
        }
        if self.hard_state.voted_for.is_none() {
            self.set_hard_state(HardState { voted_for: Some(from), ..self.hard_state });
        }
        if matches!(self.role, RoleState::PreCandidate { .. }) {
            self.role = RoleState::Slave;
        }
        self.postpone_election();
        self.send_after_persist(from, Body::Vote { granted: true });
    }

    pub(super) fn on_vote(&mut self, from: ReplicaId, is_granted: bool) {
        let is_voter = self.log.membership().is_voter(from);
        let RoleState::Candidate { granted } = &mut self.role else { return };
        if !is_granted || !is_voter {
            return;
        }
        granted.insert(from);
        if self.log.membership().is_quorum(granted) {
            self.become_master();
        }
    }

    /// A later view exists; its master is not known yet.
    pub(super) fn adopt_view(&mut self, view: u64) {
        self.become_slave();
        self.incoming = None;
        self.set_hard_state(HardState { view, voted_for: None });
    }

    /// Stops whatever this replica was doing and waits for a master.
    pub(super) fn become_slave(&mut self) {
        self.leave_role();
        self.set_master(None);
    }

    /// A message that only the master of this view sends came from `from`.
    pub(super) fn follow(&mut self, from: ReplicaId) {
        assert!(
            !matches!(self.role, RoleState::Master(_)),
            "view {} has two masters, one is {from}",
            self.view()
        );
        assert!(
            self.master.is_none_or(|master| master == from),
            "view {} has two masters, {:?} and {from}",
            self.view(),
            self.master
        );
        self.role = RoleState::Slave;
        self.set_master(Some(from));
        self.heard_ms = Some(self.now_ms);
        self.postpone_election();
    }

    fn leave_role(&mut self) {
        if let RoleState::Master(reign) = std::mem::replace(&mut self.role, RoleState::Slave) {
            self.outputs.reads_failed.extend(reign.reads.into_tokens());
            self.postpone_election();
        }
    }

    fn other_voters(&self) -> Vec<ReplicaId> {
        self.log.membership().voters().filter(|&id| id != self.config.id).collect()
    }
}
