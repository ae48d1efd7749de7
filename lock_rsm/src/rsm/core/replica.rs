//! The deciding half of a replica: consensus, and everything around it that is a decision.

use super::super::store::SnapshotPiece;
use super::super::types::Limits;
use super::effects::Effects;
use super::gather::Gather;
use super::head_start::HeadStart;
use super::incoming::Incoming;
use super::input::{Input, Proposal, Stop};
use super::membership::Standing;
use super::views::Adoption;
use super::waiting::{Ticket, Waiting};
use crate::consensus::{
    Body, Config, Core, Membership, MembershipError, Message, ReadError, ReplicaId, Role, Viewstamp,
};
use std::collections::VecDeque;

/// Bytes of committed entries that may wait to be applied before this replica takes no more.
pub(super) const BACKLOG_BYTES_MAX: u64 = 64 << 20;
/// Messages that may wait for the disk; more are lost, as they may be on any network. A disk that stands still must not make
/// this replica collect the answers to everything that it is asked meanwhile.
pub(super) const AFTER_PERSIST_MAX: usize = 16 << 10;
/// Bytes of one command.
pub const COMMAND_BYTES_MAX: usize = 4 << 20;

/// Who the replica is, its timers and its bounds. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The identity of this replica.
    pub id: ReplicaId,
    /// The shortest silence of the master after which a replica campaigns; the longest is twice this.
    pub election_timeout_ms: u64,
    /// How often a master that has nothing to say says so.
    pub heartbeat_ms: u64,
    /// A member that is silent for this long is removed from the group by the master; `None`: never.
    pub remove_after_ms: Option<u64>,
    /// Bounds.
    pub limits: Limits,
    /// Seed of the election jitter. Different in every replica.
    pub rng_seed: u64,
    /// In a group that was founded just now: whether this is the replica that should be its first master. The others
    /// leave it the field for a moment.
    pub head_start: Option<bool>,
}

impl ReplicaConfig {
    /// Default timers and bounds for replica `id`; nobody is removed.
    pub fn new(id: ReplicaId, rng_seed: u64) -> ReplicaConfig {
        ReplicaConfig {
            id,
            election_timeout_ms: 150,
            heartbeat_ms: 50,
            remove_after_ms: None,
            limits: Limits::default(),
            rng_seed,
            head_start: None,
        }
    }

    pub(super) fn consensus(&self) -> Config {
        Config {
            election_timeout_ms: self.election_timeout_ms.max(1),
            heartbeat_ms: self.heartbeat_ms.max(1),
            command_bytes_max: COMMAND_BYTES_MAX,
            ..Config::new(self.id, self.rng_seed)
        }
    }
}

/// The deciding half of a replica. See the module's page for how it is driven.
///
/// The clock `now_ms` in its inputs is monotonic and the same for all of them.
#[derive(Debug)]
pub struct ReplicaCore<T> {
    pub(super) core: Core,
    pub(super) config: ReplicaConfig,
    pub(super) waiting: Waiting<T>,
    pub(super) head_start: HeadStart,
    pub(super) snapshot_after: SnapshotAfter,
    /// Proposals that are not in the log yet.
    pub(super) proposals: Vec<Proposal<T>>,
    pub(super) gather: Gather,
    /// Seq of the first command of the last batch that was put into the log.
    pub(super) last_batch: u64,
    /// The last batch given out to be written, and the last one reported to be on disk.
    pub(super) submitted: u64,
    pub(super) persisted: u64,
    /// Messages that wait for a batch to be on disk, and which; at most [`AFTER_PERSIST_MAX`].
    pub(super) after_persist: VecDeque<(u64, (ReplicaId, Message))>,
    pub(super) incoming: Incoming,
    pub(super) adoption: Adoption,
    pub(super) standing: Standing,
    /// The last committed entry handed to the program.
    pub(super) delivered: Viewstamp,
    /// Bytes of entries handed to the program, and worked off by it, since the start.
    pub(super) delivered_bytes: u64,
    pub(super) applied_bytes: u64,
    /// How much was handed over since the last snapshot.
    pub(super) unsaved_entries: u64,
    pub(super) unsaved_bytes: u64,
    pub(super) saving: bool,
    pub(super) handing_over_until_ms: Option<u64>,
    /// When the effects were last taken.
    pub(super) looked_ms: u64,
    pub(super) effects: Effects<T>,
}

