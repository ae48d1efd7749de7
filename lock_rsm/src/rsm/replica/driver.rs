//! The driver: the one task that owns the replica's core. It hands it messages, requests and time, and carries out what it
//! wants done: writes go to the writer thread, tasks to the applier thread, messages to the links.

use super::super::core::{Effects, Input, Proposal, ReplicaCore, Retire, Retirement, Stop, Task};
use super::super::store::{SnapshotPiece, StoreError};
use super::super::types::{StateError, View};
use super::applier;
use super::ask::Applicant;
use super::links::Links;
use super::shared::Shared;
use super::tell::Tell;
use super::writer::Job;
use crate::consensus::{Message, ReplicaId, SnapshotMeta};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Inputs handled before the effects are taken: enough to batch well, little enough to answer soon.
const INPUTS_MAX: usize = 1024;

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
    /// Another replica says that this one has left the group for good.
    Retired,
}

/// A message from another replica, and where that listens.
pub(super) struct Received {
    pub(super) from: ReplicaId,
    pub(super) address: String,
    pub(super) message: Message,
}

/// An operator's order, and where it is told how far that is: nowhere, if this replica is not the master.
pub(super) struct Ordered {
    pub(super) order: Retire,
    pub(super) tell: oneshot::Sender<Option<Retirement>>,
}

/// Where the driver's inputs come from.
pub(super) struct Inputs {
    pub(super) internal: mpsc::UnboundedReceiver<Internal>,
    pub(super) messages: mpsc::Receiver<Received>,
    pub(super) asked: mpsc::Receiver<(ReplicaId, String)>,
    pub(super) orders: mpsc::Receiver<Ordered>,
    pub(super) proposals: mpsc::Receiver<Proposal<Tell>>,
    /// Ends the driver, after mastership was handed over if it says so.
    pub(super) stop: mpsc::Receiver<Stop>,
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
    /// It has left its group for good.
    #[error(
        "the replica at {address} was replaced, or has left its group for good, and its data in {dir} counts no more; to use this machine again, move that directory away, or give another --data, and start it: it then joins as a new replica"
    )]
    Retired {
        /// Its address.
        address: String,
        /// Its directory.
        dir: PathBuf,
    },
    /// One of its threads died.
    #[error("a thread of the replica died; the log above says why")]
    Thread,
}

/// Where the effects go.
pub(super) struct Hands {
    pub(super) links: Links,
    pub(super) applicant: Applicant,
    pub(super) writer: Sender<Job>,
    pub(super) applier: Sender<applier::Work>,
}

pub(super) struct Driver {
    core: ReplicaCore<Tell>,
    shared: Arc<Shared>,
    hands: Hands,
    /// The replica's directory, to be named.
    dir: PathBuf,
}

impl Driver {
    pub(super) fn new(core: ReplicaCore<Tell>, shared: Arc<Shared>, hands: Hands, dir: PathBuf) -> Driver {
        Driver { core, shared, hands, dir }
    }

    /// Runs until told to stop, or until the replica cannot go on.
    pub(super) async fn run(mut self, mut inputs: Inputs) -> Result<(), ReplicaFailure> {
        let result = self.serve(&mut inputs).await;
        self.shared.confirm(false);
        result.map_err(|failure| reason(failure, &mut inputs.internal))
    }

    async fn serve(&mut self, inputs: &mut Inputs) -> Result<(), ReplicaFailure> {
        loop {
            self.wait(inputs).await?;
            self.take_waiting(inputs)?;
            self.step(Input::Applied(self.shared.applied_bytes()));
            self.step(Input::Tick);
            let effects = self.core.take_effects(self.shared.now_ms());
            if let Some(port) = &self.shared.test_port {
                port.wanted(self.core.consensus().id(), self.core.consensus().role(), &effects);
            }
            let done = effects.done;
            self.carry_out(effects)?;
            if done {
                return Ok(());
            }
        }
    }

    fn step(&mut self, input: Input<Tell>) {
        self.core.step(self.shared.now_ms(), input);
    }

    /// Waits for the next input or for a timer and handles it.
    async fn wait(&mut self, inputs: &mut Inputs) -> Result<(), ReplicaFailure> {
        tokio::select! {
            biased;
            Some(event) = inputs.internal.recv() => self.internal(event)?,
            Some(stop) = inputs.stop.recv() => self.stop(stop),
            Some(received) = inputs.messages.recv() => self.message(received),
            Some(ordered) = inputs.orders.recv() => self.order(ordered),
            Some((id, address)) = inputs.asked.recv() => self.step(Input::Asked { id, address }),
            Some(proposal) = inputs.proposals.recv() => self.step(Input::Propose(proposal)),
            () = self.timer() => {}
        }
        Ok(())
    }

    fn timer(&self) -> impl Future<Output = ()> + use<> {
        let due = Duration::from_millis(self.core.next_tick_ms());
        tokio::time::sleep_until(Instant::from_std(self.shared.started + due))
    }

