//! A replica whose disk fails stops, says why, and is not missed.

#![allow(clippy::unwrap_used, reason = "test code")]

mod rsm_support;

use lock_rsm::consensus::{Membership, Viewstamp};
use lock_rsm::rsm::{
    DiskStore, LogWrite, Replica, ReplicaOptions, RsmClient, RsmClientOptions, SaveSnapshot, SavedSnapshot,
    Snapshot, SnapshotPiece, Store, StoreError,
};
use rpc::{ServerBuilder, ServerOptions};
use rsm_support::{ADD, Counter, PATIENCE, free_addresses, start_replica};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that refuses every write from some moment on.
struct FailingDisk {
    disk: DiskStore,
    dir: PathBuf,
    broken: Arc<AtomicBool>,
}

impl FailingDisk {
    fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Write { dir: self.dir.clone(), what: "the disk is gone".into() });
        }
        Ok(())
    }
}

impl Store for FailingDisk {
    fn write(&mut self, batches: Vec<LogWrite>) -> Result<(), StoreError> {
        self.check()?;
        self.disk.write(batches)
    }
    fn form(&mut self, founding: &Membership) -> Result<(), StoreError> {
        self.disk.form(founding)
    }
    fn save_snapshot(&mut self, snapshot: Snapshot) -> SaveSnapshot {
        self.disk.save_snapshot(snapshot)
    }
    fn snapshot_saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError> {
        self.check()?;
        self.disk.snapshot_saved(saved)
    }
    fn snapshot_piece(
        &mut self,
        stamp: Option<Viewstamp>,
        offset: u64,
    ) -> Result<Option<SnapshotPiece>, StoreError> {
        self.disk.snapshot_piece(stamp, offset)
    }
    fn mark(&mut self) -> Result<(), StoreError> {
        self.disk.mark()
    }
    fn settle(&mut self) -> Result<(), StoreError> {
        self.disk.settle()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_whose_disk_fails_stops_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses(3);
    let options = |i: usize| {
        ReplicaOptions::new(&addresses[0], &addresses[i], &addresses, dir.path().join(i.to_string()))
    };
    let broken = Arc::new(AtomicBool::new(false));
    let (disk, recovered) = DiskStore::open(&options(0).data, &addresses[0]).unwrap();
    let store = FailingDisk { disk, dir: options(0).data, broken: Arc::clone(&broken) };
    let counter = Arc::new(Counter::default());
    let server = ServerBuilder::new(ServerOptions::default());
    let (first, second, third) = tokio::join!(
        Replica::start_on(options(0), counter, server, Box::new(store), recovered),
        start_replica(options(1)),
        start_replica(options(2)),
    );
    let (first, (_second, _), (_third, _)) = (first.unwrap(), second.unwrap(), third.unwrap());

    let client = RsmClient::connect(&addresses, RsmClientOptions::default()).await.unwrap();
    assert_eq!(client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap(), 1);
    broken.store(true, Ordering::Relaxed);
    for sum in 2..=10u64 {
        assert_eq!(client.invoke::<_, u64>(ADD, &1u64, PATIENCE).await.unwrap(), sum);
    }
    let why = first.ended().await.unwrap_err().to_string();
    assert!(why.contains("the disk is gone") && why.contains("/0 failed"), "{why}");
    assert!(!first.am_master());
}