#[derive(Debug)]
pub(super) struct SnapshotAfter {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl SnapshotAfter {
    /// The configured thresholds, raised by up to half in each replica differently: all of them pausing to write a
    /// snapshot at the same entry would be felt.
    fn staggered(limits: &Limits, id: ReplicaId) -> SnapshotAfter {
        let raise = |value: u64| value.saturating_add(value / 16 * (id % 8)).max(1);
        SnapshotAfter {
            entries: raise(limits.snapshot_after_entries),
            bytes: raise(limits.snapshot_after_bytes),
        }
    }
}

impl<T: Ticket> ReplicaCore<T> {
    /// A replica around `core`, whose program has applied everything up to `applied`.
    pub(super) fn new(
        core: Core,
        config: ReplicaConfig,
        waiting: Waiting<T>,
        applied: Viewstamp,
        now_ms: u64,
    ) -> ReplicaCore<T> {
        // What is in the log after that may be taken back.
        let retired = core.snapshot_meta(applied.seq).map(|meta| meta.membership);
        let mut replica = ReplicaCore {
            snapshot_after: SnapshotAfter::staggered(&config.limits, config.id),
            head_start: config.head_start.map_or(HeadStart::default(), |mine| HeadStart::new(now_ms, mine)),
            core,
            config,
            waiting,
            proposals: Vec::new(),
            gather: Gather::default(),
            last_batch: 0,
            submitted: 0,
            persisted: 0,
            after_persist: VecDeque::new(),
            incoming: Incoming::default(),
            adoption: Adoption::default(),
            standing: Standing::default(),
            delivered: applied,
            delivered_bytes: 0,
            applied_bytes: 0,
            unsaved_entries: 0,
            unsaved_bytes: 0,
            saving: false,
            handing_over_until_ms: None,
            looked_ms: now_ms,
            effects: Effects::default(),
        };
        if let Some(membership) = retired {
            replica.note_retired(&membership);
        }
        replica
    }

    /// The consensus core, to look at.
    pub fn consensus(&self) -> &Core {
        &self.core
    }

    /// Proposes a membership as it stands: [`Core::propose_membership`].
    pub fn propose_membership(
        &mut self,
        now_ms: u64,
        membership: Membership,
    ) -> Result<Viewstamp, MembershipError> {
        self.core.propose_membership(now_ms, membership)
    }

    /// Asks for a read to be confirmed by a majority, with nothing put into the log: [`Core::read`]. What comes of it is in
    /// [`Effects::reads_ready`] and [`Effects::reads_failed`].
    pub fn read(&mut self, now_ms: u64, token: u64) -> Result<(), ReadError> {
        self.core.read(now_ms, token)
    }

    /// Whether a majority follows this replica as the master. What guards everything that only a master may say, together
    /// with the view having been announced.
    pub fn leads(&self, now_ms: u64) -> bool {
        self.core.is_master_with_quorum(now_ms)
    }

    /// When [`take_effects`](Self::take_effects) is due at the latest: when the clockwork of consensus wants it, and often
    /// enough for [`leads`](Self::leads) to be looked at in time.
    pub fn next_tick_ms(&self) -> u64 {
        let look_again_ms = self.looked_ms + (self.config.election_timeout_ms / 3).max(1);
        if self.head_start.waits(self.looked_ms) {
            return look_again_ms;
        }
        let tick_ms = self.core.next_tick_ms().min(look_again_ms);
        self.gather.due_ms().map_or(tick_ms, |due_ms| tick_ms.min(due_ms))
    }

