//! The core: its state, how inputs reach the rules, and how outputs leave.

use super::config::Config;
use super::error::RestoreError;
use super::log::Log;
use super::message::{Body, Message};
use super::outputs::Outputs;
use super::rng::Rng;
use super::role::RoleState;
use super::snapshot::Incoming;
use super::types::{
    COUNTED_MAX, Entry, HardState, Membership, Payload, ReplicaId, Restored, Role, ViewInfo, Viewstamp,
};
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};
use std::collections::VecDeque;

/// One replica's consensus state machine.
///
/// The clock `now_ms` in its inputs is monotonic and the same for all of them; a reading before an earlier
/// one counts as that.
///
/// # Panics
///
/// Its methods panic where going on could lose or fork what was committed: when committed entries would be
/// taken back, when the driver claims durability of what it was not given. That is a bug or a damaged disk, and
/// stopping one replica is the safe answer. No message of another replica does that, whatever it says: one that
/// contradicts itself, or what this replica knows, is nonsense, and ignored.
#[derive(Debug)]
pub struct Core {
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) now_ms: u64,
    pub(super) hard_state: HardState,
    pub(super) role: RoleState,
    /// Whom this replica follows in this view; itself when it is the master.
    pub(super) master: Option<ReplicaId>,
    pub(super) log: Log,
    /// Entries up to here are committed.
    pub(super) committed: u64,
    /// Entries up to here were handed to the program.
    pub(super) delivered: u64,
    /// Bytes of delivered entries that no snapshot covers.
    pub(super) unsnapshotted_bytes: usize,
    /// Entries up to here are on this replica's disk.
    pub(super) durable: u64,
    /// The view number on this replica's disk.
    pub(super) durable_view: u64,
    /// Batches with something to write that are not on disk yet, oldest first.
    unpersisted: VecDeque<Batch>,
    /// When a master was heard last.
    pub(super) heard_ms: Option<u64>,
    /// When this replica, unless it is the master, takes matters into its own hands.
    pub(super) election_due_ms: u64,
    /// The snapshot being received.
    pub(super) incoming: Option<Incoming>,
    announced: Option<ViewInfo>,
    /// Whether view number, master or membership changed since `announced`.
    pub(super) announce: bool,
    pub(super) outputs: Outputs,
    batches: u64,
    malformed: u64,
}

/// What is on disk once a batch is.
#[derive(Debug)]
struct Batch {
    number: u64,
    last: Viewstamp,
    hard_state: HardState,
}

impl Core {
    /// A replica as its disk remembers it. It starts as a slave.
    ///
    /// The group's very first view needs somebody to begin: [`Core::campaign`] saves the election timeout.
    pub fn new(config: Config, restored: Restored, now_ms: u64) -> Result<Core, RestoreError> {
        let log = restore_log(&restored)?;
        let snapshot_seq = restored.snapshot.as_ref().map_or(0, |meta| meta.stamp.seq);
        if restored.applied < snapshot_seq || restored.applied > log.last().seq {
            let (applied, from, to) = (restored.applied, snapshot_seq, log.last().seq);
            return Err(RestoreError::Applied { applied, from, to });
        }
        #[cfg(feature = "planted")]
        let restored = match planted::has(Bug::ForgetPromise) {
            true => Restored { hard_state: HardState { voted_for: None, ..restored.hard_state }, ..restored },
            false => restored,
        };
        let mut core = Core {
            rng: Rng::new(config.rng_seed),
            now_ms,
            hard_state: restored.hard_state,
            role: RoleState::Slave,
            master: None,
            committed: restored.applied,
            delivered: restored.applied,
            unsnapshotted_bytes: log.range(snapshot_seq + 1, restored.applied).map(Entry::size_bytes).sum(),
            durable: log.last().seq,
            log,
            durable_view: restored.hard_state.view,
            unpersisted: VecDeque::new(),
            // It may have promised a master to wait just before it stopped (§6.4.1). In view 0 nothing was
            // promised to anybody.
            heard_ms: (restored.hard_state.view > 0).then_some(now_ms),
            election_due_ms: 0,
            incoming: None,
            announced: None,
            announce: true,
            outputs: Outputs::default(),
            batches: 0,
            malformed: 0,
            config,
        };
        core.postpone_election();
        Ok(core)
    }

