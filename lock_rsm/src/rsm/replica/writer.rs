//! The thread that owns the store: it writes what the core wants durable, many batches with one sync.

use super::super::core::Write;
use super::super::store::{LogWrite, Snapshot, SnapshotPiece, Store, StoreError};
use super::driver::Internal;
use crate::consensus::SnapshotWanted;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// After this long without work the store may note how far it got.
const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// Batches written with one sync.
const GROUP_MAX: usize = 256;

/// Work for the store, done in order.
pub(super) enum Job {
    /// A batch of the core's effects.
    Write(Write),
    /// A snapshot of the replica's own state.
    Save(Snapshot),
    /// Read a piece of the latest snapshot for a slave.
    Piece(SnapshotWanted),
}

/// The thread's handle. The thread ends, and the store is closed, when all job senders are gone.
pub(super) struct Writer {
    pub(super) jobs: Sender<Job>,
    pub(super) thread: JoinHandle<()>,
}

/// Starts the thread. It reports to `driver`; after a failure it reports that and ends.
pub(super) fn spawn(store: Box<dyn Store>, driver: UnboundedSender<Internal>) -> std::io::Result<Writer> {
    let (jobs, queue) = channel();
    let thread = std::thread::Builder::new().name("rsm-writer".into()).spawn(move || {
        let mut work = Work { store, driver, settled: true };
        if let Err(error) = work.run(&queue) {
            // The driver may be gone already.
            let _ = work.driver.send(Internal::StoreFailed(error));
        }
    })?;
    Ok(Writer { jobs, thread })
}

struct Work {
    store: Box<dyn Store>,
    driver: UnboundedSender<Internal>,
    settled: bool,
}

impl Work {
    fn run(&mut self, queue: &Receiver<Job>) -> Result<(), StoreError> {
        loop {
            match queue.recv_timeout(SETTLE_AFTER) {
                Ok(job) => self.work_off(job, queue)?,
                Err(RecvTimeoutError::Timeout) => self.settle()?,
                Err(RecvTimeoutError::Disconnected) => return self.settle(),
            }
        }
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        if !self.settled {
            self.store.settle()?;
            self.settled = true;
        }
        Ok(())
    }

    /// Does `job` and everything queued behind it, joining neighbouring writes.
    fn work_off(&mut self, job: Job, queue: &Receiver<Job>) -> Result<(), StoreError> {
        let mut next = Some(job);
        while let Some(job) = next.take() {
            match job {
                Job::Write(Write { number, write }) => {
                    let mut group = vec![write];
                    let mut last = number;
                    while group.len() < GROUP_MAX {
                        match queue.try_recv() {
                            Ok(Job::Write(Write { number, write })) => {
                                group.push(write);
                                last = number;
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.write(last, group)?;
                }
                Job::Save(snapshot) => self.save(&snapshot)?,
                Job::Piece(wanted) => self.piece(&wanted)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, number: u64, group: Vec<LogWrite>) -> Result<(), StoreError> {
        self.store.write(group)?;
        self.settled = false;
        self.report(Internal::Persisted(number));
        self.store.mark()
    }

    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        self.store.save_snapshot(snapshot)?;
        self.settled = false;
        self.report(Internal::SnapshotSaved(snapshot.meta.clone()));
        Ok(())
    }

    fn piece(&mut self, wanted: &SnapshotWanted) -> Result<(), StoreError> {
        let piece: Option<SnapshotPiece> = self.store.snapshot_piece(wanted.stamp, wanted.offset)?;
        if let Some(piece) = piece {
            self.report(Internal::Piece(wanted.to, piece));
        }
        Ok(())
    }

    fn report(&self, event: Internal) {
        // A driver that is gone needs no reports.
        let _ = self.driver.send(event);
    }
}