    /// Something happened.
    pub fn step(&mut self, now_ms: u64, input: Input<T>) {
        match input {
            Input::Message { from, message } => self.message(now_ms, from, message),
            Input::Propose(proposal) => self.proposals.push(proposal),
            Input::Persisted(number) => self.on_disk(now_ms, number),
            Input::SnapshotSaved(meta) => {
                self.saving = false;
                // The core refuses one that a received snapshot has overtaken; then there is nothing to compact.
                let _ = self.core.snapshot_taken(&meta);
            }
            Input::Piece { to, piece } => self.piece(now_ms, to, piece),
            Input::Asked { id, address } => self.on_asked(now_ms, id, address),
            Input::Order(order) => self.on_order(now_ms, order),
            Input::Retired => self.effects.has_left = true,
            Input::Applied(bytes) => self.applied_bytes = self.applied_bytes.max(bytes),
            Input::Tick => {
                self.tick(now_ms);
                self.manage_members(now_ms);
            }
            Input::Stop(Stop::AtOnce) => self.effects.done = true,
            Input::Stop(Stop::Gracefully) => self.hand_over(now_ms),
        }
    }

    /// Bytes of entries that the program has not worked off.
    pub(super) fn backlog(&self) -> u64 {
        self.delivered_bytes.saturating_sub(self.applied_bytes)
    }

    fn message(&mut self, now_ms: u64, from: ReplicaId, message: Message) {
        // A program that cannot keep up gets no more to apply; the master sends it again.
        let is_append = matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty());
        if is_append && self.backlog() > BACKLOG_BYTES_MAX {
            return;
        }
        self.core.receive(now_ms, from, message);
    }

    fn on_disk(&mut self, now_ms: u64, number: u64) {
        self.persisted = number;
        while self.after_persist.front().is_some_and(|(needs, _)| *needs <= number) {
            let (_, message) = self.after_persist.pop_front().expect("just looked at");
            self.effects.messages.push(message);
        }
        self.core.persisted(now_ms, number);
    }

    fn piece(&mut self, now_ms: u64, to: ReplicaId, piece: SnapshotPiece) {
        let SnapshotPiece { meta, offset, data, done } = piece;
        // Refused when the slave caught up or the view changed meanwhile.
        let _ = self.core.send_snapshot(now_ms, to, &meta, offset, data, done);
    }

    fn tick(&mut self, now_ms: u64) {
        if self.head_start.waits(now_ms) {
            return;
        }
        let idle = self.core.master().is_none() && self.core.role() != Role::Candidate;
        if idle && self.head_start.insists(now_ms) {
            self.core.campaign(now_ms);
        }
        if now_ms >= self.core.next_tick_ms() {
            self.core.tick(now_ms);
        }
    }

    fn hand_over(&mut self, now_ms: u64) {
        // Refused when this replica is no master, or when nobody else is there to be one.
        if self.core.hand_over(now_ms).is_ok() {
            self.handing_over_until_ms = Some(now_ms + 2 * self.config.election_timeout_ms);
        } else {
            self.effects.done = true;
        }
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self, now_ms: u64) -> Effects<T> {
        self.looked_ms = now_ms;
        self.propose(now_ms);
        loop {
            let outputs = self.core.take_outputs(now_ms);
            // A snapshot received whole is installed by the next outputs.
            let again = !outputs.snapshot_chunks.is_empty();
            self.carry_out(now_ms, outputs);
            if !again {
                break;
            }
        }
        self.order_snapshot();
        self.look_for_successor(now_ms);
        self.effects.ask_in = self.must_ask(now_ms);
        std::mem::take(&mut self.effects)
    }

    /// Having handed over, the replica may stop when another one leads, or has not come to it for too long.
    fn look_for_successor(&mut self, now_ms: u64) {
        let succeeded = self.core.master().is_some_and(|master| master != self.core.id());
        let may_stop = self.handing_over_until_ms.is_some_and(|until_ms| succeeded || now_ms >= until_ms);
        self.effects.done |= may_stop;
    }
}
