//! Proposals on their way into the log.

use super::gather::Progress;
use super::input::Proposal;
use super::replica::{BACKLOG_BYTES_MAX, COMMAND_BYTES_MAX, ReplicaCore};
use super::waiting::{Refused, RequestKey, Ticket, Waiters};
use crate::consensus::{ProposeError, Role, Viewstamp};
use bytes::Bytes;

impl<T: Ticket> ReplicaCore<T> {
    /// Puts the proposals into the log, in one go; duplicates of requests in progress join those.
    pub(super) fn propose(&mut self, now_ms: u64) {
        if self.proposals.is_empty() || self.holds_back(now_ms) {
            return;
        }
        self.gather.proposed(self.proposals.len());
        let waiting = self.waiting.clone();
        let mut waiters = waiting.lock();
        let mut commands = Vec::with_capacity(self.proposals.len());
        let mut tickets = Vec::with_capacity(self.proposals.len());
        for proposal in std::mem::take(&mut self.proposals) {
            if let Some(refused) = self.refusal(&proposal, waiters.len() + tickets.len()) {
                self.effects.refused.push((proposal.ticket, refused));
            } else if let Some(ticket) = waiters.join(proposal.key, proposal.ticket) {
                commands.push(proposal.command);
                tickets.push((proposal.key, ticket));
            }
        }
        if !commands.is_empty() {
            self.append(now_ms, commands, tickets, &mut waiters);
        }
    }

    /// Whether the proposals should wait a little, so that more of them travel together.
    fn holds_back(&mut self, now_ms: u64) -> bool {
        if self.core.role() != Role::Master || self.handing_over_until_ms.is_some() {
            return false;
        }
        let on_their_way = self.core.last().seq - self.core.committed();
        let all_written = on_their_way == 0 && self.core.is_written(self.last_batch);
        self.gather.holds(now_ms, self.proposals.len(), &Progress { on_their_way, all_written })
    }

    fn refusal(&self, proposal: &Proposal<T>, waiting: usize) -> Option<Refused> {
        let busy = waiting >= self.config.limits.invokes_max || self.backlog() > BACKLOG_BYTES_MAX;
        if self.core.role() != Role::Master || self.handing_over_until_ms.is_some() {
            Some(Refused::NotMaster)
        } else if proposal.command.len() > COMMAND_BYTES_MAX {
            Some(Refused::TooLarge)
        } else {
            busy.then_some(Refused::Busy)
        }
    }

    fn append(
        &mut self,
        now_ms: u64,
        commands: Vec<Bytes>,
        tickets: Vec<(RequestKey, T)>,
        waiters: &mut Waiters<T>,
    ) {
        let refused = match self.core.propose(now_ms, commands) {
            Ok(first) => {
                self.last_batch = first.seq;
                for (seq, (key, ticket)) in (first.seq..).zip(tickets) {
                    waiters.add(Viewstamp::new(first.view, seq), key, ticket);
                }
                return;
            }
            Err(ProposeError::NotMaster { .. } | ProposeError::Empty) => Refused::NotMaster,
            Err(ProposeError::Overloaded { .. }) => Refused::Busy,
            Err(ProposeError::TooLarge { .. }) => Refused::TooLarge,
        };
        self.effects.refused.extend(tickets.into_iter().map(|(_, ticket)| (ticket, refused)));
    }
}
