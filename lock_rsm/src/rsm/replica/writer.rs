//! The thread that owns the store: it writes what the core wants durable, many batches with one sync.

use super::super::core::Write;
use super::super::store::{LogWrite, SavedSnapshot, Snapshot, SnapshotPiece, Store, StoreError};
use super::super::types::DiskTime;
use super::driver::Internal;
use crate::consensus::SnapshotWanted;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// After this long without work the store may note how far it got.
const SETTLE_AFTER: Duration = Duration::from_secs(1);
/// How often a task in a thread's place looks for work.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Batches written with one sync.
const GROUP_MAX: usize = 256;

/// Work for the store, done in order.
pub(super) enum Job {
    /// A batch of the core's effects.
    Write(Write),
    /// A snapshot of the replica's own state.
    Save {
        /// What to write.
        snapshot: Snapshot,
        /// Where the thread that writes it reports: into this queue. It keeps the writer alive until it is done.
        back: Sender<Job>,
    },
    /// That snapshot is on disk, or is not.
    Saved(Result<SavedSnapshot, StoreError>),
    /// Read a piece of the latest snapshot for a slave.
    Piece(SnapshotWanted),
}

/// The thread's handle. The thread ends, and the store is closed, when all job senders are gone.
pub(super) struct Writer {
    pub(super) jobs: Sender<Job>,
    /// None where a task does the work.
    pub(super) thread: Option<JoinHandle<()>>,
}

/// Starts the thread. It reports to `driver`; after a failure it reports that and ends.
pub(super) fn spawn(store: Box<dyn Store>, driver: UnboundedSender<Internal>) -> std::io::Result<Writer> {
    let (jobs, queue) = channel();
    let thread = std::thread::Builder::new().name("rsm-writer".into()).spawn(move || {
        let mut work = Work { store, driver, settled: true, is_alone: false };
        if let Err(error) = work.run(&queue) {
            // The driver may be gone already.
            let _ = work.driver.send(Internal::StoreFailed(error));
        }
    })?;
    Ok(Writer { jobs, thread: Some(thread) })
}

/// As [`spawn`], with a task for the thread and a disk that takes its time.
pub(super) fn spawn_task(store: Box<dyn Store>, driver: UnboundedSender<Internal>, disk: DiskTime) -> Writer {
    let (jobs, queue) = channel();
    tokio::spawn(async move {
        let mut work = Work { store, driver, settled: true, is_alone: true };
        loop {
            let next = queue.try_recv();
            let done = match next {
                Ok(job) => {
                    tokio::time::sleep(disk()).await;
                    work.work_off(job, &queue)
                }
                Err(TryRecvError::Empty) => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    Ok(())
                }
                Err(TryRecvError::Disconnected) => return,
            };
            if let Err(error) = done {
                // The driver may be gone already.
                let _ = work.driver.send(Internal::StoreFailed(error));
                return;
            }
        }
    });
    Writer { jobs, thread: None }
}

struct Work {
    store: Box<dyn Store>,
    driver: UnboundedSender<Internal>,
    settled: bool,
    /// There are no other threads: it does everything itself.
    is_alone: bool,
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
                Job::Save { snapshot, back } => self.save(snapshot, back)?,
                Job::Saved(saved) => self.saved(saved?)?,
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

    /// Has the snapshot written by a thread of its own, so that the log's writes need not wait for it. Its entries were
    /// written before: it comes behind them in the queue, and so does what puts it in force.
    fn save(&mut self, snapshot: Snapshot, back: Sender<Job>) -> Result<(), StoreError> {
        let save = self.store.save_snapshot(snapshot);
        let work = move || {
            let died = |_| Err(StoreError::thread("the thread that writes a snapshot died"));
            let saved = catch_unwind(AssertUnwindSafe(save)).unwrap_or_else(died);
            // A writer that is gone has reported why.
            let _ = back.send(Job::Saved(saved));
        };
        if self.is_alone {
            work();
            return Ok(());
        }
        let spawned = std::thread::Builder::new().name("rsm-snapshot".into()).spawn(work);
        spawned.map(drop).map_err(|error| StoreError::thread(format!("no thread for a snapshot: {error}")))
    }

