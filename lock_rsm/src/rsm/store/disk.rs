//! The store on a real disk.

use super::files::{DirLock, Format, sync_dir};
use super::mirror::{self, Mirror};
use super::progress::Progress;
use super::reader::{Named, Reader, SNAPSHOT_VERSION, read_error, write_error};
use super::snapshots::{CHUNK_BYTES, Snapshots, chunk_count};
use super::watermark::{Mark, Watermark};
use super::{
    Identity, LogWrite, RECORD_VERSION, Recovered, STORE_DIR, SaveSnapshot, SavedSnapshot, Snapshot,
    SnapshotPiece, Store, StoreError, cluster_id, keys, log_record,
};
use crate::consensus::{Entry, HardState, Membership, Viewstamp};
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEYSPACE: &str = "replica";
/// The file with which fjall marks a complete database.
const FJALL_MARKER: &str = "version";

/// Bytes of entries per log record, so that cutting a record in two stays cheap.
const LOG_RECORD_BYTES: usize = 1 << 20;
const MEMTABLE_BYTES: u64 = 16 << 20;
const CACHE_BYTES: u64 = 4 << 20;

/// A replica's store in a directory. See the module's page for the layout.
pub struct DiskStore {
    dir: PathBuf,
    // Dropped in this order: handles into the database, the database, then the lock on the directory.
    keyspace: Keyspace,
    database: Database,
    watermark: Watermark,
    progress: Progress,
    /// What is on disk now.
    mark: Mark,
    /// The log's records: first seq to last stamp.
    records: BTreeMap<u64, Viewstamp>,
    snapshot: Option<SavedSnapshot>,
    /// The last generation given to a snapshot file.
    generation: u64,
    /// Snapshot files that the next commit makes superfluous.
    superseded: Vec<u64>,
    snapshots: Snapshots,
    format: Format,
    _lock: Arc<DirLock>,
}

