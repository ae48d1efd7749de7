//! A replica between its disk, its network and its program: inputs in, effects out.

use super::disk::Job;
use super::setup::Setup;
use bytes::Bytes;
use lock_rsm::consensus::{
    Config, Core, Entry, Membership, Message, Outputs, ReplicaId, RestoreError, Restored, Role,
    SnapshotChunk, SnapshotMeta, Viewstamp,
};
use lock_rsm::rsm::{Applied, LogWrite, Machine, Snapshot, SnapshotPiece};
use std::collections::{BTreeMap, VecDeque};

/// What happens to a replica.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A message came.
    Message(ReplicaId, Message),
    /// A client asks for a command; the answer is for `token`.
    Invoke {
        /// Names the attempt.
        token: u64,
        /// The command as it stands in the log.
        command: Bytes,
    },
    /// Batches up to this number are on disk.
    Persisted(u64),
    /// A snapshot of the own state is on disk.
    Saved(SnapshotMeta),
    /// A piece of the snapshot on disk was read.
    Piece(ReplicaId, SnapshotPiece),
    /// The program applied an entry.
    Applied(Viewstamp, Option<Applied>),
    /// Change the membership.
    Membership(Membership),
    /// Stop cleanly.
    Shutdown,
}

/// What a replica wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send a message.
    Send(ReplicaId, Message),
    /// Give the disk work.
    Disk(Job),
    /// Give the program work.
    Program(Task),
    /// Answer an attempt.
    Answer(u64, Answer),
    /// It is done and may be switched off.
    Stopped,
}

/// Work for the program, done in order.
#[derive(Debug)]
pub enum Task {
    /// Committed entries, consecutive.
    Apply(Vec<Entry>),
    /// A received snapshot takes the place of the state.
    Restore(Snapshot),
    /// Marshal the state, which is now the one named, and have it saved.
    Snapshot(SnapshotMeta),
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command was executed, now or before.
    Done(Applied),
    /// Not here; the master is there, as far as known. An earlier attempt may have been executed all the same.
    NotMaster(Option<ReplicaId>),
    /// Try again later.
    Busy,
}

/// The consensus core with what its driver must keep: which messages wait for the disk, who waits for which entry.
#[derive(Debug)]
pub struct Brain {
    core: Core,
    effects: Vec<Effect>,
    submitted: u64,
    persisted: u64,
    after_persist: VecDeque<(u64, Vec<(ReplicaId, Message)>)>,
    waiters: BTreeMap<u64, (u64, u64)>,
    staged: Vec<u8>,
    delivered: u64,
    unsaved: u64,
    saving: bool,
    snapshot_after: u64,
    stopping_since: Option<u64>,
}

impl Brain {
    /// A replica as its disk remembers it.
    pub fn new(
        setup: &Setup,
        id: ReplicaId,
        incarnation: u64,
        restored: Restored,
        now_ms: u64,
    ) -> Result<Brain, RestoreError> {
        let config = Config {
            election_timeout_ms: setup.election_timeout_ms,
            heartbeat_ms: setup.heartbeat_ms,
            snapshot_retry_ms: 100,
            append_bytes_max: 400,
            append_entries_max: setup.append_entries_max,
            inflight_messages_max: 4,
            inflight_bytes_max: 1_000,
            uncommitted_bytes_max: 4_000,
            tail_bytes_max: setup.tail_bytes,
            pinned_bytes_max: 2 * setup.tail_bytes,
            snapshot_chunk_bytes_max: setup.chunk_bytes,
            ..Config::new(id, setup.seed ^ (id << 32) ^ (incarnation << 48))
        };
        let delivered = restored.applied;
        Ok(Brain {
            core: Core::new(config, restored, now_ms)?,
            effects: Vec::new(),
            submitted: 0,
            persisted: 0,
            after_persist: VecDeque::new(),
            waiters: BTreeMap::new(),
            staged: Vec::new(),
            delivered,
            unsaved: 0,
            saving: false,
            snapshot_after: setup.snapshot_after,
            stopping_since: None,
        })
    }

    /// The core, to look at.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Something happened.
    pub fn step(&mut self, now_ms: u64, input: Input) {
        match input {
            Input::Tick => self.tick(now_ms),
            Input::Message(from, message) => self.core.receive(now_ms, from, message),
            Input::Invoke { token, command } => self.invoke(now_ms, token, command),
            Input::Persisted(number) => self.on_disk(now_ms, number),
            Input::Saved(meta) => {
                self.saving = false;
                // Refused when a received snapshot has overtaken it.
                let _ = self.core.snapshot_taken(&meta);
            }
            Input::Piece(to, SnapshotPiece { meta, offset, data, done }) => {
                // Refused when the slave caught up or the view changed meanwhile.
                let _ = self.core.send_snapshot(now_ms, to, &meta, offset, data, done);
            }
            Input::Applied(stamp, applied) => self.applied(stamp, applied),
            Input::Membership(membership) => {
                // Refused when the core sees a reason to; then nothing changes.
                let _ = self.core.propose_membership(now_ms, membership);
            }
            Input::Shutdown => match self.core.hand_over(now_ms) {
                Ok(_) => self.stopping_since = Some(now_ms),
                Err(_) => self.effects.push(Effect::Stopped),
            },
        }
    }

