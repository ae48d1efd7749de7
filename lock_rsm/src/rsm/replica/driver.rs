//! The driver: the one task that owns the consensus core. It feeds it messages, requests and time, and carries out what it
//! wants done: writes go to the writer thread, committed entries to the applier thread, messages to the links.

use super::super::store::{LogWrite, Snapshot, SnapshotPiece, StoreError};
use super::super::types::{Limits, StateError, View};
use super::applier::Task;
use super::incoming::{Incoming, Progress};
use super::links::Links;
use super::shared::Shared;
use super::waiters::{Answer, Refused, RequestKey, Waiters};
use super::writer::Job;
use crate::consensus::{
    Body, Core, Entry, InstallSnapshot, Message, Outputs, ProposeError, ReplicaId, Role, SnapshotChunk,
    SnapshotMeta, ViewInfo, Viewstamp,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Inputs handled before the outputs are taken: enough to batch well, little enough to answer soon.
const INPUTS_MAX: usize = 1024;
/// Bytes of committed entries that may wait to be applied before this replica takes no more.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Bytes of one command.
pub(super) const COMMAND_BYTES_MAX: usize = 4 << 20;
/// How long a new group leaves the field to its designated master.
const HEAD_START_MS: u64 = 1_000;
/// How often the designated master tries until enough others are up to elect it.
const INSIST_EVERY_MS: u64 = 40;

/// A request to be put into the log.
pub(super) struct Proposal {
    pub(super) key: RequestKey,
    pub(super) command: Bytes,
    pub(super) tell: oneshot::Sender<Answer>,
}

/// What the replica's own threads report.
pub(super) enum Internal {
    /// Batches up to this number are on disk.
    Persisted(u64),
    /// A snapshot of the own state is on disk.
    SnapshotSaved(SnapshotMeta),
    /// A piece of a snapshot for a slave was read.
    Piece(ReplicaId, SnapshotPiece),
    /// The store failed: nothing more will be durable.
    StoreFailed(StoreError),
    /// A snapshot cannot be read by this program.
    StateFailed(StateError),
}

/// Where the driver's inputs come from.
pub(super) struct Inputs {
    pub(super) internal: mpsc::UnboundedReceiver<Internal>,
    pub(super) messages: mpsc::Receiver<(ReplicaId, Message)>,
    pub(super) proposals: mpsc::Receiver<Proposal>,
    /// Ends the driver, after mastership was handed over if it says so.
    pub(super) stop: mpsc::Receiver<Stop>,
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Hand mastership over first.
    Gracefully,
    /// As a crash would.
    AtOnce,
}

/// Why a replica stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaFailure {
    /// Its disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It got a snapshot that this program cannot read.
    #[error(transparent)]
    State(#[from] StateError),
    /// One of its threads died.
    #[error("a thread of the replica died; the log above says why")]
    Thread,
}

/// Where the driver's outputs go.
pub(super) struct Hands {
    pub(super) links: Links,
    pub(super) writer: Sender<Job>,
    pub(super) applier: Sender<Task>,
}

/// The start of a new group: the designated master insists on becoming it, the others give it time to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadStart {
    until_ms: u64,
    mine: bool,
    /// The designated master tries no earlier than this.
    again_ms: u64,
}

impl HeadStart {
    pub(super) fn new(now_ms: u64, mine: bool) -> HeadStart {
        HeadStart { until_ms: now_ms + HEAD_START_MS, mine, again_ms: now_ms }
    }

    fn waits(&self, now_ms: u64) -> bool {
        !self.mine && now_ms < self.until_ms
    }

    /// Whether it is time to try (again) to become the master.
    fn insists(&mut self, now_ms: u64) -> bool {
        let due = self.mine && now_ms < self.until_ms && now_ms >= self.again_ms;
        if due {
            self.again_ms = now_ms + INSIST_EVERY_MS;
        }
        due
    }
}

pub(super) struct Driver {
    core: Core,
    shared: Arc<Shared>,
    hands: Hands,
    head_start: HeadStart,
    snapshot_after: SnapshotAfter,
    /// The last batch handed to the writer, and the last one reported by it.
    submitted: u64,
    persisted: u64,
    /// Messages that wait for a batch to be on disk.
    after_persist: VecDeque<(u64, Vec<(ReplicaId, Message)>)>,
    incoming: Incoming,
    /// Seq of the last committed entry handed to the applier, and how much there was since the last snapshot.
    delivered: u64,
    unsaved_entries: u64,
    unsaved_bytes: u64,
    saving: bool,
    handing_over_until: Option<u64>,
}