impl DiskStore {
    /// Opens the directory of the replica at `address`, making it when it is new.
    ///
    /// When it is refused, all files are as they were before.
    pub fn open(dir: &Path, address: &str) -> Result<(DiskStore, Recovered), StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::io(dir, source))?;
        let lock = DirLock::take(dir)?;
        match Format::read(dir)? {
            Some(format) if format.ready => {
                let mirror = Mirror::begin(dir)?;
                match DiskStore::recover(dir, address, Arc::new(lock), format) {
                    Ok((mut store, recovered, named)) => {
                        mirror.accept()?;
                        store.tidy(named, recovered.snapshot.as_ref())?;
                        Ok((store, recovered))
                    }
                    Err(refused) => {
                        mirror.put_back()?;
                        Err(refused)
                    }
                }
            }
            _ => DiskStore::create(dir, address, Arc::new(lock)),
        }
    }

    fn create(dir: &Path, address: &str, lock: Arc<DirLock>) -> Result<(DiskStore, Recovered), StoreError> {
        let mut format = Format { cluster: None, ready: false };
        format.write(dir)?;
        // What an interrupted creation left was never acted upon.
        mirror::remove(&dir.join(STORE_DIR))?;
        let (database, keyspace) = open_database(dir)?;
        let identity = Identity { id: random_id(dir)?, address: address.to_owned() };
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&keyspace, keys::IDENTITY, seal(&identity));
        batch.insert(&keyspace, keys::HARD_STATE, seal(&HardState::default()));
        batch.commit().map_err(|error| write_error(dir, &error))?;
        let watermark = Watermark::create(dir)?;
        let progress = Progress::open(dir, Mark::default())?;
        format.ready = true;
        format.write(dir)?;
        sync_dir(dir).map_err(|source| StoreError::io(dir, source))?;
        let store = DiskStore {
            dir: dir.to_owned(),
            keyspace,
            database,
            watermark,
            progress,
            mark: Mark::default(),
            records: BTreeMap::new(),
            snapshot: None,
            generation: 0,
            superseded: Vec::new(),
            snapshots: Snapshots::of(dir, Arc::clone(&lock)),
            format,
            _lock: lock,
        };
        let recovered = Recovered {
            identity,
            founding: None,
            hard_state: HardState::default(),
            snapshot: None,
            entries: Vec::new(),
        };
        Ok((store, recovered))
    }

    /// Reads and checks everything. Nothing but the mirror in `store/` changes.
    fn recover(
        dir: &Path,
        address: &str,
        lock: Arc<DirLock>,
        format: Format,
    ) -> Result<(DiskStore, Recovered, Option<Named>), StoreError> {
        if !dir.join(STORE_DIR).join(FJALL_MARKER).is_file() {
            return Err(StoreError::damaged(dir, "its store/version is gone"));
        }
        let (database, keyspace) = open_database(dir)?;
        let snapshots = Snapshots::of(dir, Arc::clone(&lock));
        let reader = Reader { dir, keyspace: &keyspace };
        let identity = reader.identity()?;
        if identity.address != address {
            return Err(StoreError::OtherReplica {
                dir: dir.to_owned(),
                theirs: identity.address,
                mine: address.to_owned(),
            });
        }
        let hard_state = reader.hard_state()?;
        let founding = reader.founding(&format)?;
        let named = reader.snapshot()?;
        let snapshot = match &named {
            None => None,
            Some(Named::File(saved)) => Some(snapshots.read(saved)?),
            Some(Named::Pieces(saved)) => Some(reader.pieces(saved)?),
        };
        let base = snapshot.as_ref().map_or(Viewstamp::ZERO, |snapshot| snapshot.meta.stamp);
        let (records, entries) = reader.log(base)?;
        let last = entries.last().map_or(base, |entry| entry.stamp);
        let mark = Mark { hard_state, last };
        let watermark = Watermark::check(dir, &mark)?;
        if let Some(missing) = Progress::read(dir)?.and_then(|noted| noted.missing_in(&mark)) {
            return Err(StoreError::damaged(dir, format!("store/ is not what its PROGRESS says: {missing}")));
        }
        let store = DiskStore {
            dir: dir.to_owned(),
            keyspace,
            database,
            watermark,
            progress: Progress::open(dir, mark)?,
            mark,
            records,
            snapshot: None,
            generation: 0,
            superseded: Vec::new(),
            snapshots,
            format,
            _lock: lock,
        };
        Ok((store, Recovered { identity, founding, hard_state, snapshot, entries }, named))
    }

    /// After the directory was accepted: takes up its snapshot and removes what a crash left of others.
    fn tidy(&mut self, named: Option<Named>, snapshot: Option<&Snapshot>) -> Result<(), StoreError> {
        match (named, snapshot) {
            (Some(Named::File(saved)), _) => {
                self.generation = saved.generation;
                self.snapshot = Some(saved);
            }
            (Some(Named::Pieces(pieces)), Some(snapshot)) => {
                self.generation = pieces.generation;
                self.move_to_file(snapshot)?;
            }
            _ => {}
        }
        self.snapshots.remove_others(self.snapshot.as_ref().map(|saved| saved.generation))
    }

    /// Gives a snapshot that an earlier version of this program kept in the store a file.
    fn move_to_file(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let saved = self.write_file(snapshot)?;
        let mut batch = self.database.batch();
        for item in self.keyspace.prefix(keys::PIECES_PREFIX) {
            let key = item.key().map_err(|error| read_error(&self.dir, &error))?;
            batch.remove(&self.keyspace, key);
        }
        self.switch_snapshot(&mut batch, saved);
        self.commit(batch)
    }

    fn commit(&mut self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        let batch = batch.durability(Some(PersistMode::SyncData));
        batch.commit().map_err(|error| write_error(&self.dir, &error))?;
        for generation in std::mem::take(&mut self.superseded) {
            self.snapshots.remove(generation);
        }
        Ok(())
    }

    /// Commits a change of the log or the promises, keeping watermark and progress at or below what is on disk.
    fn commit_log(&mut self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        self.mark.last = self.last();
        self.watermark.lower(self.mark.last)?;
        self.progress.lower(self.mark.last)?;
        self.commit(batch)?;
        self.progress.note(self.mark)
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn write_file(&mut self, snapshot: &Snapshot) -> Result<SavedSnapshot, StoreError> {
        let generation = self.next_generation();
        self.snapshots.write(generation, snapshot)
    }

    /// Puts the change of snapshot into `batch`.
    fn switch_snapshot(&mut self, batch: &mut OwnedWriteBatch, saved: SavedSnapshot) {
        let record = rpc::record::seal(SNAPSHOT_VERSION, &rpc::codec::encode(&saved));
        batch.insert(&self.keyspace, keys::SNAPSHOT, record);
        self.superseded.extend(self.snapshot.replace(saved).map(|old| old.generation));
    }

    /// Puts the dropping of the log up to `upto` into `batch`. A record that reaches further stays whole: opening skips
    /// what the snapshot covers.
    fn drop_log_upto(&mut self, batch: &mut OwnedWriteBatch, upto: u64) {
        let covered: Vec<u64> =
            self.records.iter().take_while(|(_, last)| last.seq <= upto).map(|(first, _)| *first).collect();
        for first in covered {
            self.records.remove(&first);
            batch.remove(&self.keyspace, keys::log(first));
        }
    }

    /// Puts the dropping of the log from `from` on into `batch`, cutting the record in which it falls.
    fn drop_log_from(&mut self, batch: &mut OwnedWriteBatch, from: u64) -> Result<(), StoreError> {
        for first in self.records.split_off(&from).into_keys() {
            batch.remove(&self.keyspace, keys::log(first));
        }
        let Some((first, last)) = self.records.last_key_value().map(|(first, last)| (*first, *last)) else {
            return Ok(());
        };
        if last.seq < from {
            return Ok(());
        }
        let mut entries = Reader { dir: &self.dir, keyspace: &self.keyspace }.log_record(first)?;
        entries.retain(|entry| entry.stamp.seq < from);
        self.insert_record(batch, &entries);
        Ok(())
    }

    fn insert_record(&mut self, batch: &mut OwnedWriteBatch, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let value = rpc::record::seal(RECORD_VERSION, &log_record::encode(entries));
        batch.insert(&self.keyspace, keys::log(first.stamp.seq), value);
        self.records.insert(first.stamp.seq, last.stamp);
    }

    fn append(&mut self, batch: &mut OwnedWriteBatch, entries: &[Entry]) {
        let mut rest = entries;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|entry| {
                bytes += entry.size_bytes();
                bytes <= LOG_RECORD_BYTES
            });
            let (record, after) = rest.split_at(fits.count().max(1));
            self.insert_record(batch, record);
            rest = after;
        }
    }

    /// The stamp at which the log ends.
    fn last(&self) -> Viewstamp {
        let base = self.snapshot.as_ref().map_or(Viewstamp::ZERO, |saved| saved.meta.stamp);
        match self.records.last_key_value() {
            Some((_, last)) if last.seq > base.seq => *last,
            _ => base,
        }
    }

    fn install(
        &mut self,
        batch: &mut OwnedWriteBatch,
        snapshot: &Snapshot,
        discard_log: bool,
    ) -> Result<(), StoreError> {
        let saved = self.write_file(snapshot)?;
        if discard_log {
            self.drop_log_from(batch, 0)?;
        } else {
            self.drop_log_upto(batch, snapshot.meta.stamp.seq);
        }
        self.switch_snapshot(batch, saved);
        Ok(())
    }
}