    /// Time passed. Due at [`Core::next_tick_ms`].
    pub fn tick(&mut self, now_ms: u64) {
        self.clock(now_ms);
        match self.role {
            RoleState::Master(_) => self.tick_master(),
            _ if self.now_ms >= self.election_due_ms => self.election_timeout(),
            _ => {}
        }
    }

    /// When [`Core::tick`] is due next. Calling it more often, or a little later, is harmless.
    pub fn next_tick_ms(&self) -> u64 {
        match &self.role {
            RoleState::Master(reign) => reign.heartbeat_due_ms,
            _ => self.election_due_ms,
        }
    }

    /// A message came from replica `from`. Nonsense is counted and otherwise ignored.
    pub fn receive(&mut self, now_ms: u64, from: ReplicaId, message: Message) {
        self.clock(now_ms);
        if from == self.config.id || !message.is_well_formed() {
            return self.nonsense(from, "no replica says that");
        }
        let Message { view, body } = message;
        match body {
            Body::PreVote { last } => return self.on_pre_vote(from, view, last),
            // Who grants one stays in its own view, which may be an earlier one; what it grants is named in
            // the answer.
            Body::PreVoteReply { campaign_view, granted } if view <= self.view() => {
                return self.on_pre_vote_reply(from, campaign_view, granted);
            }
            // In the own view too: it may have been adopted from somebody other than its master.
            Body::RequestVote { hand_over: false, .. } if view >= self.view() && self.has_living_master() => {
                return;
            }
            _ => {}
        }
        if view < self.view() {
            return self.answer_from_the_past(from, &body);
        }
        if let Some(why) = self.contradiction(from, view, &body) {
            return self.nonsense(from, why);
        }
        if view > self.view() {
            self.adopt_view(view);
        }
        match body {
            Body::PreVote { .. } => {}
            Body::PreVoteReply { campaign_view, granted } => {
                self.on_pre_vote_reply(from, campaign_view, granted)
            }
            Body::RequestVote { last, .. } => self.on_request_vote(from, last),
            Body::Vote { granted } => self.on_vote(from, granted),
            Body::Append { previous, entries, committed } => {
                self.on_append(from, previous, entries, committed)
            }
            Body::Appended { matched } => self.on_appended(from, matched),
            Body::AppendRefused { previous, hint } => self.on_append_refused(from, previous, hint),
            Body::Heartbeat { committed, round, sent_ms } => {
                self.on_heartbeat(from, committed, round, sent_ms)
            }
            Body::HeartbeatReply { round, sent_ms } => self.on_heartbeat_reply(from, round, sent_ms),
            Body::Snapshot { meta, offset, data, done } => self.on_snapshot(from, meta, offset, data, done),
            Body::SnapshotReply { stamp, next } => self.on_snapshot_reply(from, stamp, next),
            Body::TimeoutNow => self.on_timeout_now(from),
        }
    }