    /// Takes what else is waiting already, so that one set of effects, one write and one message serve it all.
    fn take_waiting(&mut self, inputs: &mut Inputs) -> Result<(), ReplicaFailure> {
        for _ in 0..INPUTS_MAX {
            let Ok(event) = inputs.internal.try_recv() else { break };
            self.internal(event)?;
        }
        for _ in 0..INPUTS_MAX {
            let Ok(received) = inputs.messages.try_recv() else { break };
            self.message(received);
        }
        for _ in 0..INPUTS_MAX {
            let Ok(proposal) = inputs.proposals.try_recv() else { break };
            self.step(Input::Propose(proposal));
        }
        Ok(())
    }

    fn order(&mut self, Ordered { order, tell }: Ordered) {
        self.step(Input::Order(order.clone()));
        let leads = self.core.leads(self.shared.now_ms());
        // Whoever asked may have given up.
        let _ = tell.send(leads.then(|| self.core.retirement(&order)));
    }

    fn message(&mut self, received: Received) {
        let Received { from, address, message } = received;
        self.hands.links.heard_from(from, &address);
        if let Some(port) = &self.shared.test_port {
            port.received(self.core.consensus().id(), self.core.consensus().role(), &message);
        }
        self.step(Input::Message { from, message });
    }

    fn internal(&mut self, event: Internal) -> Result<(), ReplicaFailure> {
        match event {
            Internal::Persisted(number) => self.step(Input::Persisted(number)),
            Internal::SnapshotSaved(meta) => self.step(Input::SnapshotSaved(meta)),
            Internal::Piece(to, piece) => self.step(Input::Piece { to, piece }),
            Internal::Retired => self.step(Input::Retired),
            Internal::StoreFailed(error) => return Err(error.into()),
            Internal::StateFailed(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn stop(&mut self, how: Stop) {
        if how == Stop::Gracefully && self.core.leads(self.shared.now_ms()) {
            tracing::info!("handing mastership over before stopping");
        }
        self.step(Input::Stop(how));
    }

    fn carry_out(&mut self, effects: Effects<Tell>) -> Result<(), ReplicaFailure> {
        if let Some(info) = &effects.view {
            self.hands.links.update(&info.membership);
            let view = View::of(info);
            self.hands.applicant.note(&view.members);
            self.shared.set_view(view);
        }
        for (to, message) in &effects.messages {
            self.hands.links.send(*to, message);
        }
        for write in effects.writes {
            self.job(Job::Write(write))?;
        }
        for task in effects.tasks {
            self.task(task)?;
        }
        for wanted in effects.pieces {
            self.job(Job::Piece(wanted))?;
        }
        for (tell, refused) in effects.refused {
            tell.send(Err(refused));
        }
        if let Some(retired) = effects.retired {
            *self.shared.retired.lock() = retired;
        }
        if effects.has_left {
            return Err(self.left());
        }
        if effects.ask_in {
            self.hands.applicant.ask();
        }
        let now = self.shared.now_ms();
        self.hands.links.keep_warm(now);
        let consensus = self.core.consensus();
        let is_member = consensus.membership().is_voter(consensus.id());
        self.shared.set_role(consensus.role(), is_member, consensus.committed());
        self.shared.confirm(self.core.leads(now));
        Ok(())
    }

    fn left(&self) -> ReplicaFailure {
        let (address, dir) = (self.shared.identity.address.clone(), self.dir.clone());
        ReplicaFailure::Retired { address, dir }
    }

    fn job(&self, job: Job) -> Result<(), ReplicaFailure> {
        self.hands.writer.send(job).map_err(|_| ReplicaFailure::Thread)
    }

    fn task(&self, task: Task) -> Result<(), ReplicaFailure> {
        self.hands.applier.send(applier::Work::Task(task)).map_err(|_| ReplicaFailure::Thread)
    }
}

/// A thread that ended cannot be given work; it has said why before, and that may not have been heard yet.
fn reason(failure: ReplicaFailure, internal: &mut mpsc::UnboundedReceiver<Internal>) -> ReplicaFailure {
    while let (ReplicaFailure::Thread, Ok(event)) = (&failure, internal.try_recv()) {
        match event {
            Internal::StoreFailed(error) => return error.into(),
            Internal::StateFailed(error) => return error.into(),
            _ => {}
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_had_a_reason() {
        let (tell, mut internal) = mpsc::unbounded_channel();
        tell.send(Internal::Persisted(1)).unwrap();
        tell.send(Internal::StoreFailed(StoreError::thread("the disk is gone"))).unwrap();
        let why = reason(ReplicaFailure::Thread, &mut internal).to_string();
        assert!(why.contains("the disk is gone"), "{why}");
        let why = reason(ReplicaFailure::Thread, &mut internal);
        assert!(matches!(why, ReplicaFailure::Thread), "when nothing was said that is all there is to say");
    }
}
