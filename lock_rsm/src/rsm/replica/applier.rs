//! The thread that owns the replicated program: it applies committed entries and answers whoever waits for them.
//!
//! A thread of its own, so that marshalling a large state or a slow handler delays answers but never heartbeats.

use super::super::state::Machine;
use super::super::store::Snapshot;
use super::super::types::{StateError, View};
use super::driver::Internal;
use super::shared::Shared;
use super::writer::Job;
use crate::consensus::{Entry, SnapshotMeta, Viewstamp};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use tokio::sync::{mpsc::UnboundedSender, oneshot};

/// Work for the program, done in order.
pub(super) enum Task {
    /// Committed entries, consecutive.
    Apply(Vec<Entry>),
    /// A received snapshot takes the place of the state.
    Restore(SnapshotMeta, Bytes),
    /// Marshal the state, which is now the one `SnapshotMeta` names, and have it written.
    Snapshot(SnapshotMeta),
    /// A view was adopted. As master, it is announced once an entry of that view is applied.
    View(View, bool),
    /// The applied stamp and the hash of the state there.
    Hash(oneshot::Sender<(Viewstamp, u64)>),
}

/// The thread's handle. The thread ends when all task senders are gone.
pub(super) struct Applier {
    pub(super) tasks: Sender<Task>,
    pub(super) thread: JoinHandle<()>,
}

/// Starts the thread. Snapshots go to `writer`; a state that cannot be read is reported to `driver` and ends the thread.
pub(super) fn spawn(
    machine: Machine,
    shared: Arc<Shared>,
    writer: Sender<Job>,
    driver: UnboundedSender<Internal>,
) -> std::io::Result<Applier> {
    let (tasks, queue) = channel();
    let thread = std::thread::Builder::new().name("rsm-applier".into()).spawn(move || {
        let mut work = Work { machine, shared, writer, unannounced: None, hashed: None };
        if let Err(error) = work.run(&queue) {
            // The driver may be gone already.
            let _ = driver.send(Internal::StateFailed(error));
        }
    })?;
    Ok(Applier { tasks, thread })
}

struct Work {
    machine: Machine,
    shared: Arc<Shared>,
    writer: Sender<Job>,
    /// The view this replica leads and has not announced yet.
    unannounced: Option<View>,
    hashed: Option<(Viewstamp, u64)>,
}

impl Work {
    fn run(&mut self, queue: &Receiver<Task>) -> Result<(), StateError> {
        while let Ok(task) = queue.recv() {
            match task {
                Task::Apply(entries) => self.apply(&entries),
                Task::Restore(meta, state) => {
                    self.machine.restore(state, meta.stamp)?;
                    self.shared.set_applied(meta.stamp);
                }
                Task::Snapshot(meta) => self.snapshot(meta),
                Task::View(view, master) => self.view(view, master),
                Task::Hash(tell) => {
                    // Whoever asked may have given up.
                    let _ = tell.send(self.hash());
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, entries: &[Entry]) {
        let answers: Vec<_> = entries.iter().map(|entry| (entry.stamp, self.machine.apply(entry))).collect();
        self.shared.set_applied(self.machine.applied());
        {
            let mut waiters = self.shared.waiters.lock();
            for (stamp, applied) in answers {
                waiters.applied(stamp, applied);
            }
        }
        self.shared.backlog.sub(entries.iter().map(Entry::size_bytes).sum());
        self.announce();
    }

    fn snapshot(&mut self, meta: SnapshotMeta) {
        assert_eq!(meta.stamp, self.machine.applied(), "a snapshot is taken exactly where it was ordered");
        let state = self.machine.marshal();
        // A writer that is gone has reported why.
        let _ = self.writer.send(Job::Save(Snapshot { meta, state }));
    }

    fn view(&mut self, view: View, master: bool) {
        if master {
            self.unannounced = Some(view);
            self.announce();
        } else {
            self.unannounced = None;
            self.shared.announce(&view, false);
        }
    }

    /// Announces the view this replica leads once its state includes everything committed in earlier ones.
    fn announce(&mut self) {
        if self.unannounced.as_ref().is_some_and(|view| self.machine.applied().view == view.number) {
            let view = self.unannounced.take().expect("just looked at");
            self.shared.announce(&view, true);
        }
    }

    fn hash(&mut self) -> (Viewstamp, u64) {
        let applied = self.machine.applied();
        match self.hashed {
            Some((stamp, hash)) if stamp == applied => (stamp, hash),
            _ => *self.hashed.insert((applied, self.machine.hash())),
        }
    }
}