    /// Why a message of this view or a later one cannot be true, if that is certain.
    fn contradiction(&self, from: ReplicaId, view: u64, body: &Body) -> Option<&'static str> {
        let last = self.log.last().seq;
        match body {
            _ if view == self.view() && body.is_a_masters() && !self.may_follow(from) => {
                Some("this view has another master")
            }
            Body::Heartbeat { committed, .. } if *committed > last => {
                Some("this replica is said to have acknowledged what it does not have")
            }
            Body::Appended { matched } if view == self.view() && self.leads() && *matched > last => {
                Some("it acknowledges what it was not sent")
            }
            _ => None,
        }
    }

    /// Whether `from` can be the master of this view as far as this replica knows.
    fn may_follow(&self, from: ReplicaId) -> bool {
        !self.leads() && self.master.is_none_or(|master| master == from)
    }

    fn leads(&self) -> bool {
        matches!(self.role, RoleState::Master(_))
    }

    /// Ignores a message. The log hears of it, but of a flood not much.
    fn nonsense(&mut self, from: ReplicaId, why: &str) {
        self.malformed += 1;
        let count = self.malformed;
        tracing::debug!("replica {from} sent what makes no sense: {why}");
        if count.is_power_of_two() {
            tracing::warn!(
                "{count} messages that make no sense were ignored so far; the last is from replica {from}: {why}. \
                 Does another program, or a replica with somebody else's disk, send to this one?"
            );
        }
    }

    /// Somebody still lives in an earlier view: what it asked is answered so that it learns of this one.
    fn answer_from_the_past(&mut self, from: ReplicaId, body: &Body) {
        match body {
            Body::RequestVote { .. } => self.send(from, Body::Vote { granted: false }),
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                self.send(from, Body::HeartbeatReply { round: 0, sent_ms: 0 });
            }
            _ => {}
        }
    }

    /// Everything in the outputs up to batch `number` is on disk.
    pub fn persisted(&mut self, now_ms: u64, number: u64) {
        self.clock(now_ms);
        assert!(number <= self.batches, "batch {number} is said to be on disk and was never given out");
        let mut latest = None;
        while self.unpersisted.front().is_some_and(|batch| batch.number <= number) {
            latest = self.unpersisted.pop_front();
        }
        let Some(Batch { last, hard_state, .. }) = latest else { return };
        self.durable_view = hard_state.view;
        // The disk agrees with the log as far as it agrees on the last entry; later truncations may have made
        // it differ.
        if self.log.has(last) && last.seq > self.durable {
            self.durable = last.seq;
            self.master_commits();
        }
        if hard_state == self.hard_state {
            self.own_vote_is_durable();
        }
    }

    /// What is to be done since the last call.
    pub fn take_outputs(&mut self, now_ms: u64) -> Outputs {
        self.clock(now_ms);
        self.flush_master();
        self.deliver();
        self.announce_view();
        self.batches += 1;
        self.outputs.number = self.batches;
        let outputs = std::mem::take(&mut self.outputs);
        if outputs.must_persist() {
            let (last, hard_state) = (self.log.last(), self.hard_state);
            self.unpersisted.push_back(Batch { number: outputs.number, last, hard_state });
        }
        outputs
    }

    fn deliver(&mut self) {
        if self.delivered == self.committed {
            return;
        }
        for entry in self.log.range(self.delivered + 1, self.committed) {
            self.unsnapshotted_bytes += entry.size_bytes();
            self.outputs.committed.push(entry.clone());
        }
        #[cfg(feature = "planted")]
        if planted::has(Bug::ApplyOutOfOrder)
            && let [.., first, second] = self.outputs.committed.as_mut_slice()
        {
            std::mem::swap(&mut first.payload, &mut second.payload);
        }
        self.delivered = self.committed;
    }

    fn announce_view(&mut self) {
        if !std::mem::take(&mut self.announce) {
            return;
        }
        let (number, membership) = (self.view(), self.log.membership().clone());
        let info = ViewInfo { number, master: self.master, membership };
        if self.announced.as_ref() != Some(&info) {
            self.announced = Some(info.clone());
            self.outputs.view_changed = Some(info);
        }
    }

    fn clock(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// For messages that promise nothing that must survive a crash.
    pub(super) fn send(&mut self, to: ReplicaId, body: Body) {
        let message = Message { view: self.view(), body };
        self.outputs.messages.push((to, message));
    }

    /// For messages that are true only once everything so far is on disk.
    pub(super) fn send_after_persist(&mut self, to: ReplicaId, body: Body) {
        let message = Message { view: self.view(), body };
        self.outputs.after_persist.push((to, message));
    }

    /// Promises are to be written with the next outputs.
    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        let before = self.hard_state;
        assert!(
            hard_state.view > before.view
                || (hard_state.view == before.view
                    && (before.voted_for.is_none() || before.voted_for == hard_state.voted_for)),
            "a promise would be broken: {before:?} then {hard_state:?}"
        );
        self.hard_state = hard_state;
        self.outputs.hard_state = Some(hard_state);
        self.announce = true;
    }

    pub(super) fn set_master(&mut self, master: Option<ReplicaId>) {
        self.announce |= self.master != master;
        self.master = master;
    }

    /// Adds to the log, here and in the outputs.
    pub(super) fn append_entry(&mut self, entry: Entry) {
        let changes_membership = matches!(entry.payload, Payload::Membership(_));
        self.outputs.append.push(entry.clone());
        self.log.append(entry);
        if changes_membership {
            self.membership_changed();
        }
    }

    /// Takes entries back, here and in the outputs.
    pub(super) fn truncate_log(&mut self, from: u64) {
        assert!(
            from > self.committed,
            "entry {from} is committed (up to {}) and would be taken back",
            self.committed
        );
        self.log.truncate_from(from);
        self.durable = self.durable.min(from - 1);
        self.outputs.append.retain(|entry| entry.stamp.seq < from);
        let earlier = self.outputs.truncate_from.unwrap_or(from);
        self.outputs.truncate_from = Some(earlier.min(from));
        self.membership_changed();
    }

    /// What this replica is doing.
    pub fn role(&self) -> Role {
        match self.role {
            RoleState::Slave => Role::Slave,
            RoleState::PreCandidate { .. } => Role::PreCandidate,
            RoleState::Candidate { .. } => Role::Candidate,
            RoleState::Master(_) => Role::Master,
        }
    }

    /// Its identity.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// The view number.
    pub fn view(&self) -> u64 {
        self.hard_state.view
    }

    /// The promises, as they will be on disk after the next outputs.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The master of the view, where known.
    pub fn master(&self) -> Option<ReplicaId> {
        self.master
    }

    /// The membership in force.
    pub fn membership(&self) -> &Membership {
        self.log.membership()
    }

    /// Whether the membership in force is known to be committed.
    pub fn membership_is_committed(&self) -> bool {
        self.log.membership_seq() <= self.committed
    }

    /// Seq of the last committed entry, as far as this replica knows.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// The last entry of the log, on disk or not.
    pub fn last(&self) -> Viewstamp {
        self.log.last()
    }

    /// Bytes of the entries in memory.
    pub fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Bytes of the entries delivered since the last snapshot. When this grows too large a snapshot is due.
    pub fn unsnapshotted_bytes(&self) -> usize {
        self.unsnapshotted_bytes
    }

    /// How many nonsensical messages were ignored.
    pub fn malformed_messages(&self) -> u64 {
        self.malformed
    }

    /// The log in memory, for checkers: the stamp before the first entry, and the stamps of the entries.
    pub fn log_stamps(&self) -> (Viewstamp, Vec<Viewstamp>) {
        let (base, last) = (self.log.base(), self.log.last().seq);
        (base, self.log.range(base.seq + 1, last).map(|entry| entry.stamp).collect())
    }
}

