//! Being master: the beginning of a view, heartbeats, check-quorum, hand-over (§3.10, §6.2).

use super::Message;
use super::core::Core;
use super::error::HandOverError;
use super::message::Body;
use super::progress::{Pace, Progress};
use super::read::Reads;
use super::role::{HandOver, Reign, RoleState};
use super::types::{Entry, Follower, Payload, ReplicaId, Viewstamp};
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};

impl Core {
    /// A majority elected this replica. Its first entry is empty: once that is committed, so is all before it
    /// (§3.6.2), and the master knows how far the log it inherited is committed (§6.4). It is not sure of its
    /// quorum before that has answered a heartbeat: who voted for it may have voted for the next one since.
    pub(super) fn become_master(&mut self) {
        let last = self.log.last();
        let mut reign = Reign {
            followers: Default::default(),
            since_ms: self.now_ms,
            first_seq: last.seq + 1,
            heartbeat_due_ms: self.now_ms,
            reads: Reads::default(),
            handing_over: None,
            uncommitted_bytes: self.log.range(self.committed + 1, last.seq).map(Entry::size_bytes).sum(),
        };
        for member in &self.log.membership().members {
            reign.followers.insert(member.id, Progress::new(last.seq));
        }
        reign.followers.remove(&self.config.id);
        self.role = RoleState::Master(Box::new(reign));
        self.set_master(Some(self.config.id));
        self.append_as_master(Payload::Noop);
        self.send_heartbeats();
    }

    /// Appends one entry in the master's own view.
    pub(super) fn append_as_master(&mut self, payload: Payload) -> Viewstamp {
        let stamp = Viewstamp::new(self.view(), self.log.last().seq + 1);
        let entry = Entry { stamp, payload };
        let RoleState::Master(reign) = &mut self.role else {
            unreachable!("only a master appends entries of its own")
        };
        reign.uncommitted_bytes += entry.size_bytes();
        self.append_entry(entry);
        stamp
    }

