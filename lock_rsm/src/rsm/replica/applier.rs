//! The thread that owns the replicated program.
//!
//! A thread of its own, so that marshalling a large state or a slow handler delays answers but never heartbeats.

use super::super::core::{Program, Report, Task};
use super::super::types::StateError;
use super::allowance::Allowance;
use super::driver::Internal;
use super::shared::Shared;
use super::tell::Tell;
use super::writer::{Job, LOOK_EVERY};
use crate::consensus::Viewstamp;
use rpc::Replies;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

/// Work for the thread, done in order.
pub(super) enum Work {
    /// What the core wants done.
    Task(Task),
    /// The applied stamp and the hash of the state there.
    Hash(oneshot::Sender<(Viewstamp, u64)>),
    /// The same, without the hash when that would cost too much now.
    CheapHash(oneshot::Sender<(Viewstamp, Option<u64>)>),
}

/// The thread's handle. The thread ends when all work senders are gone.
pub(super) struct Applier {
    pub(super) work: Sender<Work>,
    /// None where a task does the work.
    pub(super) thread: Option<JoinHandle<()>>,
}

/// Starts the thread. Snapshots go to `writer`; a state that cannot be read is reported to `driver` and ends the thread.
pub(super) fn spawn(
    program: Program<Tell>,
    shared: Arc<Shared>,
    writer: Sender<Job>,
    driver: UnboundedSender<Internal>,
) -> std::io::Result<Applier> {
    let (work, queue) = channel();
    let thread = std::thread::Builder::new().name("rsm-applier".into()).spawn(move || {
        let mut hand = Hand { program, shared, writer, allowance: Allowance::default() };
        if let Err(error) = hand.run(&queue) {
            // The driver may be gone already.
            let _ = driver.send(Internal::StateFailed(error));
        }
    })?;
    Ok(Applier { work, thread: Some(thread) })
}

/// As [`spawn`], with a task for the thread.
pub(super) fn spawn_task(
    program: Program<Tell>,
    shared: Arc<Shared>,
    writer: Sender<Job>,
    driver: UnboundedSender<Internal>,
) -> Applier {
    let (work, queue) = channel();
    tokio::spawn(async move {
        let mut hand = Hand { program, shared, writer, allowance: Allowance::default() };
        loop {
            let next = queue.try_recv();
            match next {
                Ok(work) => {
                    if let Err(error) = hand.perform(work) {
                        // The driver may be gone already.
                        let _ = driver.send(Internal::StateFailed(error));
                        return;
                    }
                }
                Err(TryRecvError::Empty) => tokio::time::sleep(LOOK_EVERY).await,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    });
    Applier { work, thread: None }
}

struct Hand {
    program: Program<Tell>,
    shared: Arc<Shared>,
    writer: Sender<Job>,
    allowance: Allowance,
}

impl Hand {
    fn run(&mut self, queue: &Receiver<Work>) -> Result<(), StateError> {
        while let Ok(work) = queue.recv() {
            self.perform(work)?;
        }
        Ok(())
    }

    fn perform(&mut self, work: Work) -> Result<(), StateError> {
        match work {
            Work::Task(task) => {
                let report = self.program.perform(task)?;
                self.pass_on(report);
            }
            Work::Hash(tell) => {
                // Whoever asked may have given up.
                let _ = tell.send(self.program.hash());
            }
            Work::CheapHash(tell) => {
                let _ = tell.send(self.cheap_hash());
            }
        }
        Ok(())
    }

    fn cheap_hash(&mut self) -> (Viewstamp, Option<u64>) {
        let began = Instant::now();
        if self.program.is_hashed() {
            let (stamp, hash) = self.program.hash();
            return (stamp, Some(hash));
        }
        if !self.allowance.allows(began) {
            return (self.program.applied(), None);
        }
        let (stamp, hash) = self.program.hash();
        self.allowance.spent(began, Instant::now());
        (stamp, Some(hash))
    }

    fn pass_on(&self, report: Report<Tell>) {
        self.shared.set_applied(report.applied, report.bytes);
        let mut replies = Replies::new();
        for (tell, answer) in report.answers {
            tell.add_to(&mut replies, answer);
        }
        replies.send();
        if let Some((view, leads)) = report.announced {
            self.shared.announce(&view, leads);
        }
        if let Some(snapshot) = report.snapshot {
            // A writer that is gone has reported why.
            let _ = self.writer.send(Job::Save { snapshot, back: self.writer.clone() });
        }
    }
}