impl Store for DiskStore {
    fn write(&mut self, batches: Vec<LogWrite>) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        let mut pending: Vec<Entry> = Vec::new();
        for write in batches {
            if write.install.is_some() || write.truncate_from.is_some() {
                // Cutting a record reads it back, so what was put into the batch must be in the store first.
                self.append(&mut batch, &std::mem::take(&mut pending));
                self.commit_log(std::mem::replace(&mut batch, self.database.batch()))?;
            }
            if let Some(hard_state) = write.hard_state {
                self.mark.hard_state = hard_state;
                batch.insert(&self.keyspace, keys::HARD_STATE, seal(&hard_state));
            }
            if let Some((snapshot, discard_log)) = &write.install {
                self.install(&mut batch, snapshot, *discard_log)?;
            }
            if let Some(from) = write.truncate_from {
                self.drop_log_from(&mut batch, from)?;
            }
            pending.extend(write.append);
        }
        self.append(&mut batch, &pending);
        self.commit_log(batch)
    }

    fn form(&mut self, founding: &Membership) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        batch.insert(&self.keyspace, keys::FOUNDING, seal(&founding.members));
        self.commit(batch)?;
        self.format.cluster = Some(cluster_id(founding));
        self.format.write(&self.dir)
    }

    fn save_snapshot(&mut self, snapshot: Snapshot) -> SaveSnapshot {
        let (snapshots, generation) = (self.snapshots.clone(), self.next_generation());
        Box::new(move || snapshots.write(generation, &snapshot))
    }

    fn snapshot_saved(&mut self, saved: SavedSnapshot) -> Result<(), StoreError> {
        if self.snapshot.as_ref().is_some_and(|current| current.meta.stamp.seq >= saved.meta.stamp.seq) {
            // One received from the master overtook it.
            self.snapshots.remove(saved.generation);
            return Ok(());
        }
        let mut batch = self.database.batch();
        self.drop_log_upto(&mut batch, saved.meta.stamp.seq);
        self.switch_snapshot(&mut batch, saved);
        self.commit(batch)
    }

    fn snapshot_piece(
        &mut self,
        stamp: Option<Viewstamp>,
        offset: u64,
    ) -> Result<Option<SnapshotPiece>, StoreError> {
        let Some(saved) = &self.snapshot else { return Ok(None) };
        let offset = if stamp == Some(saved.meta.stamp) { offset.min(saved.len) } else { 0 };
        let data = if saved.len == 0 {
            Bytes::new()
        } else {
            let index = (offset / CHUNK_BYTES as u64).min(chunk_count(saved.len) - 1);
            let chunk = self.snapshots.chunk(saved, index)?;
            let start = usize::try_from(offset - index * CHUNK_BYTES as u64).expect("within the piece");
            chunk.slice(start.min(chunk.len())..)
        };
        let done = offset + data.len() as u64 == saved.len;
        Ok(Some(SnapshotPiece { meta: saved.meta.clone(), offset, data, done }))
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.watermark.raise(self.mark)
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.watermark.write_now(self.mark)
    }
}

fn seal<T: Serialize>(value: &T) -> Vec<u8> {
    rpc::record::seal(RECORD_VERSION, &rpc::codec::encode(value))
}

fn random_id(dir: &Path) -> Result<u64, StoreError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| StoreError::io(dir, std::io::Error::other(format!("no randomness: {error}"))))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// Opens fjall's part. Damaged files may make it panic as well as fail, and both are told the same way.
fn open_database(dir: &Path) -> Result<(Database, Keyspace), StoreError> {
    let open = || -> fjall::Result<(Database, Keyspace)> {
        let database =
            Database::builder(dir.join(STORE_DIR)).worker_threads(1).cache_size(CACHE_BYTES).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = database.keyspace(KEYSPACE, options)?;
        Ok((database, keyspace))
    };
    match rpc::quiet::catch_quietly(open) {
        Ok(opened) => opened.map_err(|error| read_error(dir, &error)),
        Err(said) => {
            tracing::debug!("{}: opening the store panicked: {said}", dir.display());
            Err(StoreError::damaged(dir, "its store/ is inconsistent"))
        }
    }
}