    pub(super) fn tick_master(&mut self) {
        let quorum_ms = self.quorum_heard_ms();
        let RoleState::Master(reign) = &mut self.role else { return };
        let heard_ms = quorum_ms.max(reign.since_ms);
        #[cfg(feature = "planted")]
        let heard_ms = if planted::has(Bug::ReadUnconfirmed) { self.now_ms } else { heard_ms };
        if self.now_ms >= heard_ms.saturating_add(2 * self.config.election_timeout_ms) {
            return self.become_slave();
        }
        reign.handing_over.take_if(|handing_over| self.now_ms >= handing_over.until_ms);
        if self.now_ms >= reign.heartbeat_due_ms {
            self.send_heartbeats();
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let (view, sent_ms) = (self.view(), self.now_ms);
        let RoleState::Master(reign) = &mut self.role else { return };
        reign.heartbeat_due_ms = self.now_ms + self.config.heartbeat_ms;
        let round = reign.reads.latest_round();
        for (&id, progress) in &reign.followers {
            // Only what this member is known to have: it may trust that without comparing logs.
            let committed = self.committed.min(progress.matched);
            #[cfg(feature = "planted")]
            let committed = if planted::has(Bug::CommitUnmatched) { self.committed } else { committed };
            let body = Body::Heartbeat { committed, round, sent_ms };
            self.outputs.messages.push((id, Message { view, body }));
        }
    }

    pub(super) fn on_heartbeat(&mut self, from: ReplicaId, committed: u64, round: u64, sent_ms: u64) {
        self.follow(from);
        self.slave_commits(committed);
        let reply = Body::HeartbeatReply { round, sent_ms };
        // A replica that restarts must know of the view, or it would not know that it promised to wait.
        if self.durable_view == self.view() {
            self.send(from, reply)
        } else {
            self.send_after_persist(from, reply)
        }
    }

    pub(super) fn on_heartbeat_reply(&mut self, from: ReplicaId, round: u64, sent_ms: u64) {
        let (last, retry_ms) = (self.log.last().seq, self.config.snapshot_retry_ms);
        let RoleState::Master(reign) = &mut self.role else { return };
        let Some(progress) = reign.followers.get_mut(&from) else { return };
        progress.confirmed_ms = progress.confirmed_ms.max(Some(sent_ms.min(self.now_ms)));
        progress.round = progress.round.max(round.min(reign.reads.latest_round()));
        let advancing = std::mem::take(&mut progress.advancing);
        match &mut progress.pace {
            // Whatever it waited for may have been lost.
            Pace::Probe { waiting } => {
                progress.nudge |= *waiting;
                *waiting = false;
            }
            Pace::Replicate => progress.nudge |= !advancing && progress.matched < last,
            Pace::Snapshot(transfer) => transfer.wanted |= self.now_ms >= transfer.since_ms + retry_ms,
        }
        self.confirm_reads();
    }

    /// The value that a majority of the voters reached, if this replica has `own` and the others what `of`
    /// says.
    pub(super) fn quorum_value(&self, own: u64, of: impl Fn(&Progress) -> u64) -> u64 {
        let RoleState::Master(reign) = &self.role else { return 0 };
        let membership = self.log.membership();
        let value = |id| if id == self.config.id { own } else { reign.followers.get(&id).map_or(0, &of) };
        let mut values: Vec<u64> = membership.voters().map(value).collect();
        #[cfg(feature = "planted")]
        if planted::has(Bug::CountNonVoter) {
            values = membership.members.iter().map(|member| value(member.id)).collect();
        }
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(membership.majority() - 1).copied().unwrap_or(0)
    }

    /// The latest time at which a majority still stood by this master.
    fn quorum_heard_ms(&self) -> u64 {
        self.quorum_value(u64::MAX, |progress| progress.confirmed_ms.unwrap_or(0))
    }

    /// Whether this replica is master, a majority answered a heartbeat that it sent within the last election
    /// timeout, and it is not handing over. What guards everything that only a master may say (§6.2). While
    /// it holds, and while clocks run at about the same rate, no other replica can have been elected; nothing
    /// that must be safe may rest on that alone, for which there is [`Core::read`].
    pub fn is_master_with_quorum(&self, now_ms: u64) -> bool {
        let RoleState::Master(reign) = &self.role else { return false };
        let until_ms = self.quorum_heard_ms().saturating_add(self.config.election_timeout_ms);
        reign.handing_over.is_none() && now_ms.max(self.now_ms) < until_ms
    }

    /// Whether this replica is master and committed an entry of its own view: only then does it know all that
    /// was ever committed (§6.4).
    pub fn is_settled(&self) -> bool {
        matches!(&self.role, RoleState::Master(reign) if self.committed >= reign.first_seq)
    }

    /// Whether everything in the master's log is on its disk and on those of all other members that have everything
    /// before entry `since`: from those that lag behind that, nothing is to be expected soon.
    pub fn is_written(&self, since: u64) -> bool {
        let RoleState::Master(reign) = &self.role else { return false };
        let last = self.log.last().seq;
        let written = |progress: &Progress| progress.matched >= last || progress.matched + 1 < since;
        self.durable >= last && reign.followers.values().all(written)
    }

    /// Master: what it knows of the other members, by identity. Empty elsewhere.
    pub fn followers(&self, now_ms: u64) -> Vec<Follower> {
        let RoleState::Master(reign) = &self.role else { return Vec::new() };
        let follower = |(&id, progress): (&ReplicaId, &Progress)| Follower {
            id,
            voter: self.log.membership().is_voter(id),
            matched: progress.matched,
            silent_ms: now_ms.saturating_sub(progress.confirmed_ms.unwrap_or(reign.since_ms)),
            needs_snapshot: matches!(progress.pace, Pace::Snapshot(_)),
        };
        reign.followers.iter().map(follower).collect()
    }

    /// Hands mastership to the living voter that is best up to date, and returns who that is. Meanwhile
    /// nothing can be proposed. It is done when the view changes; it counts as failed, and this master goes
    /// on, after an election timeout. A successor that was told and comes late may still take over, then or
    /// later in this view.
    pub fn hand_over(&mut self, now_ms: u64) -> Result<ReplicaId, HandOverError> {
        self.now_ms = self.now_ms.max(now_ms);
        let membership = self.log.membership();
        let RoleState::Master(reign) = &mut self.role else { return Err(HandOverError::NotMaster) };
        if let Some(handing_over) = &reign.handing_over {
            return Ok(handing_over.to);
        }
        let alive = |progress: &Progress| {
            progress.confirmed_ms.is_some_and(|ms| self.now_ms < ms + self.config.election_timeout_ms)
        };
        let best =
            reign.followers.iter().filter(|&(&id, progress)| membership.is_voter(id) && alive(progress));
        let (&to, _) =
            best.max_by_key(|(_, progress)| progress.matched).ok_or(HandOverError::NobodyToHandOverTo)?;
        let until_ms = self.now_ms + self.config.election_timeout_ms;
        reign.handing_over = Some(HandOver { to, until_ms, told_ms: None });
        Ok(to)
    }

    /// Tells the successor once it has everything, and again in case that was lost.
    pub(super) fn flush_hand_over(&mut self) {
        let (last, view) = (self.log.last().seq, self.view());
        let RoleState::Master(reign) = &mut self.role else { return };
        let Some(HandOver { to, told_ms, .. }) = &mut reign.handing_over else { return };
        let complete = reign.followers.get(to).is_some_and(|progress| progress.matched == last);
        if complete && told_ms.is_none_or(|ms| self.now_ms >= ms + self.config.heartbeat_ms) {
            *told_ms = Some(self.now_ms);
            self.outputs.messages.push((*to, Message { view, body: Body::TimeoutNow }));
        }
    }

    pub(super) fn on_timeout_now(&mut self, from: ReplicaId) {
        let follows = matches!(self.role, RoleState::Slave) && self.master == Some(from);
        if follows && self.may_campaign() {
            self.start_campaign(true);
        }
    }
}
