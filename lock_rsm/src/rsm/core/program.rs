//! The replicated program in a replica: applies committed entries, answers whoever waits for them, announces views.

use super::super::state::Machine;
use super::super::store::Snapshot;
use super::super::types::{StateError, View};
use super::effects::Task;
use super::waiting::{Answer, Ticket, Waiting};
use crate::consensus::{Entry, SnapshotMeta, Viewstamp};
use bytes::Bytes;

/// The program, and who waits for what of it.
pub struct Program<T> {
    machine: Machine,
    waiting: Waiting<T>,
    hashed: Option<(Viewstamp, u64)>,
}

/// What a task came to.
#[derive(Debug)]
pub struct Report<T> {
    /// The last entry applied.
    pub applied: Viewstamp,
    /// Bytes of entries that the task worked off, for [`Input::Applied`](super::Input::Applied).
    pub bytes: u64,
    /// To be handed to the holders of the tickets.
    pub answers: Vec<(T, Answer)>,
    /// A view to tell the program and the world, and whether this replica is its master.
    pub announced: Option<(View, bool)>,
    /// To be written to disk, then reported by [`Input::SnapshotSaved`](super::Input::SnapshotSaved).
    pub snapshot: Option<Snapshot>,
}

impl<T: Ticket> Program<T> {
    /// `machine` with the requests `waiting` for it, shared with the replica's core.
    pub fn new(machine: Machine, waiting: Waiting<T>) -> Program<T> {
        Program { machine, waiting, hashed: None }
    }

    /// Does one task. Fails when a received state cannot be read; the replica must then stop.
    pub fn perform(&mut self, task: Task) -> Result<Report<T>, StateError> {
        let mut report = Report {
            applied: Viewstamp::ZERO,
            bytes: 0,
            answers: Vec::new(),
            announced: None,
            snapshot: None,
        };
        match task {
            Task::Apply(entries) => self.apply(&entries, &mut report),
            Task::Restore(meta, state) => self.restore(&meta, state)?,
            Task::Snapshot(meta) => report.snapshot = Some(self.snapshot(meta)),
            Task::View(view, leads) => report.announced = Some((view, leads)),
        }
        report.applied = self.machine.applied();
        Ok(report)
    }

    fn apply(&mut self, entries: &[Entry], report: &mut Report<T>) {
        let outcomes: Vec<_> = entries.iter().map(|entry| (entry.stamp, self.machine.apply(entry))).collect();
        self.waiting.applied(outcomes, &mut report.answers);
        report.bytes = entries.iter().map(|entry| entry.size_bytes() as u64).sum();
    }

    fn restore(&mut self, meta: &SnapshotMeta, state: Bytes) -> Result<(), StateError> {
        self.machine.restore(state, meta.stamp)
    }

    fn snapshot(&mut self, meta: SnapshotMeta) -> Snapshot {
        assert_eq!(meta.stamp, self.machine.applied(), "a snapshot is taken exactly where it was ordered");
        Snapshot { meta, state: self.machine.marshal() }
    }

    /// The last entry applied.
    pub fn applied(&self) -> Viewstamp {
        self.machine.applied()
    }

    /// Whether [`hash`](Self::hash) costs nothing: nothing was applied since it was asked last.
    pub fn is_hashed(&self) -> bool {
        self.hashed.is_some_and(|(stamp, _)| stamp == self.machine.applied())
    }

    /// The last entry applied, and the hash of the whole state after it.
    pub fn hash(&mut self) -> (Viewstamp, u64) {
        let applied = self.machine.applied();
        match self.hashed {
            Some((stamp, hash)) if stamp == applied => (stamp, hash),
            _ => *self.hashed.insert((applied, self.machine.hash())),
        }
    }
}