struct SnapshotAfter {
    entries: u64,
    bytes: u64,
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

impl Driver {
    pub(super) fn new(
        core: Core,
        shared: Arc<Shared>,
        hands: Hands,
        head_start: HeadStart,
        applied: u64,
    ) -> Driver {
        let snapshot_after = SnapshotAfter::staggered(&shared.limits, core.id());
        Driver {
            core,
            shared,
            hands,
            head_start,
            snapshot_after,
            submitted: 0,
            persisted: 0,
            after_persist: VecDeque::new(),
            incoming: Incoming::default(),
            delivered: applied,
            unsaved_entries: 0,
            unsaved_bytes: 0,
            saving: false,
            handing_over_until: None,
        }
    }

    /// Runs until told to stop, or until the replica cannot go on.
    pub(super) async fn run(mut self, mut inputs: Inputs) -> Result<(), ReplicaFailure> {
        let result = self.serve(&mut inputs).await;
        self.shared.confirm(false);
        self.shared.waiters.lock().give_up_except(None);
        result
    }

    async fn serve(&mut self, inputs: &mut Inputs) -> Result<(), ReplicaFailure> {
        let mut proposals = Vec::new();
        loop {
            let stop = self.wait(inputs, &mut proposals).await?;
            self.take_waiting(inputs, &mut proposals)?;
            self.propose(&mut proposals);
            self.tick();
            self.work_off_outputs()?;
            if stop == Some(Stop::AtOnce) || self.may_stop(stop) {
                return Ok(());
            }
        }
    }

    /// Waits for the next input or for a timer and handles it.
    async fn wait(
        &mut self,
        inputs: &mut Inputs,
        proposals: &mut Vec<Proposal>,
    ) -> Result<Option<Stop>, ReplicaFailure> {
        tokio::select! {
            biased;
            Some(event) = inputs.internal.recv() => self.internal(event)?,
            Some(stop) = inputs.stop.recv() => return Ok(Some(stop)),
            Some((from, message)) = inputs.messages.recv() => self.message(from, message),
            Some(proposal) = inputs.proposals.recv() => proposals.push(proposal),
            () = self.timer() => {}
        }
        Ok(None)
    }

    /// When the core wants a tick; at the latest when it must be looked at again whether a quorum still follows.
    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let now = self.shared.now_ms();
        let third =
            u64::try_from(self.shared.timers.election_timeout.as_millis() / 3).expect("timers are short");
        let look_again = now + third.max(1);
        let due =
            if self.head_start.waits(now) { look_again } else { self.core.next_tick_ms().min(look_again) };
        tokio::time::sleep_until(Instant::from_std(self.shared.started + Duration::from_millis(due)))
    }

    /// Takes what else is waiting already, so that one set of outputs, one write and one message serve it all.
    fn take_waiting(
        &mut self,
        inputs: &mut Inputs,
        proposals: &mut Vec<Proposal>,
    ) -> Result<(), ReplicaFailure> {
        for _ in 0..INPUTS_MAX {
            let Ok(event) = inputs.internal.try_recv() else { break };
            self.internal(event)?;
        }
        for _ in 0..INPUTS_MAX {
            let Ok((from, message)) = inputs.messages.try_recv() else { break };
            self.message(from, message);
        }
        while proposals.len() < INPUTS_MAX {
            let Ok(proposal) = inputs.proposals.try_recv() else { break };
            proposals.push(proposal);
        }
        Ok(())
    }