    fn tick(&mut self, now_ms: u64) {
        if now_ms >= self.core.next_tick_ms() {
            self.core.tick(now_ms);
        }
        let is_succeeded = self.core.master().is_some_and(|master| master != self.core.id());
        if self.stopping_since.is_some_and(|since| is_succeeded || now_ms >= since + 600) {
            self.effects.push(Effect::Stopped);
        }
    }

    fn invoke(&mut self, now_ms: u64, token: u64, command: Bytes) {
        use lock_rsm::consensus::ProposeError as Error;
        match self.core.propose(now_ms, vec![command]) {
            Ok(stamp) => {
                self.waiters.insert(stamp.seq, (stamp.view, token));
            }
            Err(Error::NotMaster { hint }) => {
                self.effects.push(Effect::Answer(token, Answer::NotMaster(hint)))
            }
            Err(_) => self.effects.push(Effect::Answer(token, Answer::Busy)),
        }
    }

    fn applied(&mut self, stamp: Viewstamp, applied: Option<Applied>) {
        let Some((view, token)) = self.waiters.remove(&stamp.seq) else { return };
        let answer = match applied.filter(|_| view == stamp.view) {
            Some(applied) => Answer::Done(applied),
            None => Answer::NotMaster(None),
        };
        self.effects.push(Effect::Answer(token, answer));
    }

    fn on_disk(&mut self, now_ms: u64, number: u64) {
        self.persisted = number;
        while self.after_persist.front().is_some_and(|(needs, _)| *needs <= number) {
            let (_, messages) = self.after_persist.pop_front().expect("just looked at");
            self.send(messages);
        }
        self.core.persisted(now_ms, number);
    }

    /// What is to be done since the last call.
    pub fn take_effects(&mut self, now_ms: u64) -> Vec<Effect> {
        loop {
            let outputs = self.core.take_outputs(now_ms);
            let again = !outputs.snapshot_chunks.is_empty();
            self.carry_out(now_ms, outputs);
            if !again {
                break;
            }
        }
        self.order_snapshot();
        if self.core.role() != Role::Master {
            for (_, (_, token)) in std::mem::take(&mut self.waiters) {
                self.effects.push(Effect::Answer(token, Answer::NotMaster(self.core.master())));
            }
        }
        std::mem::take(&mut self.effects)
    }

    fn carry_out(&mut self, now_ms: u64, mut outputs: Outputs) {
        self.send(std::mem::take(&mut outputs.messages));
        let install = outputs.install_snapshot.take().map(|install| {
            let state = Bytes::from(std::mem::take(&mut self.staged));
            (Snapshot { meta: install.meta, state }, install.discard_log)
        });
        let restore = install.as_ref().map(|(snapshot, _)| snapshot.clone());
        let write = LogWrite {
            hard_state: outputs.hard_state,
            install,
            truncate_from: outputs.truncate_from,
            append: outputs.append,
        };
        if !write.is_empty() {
            self.submitted = outputs.number;
            self.effects.push(Effect::Disk(Job::Write { number: outputs.number, write: Box::new(write) }));
        }
        if self.persisted >= self.submitted {
            self.send(outputs.after_persist);
        } else if !outputs.after_persist.is_empty() {
            self.after_persist.push_back((self.submitted, outputs.after_persist));
        }
        if let Some(snapshot) = restore {
            self.delivered = snapshot.meta.stamp.seq;
            self.unsaved = 0;
            self.effects.push(Effect::Program(Task::Restore(snapshot)));
        }
        if let Some(last) = outputs.committed.last() {
            self.delivered = last.stamp.seq;
            self.unsaved += outputs.committed.len() as u64;
            self.effects.push(Effect::Program(Task::Apply(outputs.committed)));
        }
        for wanted in outputs.snapshots_wanted {
            let job = Job::Piece { to: wanted.to, stamp: wanted.stamp, offset: wanted.offset };
            self.effects.push(Effect::Disk(job));
        }
        outputs.snapshot_chunks.into_iter().for_each(|chunk| self.take_chunk(now_ms, chunk));
    }

    fn take_chunk(&mut self, now_ms: u64, chunk: SnapshotChunk) {
        if chunk.offset == 0 {
            self.staged.clear();
        }
        assert_eq!(self.staged.len() as u64, chunk.offset, "pieces come in order");
        self.staged.extend_from_slice(&chunk.data);
        if chunk.done {
            assert!(Machine::is_sound(&self.staged), "a snapshot arrives as it was sent");
            // Refused when the log caught up by other means.
            let _ = self.core.snapshot_received(now_ms, chunk.meta.stamp);
        }
    }

    fn order_snapshot(&mut self) {
        if self.unsaved < self.snapshot_after || self.saving {
            return;
        }
        let Some(meta) = self.core.snapshot_meta(self.delivered) else { return };
        self.saving = true;
        self.unsaved = 0;
        self.effects.push(Effect::Program(Task::Snapshot(meta)));
    }

    fn send(&mut self, messages: Vec<(ReplicaId, Message)>) {
        self.effects.extend(messages.into_iter().map(|(to, message)| Effect::Send(to, message)));
    }
}