/// Checks what the disk remembers and puts it in order.
fn restore_log(restored: &Restored) -> Result<Log, RestoreError> {
    let hard_state_view = restored.hard_state.view;
    let (base, membership) = match &restored.snapshot {
        Some(meta) => (meta.stamp, &meta.membership),
        None => (Viewstamp::ZERO, &restored.membership),
    };
    let last_seq = restored.entries.last().map_or(base.seq, |entry| entry.stamp.seq.max(base.seq));
    if let Some(number) = [hard_state_view, last_seq].into_iter().find(|number| *number > COUNTED_MAX) {
        return Err(RestoreError::Implausible { number });
    }
    if !membership.is_sane() {
        return Err(RestoreError::Duplicate { stamp: base });
    }
    let mut log = Log::new(base, membership.clone());
    for entry in restored.entries.iter().filter(|entry| entry.stamp.seq > base.seq) {
        let (previous, found) = (log.last(), entry.stamp);
        if found.seq != previous.seq + 1 {
            return Err(RestoreError::Hole { expected: previous.seq + 1, found: found.seq });
        }
        if found.view < previous.view {
            return Err(RestoreError::Disorder { previous, found });
        }
        if matches!(&entry.payload, Payload::Membership(membership) if !membership.is_sane()) {
            return Err(RestoreError::Duplicate { stamp: found });
        }
        log.append(entry.clone());
    }
    if log.last().view > hard_state_view {
        return Err(RestoreError::ViewLost { log_view: log.last().view, hard_state_view });
    }
    Ok(log)
}