    fn internal(&mut self, event: Internal) -> Result<(), ReplicaFailure> {
        match event {
            Internal::Persisted(number) => self.on_disk(number),
            Internal::SnapshotSaved(meta) => {
                self.saving = false;
                // The core refuses one that a received snapshot has overtaken; then there is nothing to compact.
                let _ = self.core.snapshot_taken(&meta);
            }
            Internal::Piece(to, piece) => {
                let now = self.shared.now_ms();
                // Refused when the slave caught up or the view changed meanwhile.
                let _ = self.core.send_snapshot(now, to, &piece.meta, piece.offset, piece.data, piece.done);
            }
            Internal::StoreFailed(error) => return Err(error.into()),
            Internal::StateFailed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn on_disk(&mut self, number: u64) {
        self.persisted = number;
        while self.after_persist.front().is_some_and(|(needs, _)| *needs <= number) {
            let (_, messages) = self.after_persist.pop_front().expect("just looked at");
            self.send(messages);
        }
        self.core.persisted(self.shared.now_ms(), number);
    }

    fn message(&mut self, from: ReplicaId, message: Message) {
        // A program that cannot keep up gets no more to apply; the master sends it again.
        let is_append = matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty());
        if is_append && self.shared.backlog.bytes() > BACKLOG_BYTES_MAX {
            return;
        }
        self.core.receive(self.shared.now_ms(), from, message);
    }

    fn tick(&mut self) {
        let now = self.shared.now_ms();
        if self.head_start.waits(now) {
            return;
        }
        let idle = self.core.master().is_none() && self.core.role() != Role::Candidate;
        if idle && self.head_start.insists(now) {
            self.core.campaign(now);
        }
        if now >= self.core.next_tick_ms() {
            self.core.tick(now);
        }
    }

    /// Puts the proposals into the log, in one go; duplicates of requests in progress join those.
    fn propose(&mut self, proposals: &mut Vec<Proposal>) {
        if proposals.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut waiters = shared.waiters.lock();
        let mut commands = Vec::with_capacity(proposals.len());
        let mut waiting = Vec::with_capacity(proposals.len());
        for proposal in proposals.drain(..) {
            if let Some(refused) = self.refusal(&proposal, waiters.len() + waiting.len()) {
                refuse(proposal.tell, refused);
            } else if let Some(tell) = waiters.join(proposal.key, proposal.tell) {
                commands.push(proposal.command);
                waiting.push((proposal.key, tell));
            }
        }
        if !commands.is_empty() {
            self.append(commands, waiting, &mut waiters);
        }
    }

    fn append(
        &mut self,
        commands: Vec<Bytes>,
        waiting: Vec<(RequestKey, oneshot::Sender<Answer>)>,
        waiters: &mut Waiters,
    ) {
        let refused = match self.core.propose(self.shared.now_ms(), commands) {
            Ok(first) => {
                for (seq, (key, tell)) in (first.seq..).zip(waiting) {
                    waiters.add(Viewstamp::new(first.view, seq), key, tell);
                }
                return;
            }
            Err(ProposeError::NotMaster { .. } | ProposeError::Empty) => Refused::NotMaster,
            Err(ProposeError::Overloaded { .. }) => Refused::Busy,
            Err(ProposeError::TooLarge { .. }) => Refused::TooLarge,
        };
        for (_, tell) in waiting {
            refuse(tell, refused);
        }
    }

    fn refusal(&self, proposal: &Proposal, waiting: usize) -> Option<Refused> {
        let busy =
            waiting >= self.shared.limits.invokes_max || self.shared.backlog.bytes() > BACKLOG_BYTES_MAX;
        if self.core.role() != Role::Master || self.handing_over_until.is_some() {
            Some(Refused::NotMaster)
        } else if proposal.command.len() > COMMAND_BYTES_MAX {
            Some(Refused::TooLarge)
        } else {
            busy.then_some(Refused::Busy)
        }
    }

    /// Carries out what the core wants done.
    fn work_off_outputs(&mut self) -> Result<(), ReplicaFailure> {
        loop {
            let outputs = self.core.take_outputs(self.shared.now_ms());
            // A snapshot received whole is installed by the next outputs.
            let again = !outputs.snapshot_chunks.is_empty();
            self.carry_out(outputs)?;
            if !again {
                break;
            }
        }
        self.order_snapshot()?;
        self.hands.links.keep_warm(self.shared.now_ms());
        self.shared.set_role(self.core.role(), self.core.committed());
        self.shared.confirm(self.core.is_master_with_quorum(self.shared.now_ms()));
        Ok(())
    }

    fn carry_out(&mut self, mut outputs: Outputs) -> Result<(), ReplicaFailure> {
        self.send(std::mem::take(&mut outputs.messages));
        if let Some(info) = outputs.view_changed.take() {
            self.adopt_view(info)?;
        }
        let installed = match outputs.install_snapshot.take() {
            Some(install) => Some(self.take_received(install)?),
            None => None,
        };
        self.persist(&mut outputs, installed.clone())?;
        if let Some((snapshot, _)) = installed {
            self.delivered = snapshot.meta.stamp.seq;
            (self.unsaved_entries, self.unsaved_bytes) = (0, 0);
            self.task(Task::Restore(snapshot.meta, snapshot.state))?;
        }
        self.deliver(outputs.committed)?;
        for wanted in outputs.snapshots_wanted {
            self.job(Job::Piece { to: wanted.to, stamp: wanted.stamp, offset: wanted.offset })?;
        }
        self.receive_snapshot(outputs.snapshot_chunks);
        Ok(())
    }

    /// Hands a batch to the writer, and keeps what must not be said before it is on disk.
    fn persist(
        &mut self,
        outputs: &mut Outputs,
        install: Option<(Snapshot, bool)>,
    ) -> Result<(), ReplicaFailure> {
        let write = LogWrite {
            hard_state: outputs.hard_state.take(),
            install,
            truncate_from: outputs.truncate_from.take(),
            append: std::mem::take(&mut outputs.append),
        };
        if !write.is_empty() {
            self.submitted = outputs.number;
            self.job(Job::Write { number: outputs.number, write })?;
        }
        let messages = std::mem::take(&mut outputs.after_persist);
        if self.persisted >= self.submitted {
            self.send(messages);
        } else if !messages.is_empty() {
            self.after_persist.push_back((self.submitted, messages));
        }
        Ok(())
    }

    fn deliver(&mut self, committed: Vec<Entry>) -> Result<(), ReplicaFailure> {
        let Some(last) = committed.last() else { return Ok(()) };
        let bytes = committed.iter().map(Entry::size_bytes).sum();
        self.delivered = last.stamp.seq;
        self.unsaved_entries += committed.len() as u64;
        self.unsaved_bytes += bytes as u64;
        self.shared.backlog.add(bytes);
        self.task(Task::Apply(committed))
    }

    fn adopt_view(&mut self, info: ViewInfo) -> Result<(), ReplicaFailure> {
        let master = info.master.and_then(|id| info.membership.get(id)).map(|member| member.address.clone());
        let members = info.membership.members.iter().map(|member| member.address.clone()).collect();
        let view = View { number: info.number, members, master };
        let leads = info.master == Some(self.core.id());
        self.hands.links.update(&info.membership);
        self.shared.set_view(view.clone());
        self.shared.waiters.lock().give_up_except(leads.then_some(info.number));
        self.task(Task::View(view, leads))
    }

    /// The bytes of the snapshot that is to be installed now.
    fn take_received(&mut self, install: InstallSnapshot) -> Result<(Snapshot, bool), ReplicaFailure> {
        let state = self.incoming.take(&install.meta).ok_or_else(|| {
            StateError(format!("the snapshot at {} is to be installed but was not kept", install.meta.stamp))
        })?;
        Ok((Snapshot { meta: install.meta, state }, install.discard_log))
    }

    fn receive_snapshot(&mut self, chunks: Vec<SnapshotChunk>) {
        for chunk in chunks {
            let stamp = chunk.meta.stamp;
            let now = self.shared.now_ms();
            match self.incoming.add(chunk) {
                Progress::Partial => {}
                // Refused when the log caught up by other means.
                Progress::Whole => drop(self.core.snapshot_received(now, stamp)),
                Progress::Spoilt => {
                    tracing::warn!("the snapshot at {stamp} arrived damaged; asking for it again");
                    self.core.snapshot_spoilt(now);
                }
            }
        }
    }

    /// Has a snapshot taken when the log has grown enough since the last one.
    fn order_snapshot(&mut self) -> Result<(), ReplicaFailure> {
        let due = self.unsaved_entries >= self.snapshot_after.entries
            || self.unsaved_bytes >= self.snapshot_after.bytes;
        if !due || self.saving {
            return Ok(());
        }
        let Some(meta) = self.core.snapshot_meta(self.delivered) else { return Ok(()) };
        self.saving = true;
        (self.unsaved_entries, self.unsaved_bytes) = (0, 0);
        self.task(Task::Snapshot(meta))
    }

    /// Whether to stop now, having been told to: a master first lets another one take over.
    fn may_stop(&mut self, stop: Option<Stop>) -> bool {
        let now = self.shared.now_ms();
        if stop == Some(Stop::Gracefully) {
            // Refused when this replica is no master, or when nobody else is there to be one.
            let Ok(successor) = self.core.hand_over(now) else { return true };
            tracing::info!("handing mastership over to replica {successor:016x} before stopping");
            let patience = 2 * self.shared.timers.election_timeout.as_millis();
            self.handing_over_until = Some(now + u64::try_from(patience).expect("timers are short"));
            return false;
        }
        let succeeded = self.core.master().is_some_and(|master| master != self.core.id());
        self.handing_over_until.is_some_and(|until| succeeded || now >= until)
    }

    fn send(&self, messages: Vec<(ReplicaId, Message)>) {
        for (to, message) in messages {
            self.hands.links.send(to, &message);
        }
    }

    fn job(&self, job: Job) -> Result<(), ReplicaFailure> {
        self.hands.writer.send(job).map_err(|_| ReplicaFailure::Thread)
    }

    fn task(&self, task: Task) -> Result<(), ReplicaFailure> {
        self.hands.applier.send(task).map_err(|_| ReplicaFailure::Thread)
    }
}

fn refuse(tell: oneshot::Sender<Answer>, refused: Refused) {
    // A caller that gave up is not there to be told.
    let _ = tell.send(Err(refused));
}