    fn saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError> {
        let meta = saved.meta.clone();
        self.store.snapshot_saved(saved)?;
        self.settled = false;
        self.report(Internal::SnapshotSaved(meta));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Membership, SnapshotMeta, Viewstamp};
    use crate::rsm::store::SaveSnapshot;
    use bytes::Bytes;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    /// A disk on which a snapshot takes until the test lets it end.
    struct SlowSnapshots {
        go_on: Option<Receiver<Result<(), StoreError>>>,
        in_force: Sender<Viewstamp>,
    }

    impl Store for SlowSnapshots {
        fn write(&mut self, _: Vec<LogWrite>) -> Result<(), StoreError> {
            Ok(())
        }
        fn form(&mut self, _: &Membership) -> Result<(), StoreError> {
            Ok(())
        }
        fn save_snapshot(&mut self, snapshot: Snapshot) -> SaveSnapshot {
            let go_on = self.go_on.take().expect("the test saves one");
            Box::new(move || {
                go_on.recv().expect("the test lets it end")?;
                Ok(SavedSnapshot { meta: snapshot.meta, generation: 1, len: 0, hash: 0 })
            })
        }
        fn snapshot_saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError> {
            self.in_force.send(saved.meta.stamp).expect("the test looks");
            Ok(())
        }
        fn snapshot_piece(
            &mut self,
            _: Option<Viewstamp>,
            _: u64,
        ) -> Result<Option<SnapshotPiece>, StoreError> {
            Ok(None)
        }
        fn mark(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
        fn settle(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    struct Bench {
        writer: Writer,
        go_on: Sender<Result<(), StoreError>>,
        in_force: Receiver<Viewstamp>,
        reports: UnboundedReceiver<Internal>,
    }

    fn bench() -> Bench {
        let (go_on, wait) = channel();
        let (tell, in_force) = channel();
        let (report, reports) = unbounded_channel();
        let store = SlowSnapshots { go_on: Some(wait), in_force: tell };
        let writer = spawn(Box::new(store), report).unwrap();
        let meta = SnapshotMeta { stamp: Viewstamp::new(1, 9), membership: Membership::default() };
        let snapshot = Snapshot { meta, state: Bytes::new() };
        writer.jobs.send(Job::Save { snapshot, back: writer.jobs.clone() }).unwrap();
        Bench { writer, go_on, in_force, reports }
    }

    #[test]
    fn log_writes_go_on_while_a_snapshot_is_written() {
        let Bench { writer, go_on, in_force, mut reports } = bench();
        for number in 1..=100 {
            writer.jobs.send(Job::Write(Write { number, write: LogWrite::default() })).unwrap();
        }
        let mut persisted = 0;
        while persisted < 100 {
            match reports.blocking_recv().unwrap() {
                Internal::Persisted(number) => persisted = number,
                _ => panic!("nothing but writes has come to an end yet"),
            }
        }
        assert!(in_force.try_recv().is_err(), "the snapshot is still being written");
        go_on.send(Ok(())).unwrap();
        assert_eq!(in_force.recv().unwrap(), Viewstamp::new(1, 9));
        assert!(
            matches!(reports.blocking_recv(), Some(Internal::SnapshotSaved(meta)) if meta.stamp.seq == 9)
        );
        drop(writer.jobs);
        writer.thread.unwrap().join().unwrap();
    }

    #[test]
    fn the_writer_ends_only_when_the_snapshot_is_written() {
        let Bench { writer, go_on, in_force, .. } = bench();
        drop(writer.jobs);
        assert!(in_force.try_recv().is_err());
        go_on.send(Ok(())).unwrap();
        writer.thread.unwrap().join().unwrap();
        assert_eq!(in_force.recv().unwrap(), Viewstamp::new(1, 9));
    }

    #[test]
    fn a_snapshot_that_cannot_be_written_stops_the_replica() {
        let Bench { writer, go_on, mut reports, .. } = bench();
        go_on.send(Err(StoreError::thread("the disk is gone"))).unwrap();
        assert!(matches!(reports.blocking_recv(), Some(Internal::StoreFailed(_))));
        writer.thread.unwrap().join().unwrap();
        assert!(writer.jobs.send(Job::Write(Write { number: 1, write: LogWrite::default() })).is_err());
    }

    #[test]
    fn a_snapshot_whose_thread_dies_stops_the_replica() {
        let Bench { writer, go_on, mut reports, .. } = bench();
        drop(go_on); // it panics
        assert!(matches!(reports.blocking_recv(), Some(Internal::StoreFailed(_))));
        writer.thread.unwrap().join().unwrap();
    }
}
