//! Changes of the membership, one voter at a time (§4.1, §4.2.2).

use super::core::Core;
use super::error::MembershipError;
use super::message::Body;
use super::progress::Progress;
use super::role::RoleState;
use super::types::{Membership, Payload, ReplicaId, Viewstamp};
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};
use std::collections::BTreeSet;

impl Core {
    /// Changes the membership. The new one is in force here at once and elsewhere as the entry arrives,
    /// committed or not; if the entry is lost so is the change. A master may remove itself: it resigns when
    /// that is committed.
    ///
    /// Take a member in without a vote first, and give it the vote when [`Core::followers`] shows that it
    /// caught up.
    pub fn propose_membership(
        &mut self,
        now_ms: u64,
        membership: Membership,
    ) -> Result<Viewstamp, MembershipError> {
        self.now_ms = self.now_ms.max(now_ms);
        self.check_membership(&membership)?;
        Ok(self.append_as_master(Payload::Membership(membership)))
    }

    fn check_membership(&self, new: &Membership) -> Result<(), MembershipError> {
        let RoleState::Master(reign) = &self.role else {
            return Err(MembershipError::NotMaster { hint: self.master });
        };
        if let Some(handing_over) = &reign.handing_over {
            return Err(MembershipError::NotMaster { hint: Some(handing_over.to) });
        }
        // A predecessor's change may be in force elsewhere; the first own commit settles that (raft-dev, July
        // 2015).
        if !self.is_settled() {
            return Err(MembershipError::ViewNotSettled);
        }
        let pending = self.log.membership_seq();
        let is_pending = pending > self.committed;
        #[cfg(feature = "planted")]
        let is_pending = is_pending && !planted::has(Bug::TwoChangesAtOnce);
        if is_pending {
            return Err(MembershipError::ChangePending { pending });
        }
        if !new.is_sane() {
            return Err(MembershipError::Duplicate);
        }
        let before: BTreeSet<ReplicaId> = self.log.membership().voters().collect();
        let after: BTreeSet<ReplicaId> = new.voters().collect();
        if after.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        let changes = before.symmetric_difference(&after).count();
        if changes > 1 {
            return Err(MembershipError::TooManyChanges { changes });
        }
        Ok(())
    }

    /// Another membership may be in force now.
    pub(super) fn membership_changed(&mut self) {
        self.announce = true;
        let (last, now_ms) = (self.log.last().seq, self.now_ms);
        let RoleState::Master(reign) = &mut self.role else { return };
        let membership = self.log.membership();
        // Newcomers get an election timeout to answer before their silence counts.
        reign.since_ms = now_ms;
        reign.followers.retain(|&id, _| membership.contains(id));
        for member in membership.members.iter().filter(|member| member.id != self.config.id) {
            reign.followers.entry(member.id).or_insert_with(|| Progress::new(last));
        }
    }

    /// A master that is no voter any more leaves once that is committed; until then it leads without counting
    /// itself.
    pub(super) fn retire_if_removed(&mut self) {
        let membership = self.log.membership();
        if membership.is_voter(self.config.id) || self.log.membership_seq() > self.committed {
            return;
        }
        self.flush_master();
        let membership = self.log.membership();
        let RoleState::Master(reign) = &self.role else { return };
        let voters = reign.followers.iter().filter(|&(&id, _)| membership.is_voter(id));
        if let Some((&successor, _)) = voters.max_by_key(|(_, progress)| progress.matched) {
            self.send(successor, Body::TimeoutNow);
        }
        self.become_slave();
    }
}
