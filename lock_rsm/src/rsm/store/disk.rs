//! The store on a real disk.

use super::files::{DirLock, Format, sync_dir};
use super::log_record;
use super::watermark::{Mark, Watermark};
use super::{Identity, LogWrite, Recovered, Snapshot, SnapshotPiece, Store, StoreError};
use crate::consensus::{Entry, HardState, Membership, SnapshotMeta, Viewstamp};
use crate::rsm::state::state_hash;
use bytes::{Bytes, BytesMut};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const RECORD_VERSION: u8 = 1;
const KEYSPACE: &str = "replica";
const STORE_DIR: &str = "store";
/// The file with which fjall marks a complete database.
const FJALL_MARKER: &str = "version";

const IDENTITY: &[u8] = b"i";
const FOUNDING: &[u8] = b"f";
const HARD_STATE: &[u8] = b"h";
const SNAPSHOT: &[u8] = b"s";

/// Bytes of a snapshot per record, and per piece sent to a slave.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
/// Bytes of entries per log record, so that cutting a record in two stays cheap.
const LOG_RECORD_BYTES: usize = 1 << 20;
const MEMTABLE_BYTES: u64 = 16 << 20;
const CACHE_BYTES: u64 = 4 << 20;

/// The stored description of a snapshot; its bytes lie in the chunks of its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SnapshotRecord {
    meta: SnapshotMeta,
    generation: u64,
    len: u64,
    hash: u64,
}

/// A replica's store in a directory. See the module's page for the layout.
pub struct DiskStore {
    dir: PathBuf,
    // Dropped in this order: handles into the database, the database, then the lock on the directory.
    keyspace: Keyspace,
    database: Database,
    watermark: Watermark,
    /// What is on disk now.
    mark: Mark,
    /// The log's records: first seq to last stamp.
    records: BTreeMap<u64, Viewstamp>,
    snapshot: Option<SnapshotRecord>,
    format: Format,
    _lock: DirLock,
}

impl DiskStore {
    /// Opens the directory of the replica at `address`, making it when it is new.
    pub fn open(dir: &Path, address: &str) -> Result<(DiskStore, Recovered), StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::io(dir, source))?;
        let lock = DirLock::take(dir)?;
        match Format::read(dir)? {
            Some(format) if format.ready => DiskStore::recover(dir, address, lock, format),
            _ => DiskStore::create(dir, address, lock),
        }
    }

    fn create(dir: &Path, address: &str, lock: DirLock) -> Result<(DiskStore, Recovered), StoreError> {
        let mut format = Format { cluster: None, ready: false };
        format.write(dir)?;
        // What an interrupted creation left was never acted upon.
        match std::fs::remove_dir_all(dir.join(STORE_DIR)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io(&dir.join(STORE_DIR), error));
            }
            _ => {}
        }
        let (database, keyspace) = open_database(dir)?;
        let identity = Identity { id: random_id(dir)?, address: address.to_owned() };
        let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&keyspace, IDENTITY, seal(&identity));
        batch.insert(&keyspace, HARD_STATE, seal(&HardState::default()));
        batch.commit().map_err(|error| write_error(dir, &error))?;
        let watermark = Watermark::create(dir)?;
        format.ready = true;
        format.write(dir)?;
        sync_dir(dir).map_err(|source| StoreError::io(dir, source))?;
        let store = DiskStore {
            dir: dir.to_owned(),
            keyspace,
            database,
            watermark,
            mark: Mark::default(),
            records: BTreeMap::new(),
            snapshot: None,
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

    fn recover(
        dir: &Path,
        address: &str,
        lock: DirLock,
        format: Format,
    ) -> Result<(DiskStore, Recovered), StoreError> {
        if !dir.join(STORE_DIR).join(FJALL_MARKER).is_file() {
            return Err(StoreError::damaged(dir, "its store is gone"));
        }
        let (database, keyspace) = open_database(dir)?;
        let reader = Reader { dir, keyspace: &keyspace };
        let identity: Identity = reader.must(IDENTITY, "identity")?;
        if identity.address != address {
            return Err(StoreError::OtherReplica {
                dir: dir.to_owned(),
                theirs: identity.address,
                mine: address.to_owned(),
            });
        }
        let hard_state: HardState = reader.must(HARD_STATE, "promises")?;
        let founding = reader.founding(&format)?;
        let record: Option<SnapshotRecord> = reader.get(SNAPSHOT, "snapshot")?;
        let snapshot = record.as_ref().map(|record| reader.snapshot(record)).transpose()?;
        let base = snapshot.as_ref().map_or(Viewstamp::ZERO, |snapshot| snapshot.meta.stamp);
        let (records, entries) = reader.log(base)?;
        let last = entries.last().map_or(base, |entry| entry.stamp);
        let mark = Mark { hard_state, last };
        let watermark = Watermark::check(dir, &mark)?;
        let mut store = DiskStore {
            dir: dir.to_owned(),
            keyspace,
            database,
            watermark,
            mark,
            records,
            snapshot: record,
            format,
            _lock: lock,
        };
        store.drop_stale_chunks()?;
        Ok((store, Recovered { identity, founding, hard_state, snapshot, entries }))
    }

    fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        batch.durability(Some(PersistMode::SyncData)).commit().map_err(|error| write_error(&self.dir, &error))
    }

    /// Commits a change of the log or the promises, keeping the watermark at or below what is on disk.
    fn commit_log(&mut self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        self.mark.last = self.last();
        self.watermark.lower(self.mark.last)?;
        self.commit(batch)
    }

    /// Chunks of a generation that never became, or no longer is, the snapshot: left by a crash.
    fn drop_stale_chunks(&mut self) -> Result<(), StoreError> {
        let current = self.snapshot.as_ref().map(|record| record.generation);
        let mut batch = self.batch();
        for item in self.keyspace.prefix(b"c") {
            let key = item.key().map_err(|error| open_error(&self.dir, &error))?;
            let generation =
                key.get(1..9).map(|bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes")));
            if generation != current {
                batch.remove(&self.keyspace, key);
            }
        }
        self.commit(batch)
    }

    /// Writes a snapshot's bytes under a new generation. It becomes the snapshot with the batch that names it.
    fn write_chunks(&self, snapshot: &Snapshot) -> Result<SnapshotRecord, StoreError> {
        let generation = self.snapshot.as_ref().map_or(1, |record| record.generation + 1);
        for (index, chunk) in (0..).zip(snapshot.state.chunks(CHUNK_BYTES)) {
            let value = rpc::record::seal(RECORD_VERSION, chunk);
            self.keyspace
                .insert(chunk_key(generation, index), value)
                .map_err(|error| write_error(&self.dir, &error))?;
        }
        Ok(SnapshotRecord {
            meta: snapshot.meta.clone(),
            generation,
            len: snapshot.state.len() as u64,
            hash: state_hash(&snapshot.state),
        })
    }

    /// Puts the change of snapshot into `batch`: names the new one, removes the old one's chunks.
    fn switch_snapshot(&mut self, batch: &mut OwnedWriteBatch, record: SnapshotRecord) {
        if let Some(old) = &self.snapshot {
            for index in 0..chunk_count(old.len) {
                batch.remove(&self.keyspace, chunk_key(old.generation, index));
            }
        }
        batch.insert(&self.keyspace, SNAPSHOT, seal(&record));
        self.snapshot = Some(record);
    }

    /// Puts the dropping of the log up to `upto` into `batch`. A record that reaches further stays whole: opening skips
    /// what the snapshot covers.
    fn drop_log_upto(&mut self, batch: &mut OwnedWriteBatch, upto: u64) {
        let covered: Vec<u64> =
            self.records.iter().take_while(|(_, last)| last.seq <= upto).map(|(first, _)| *first).collect();
        for first in covered {
            self.records.remove(&first);
            batch.remove(&self.keyspace, log_key(first));
        }
    }

    /// Puts the dropping of the log from `from` on into `batch`, cutting the record in which it falls.
    fn drop_log_from(&mut self, batch: &mut OwnedWriteBatch, from: u64) -> Result<(), StoreError> {
        for first in self.records.split_off(&from).into_keys() {
            batch.remove(&self.keyspace, log_key(first));
        }
        let Some((first, last)) = self.records.last_key_value().map(|(first, last)| (*first, *last)) else {
            return Ok(());
        };
        if last.seq < from {
            return Ok(());
        }
        let reader = Reader { dir: &self.dir, keyspace: &self.keyspace };
        let mut entries = reader.log_record(&log_key(first))?;
        entries.retain(|entry| entry.stamp.seq < from);
        self.insert_record(batch, &entries);
        Ok(())
    }

    fn insert_record(&mut self, batch: &mut OwnedWriteBatch, entries: &[Entry]) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let value = rpc::record::seal(RECORD_VERSION, &log_record::encode(entries));
        batch.insert(&self.keyspace, log_key(first.stamp.seq), value);
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
        let base = self.snapshot.as_ref().map_or(Viewstamp::ZERO, |record| record.meta.stamp);
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
        let record = self.write_chunks(snapshot)?;
        if discard_log {
            self.drop_log_from(batch, 0)?;
        } else {
            self.drop_log_upto(batch, snapshot.meta.stamp.seq);
        }
        self.switch_snapshot(batch, record);
        Ok(())
    }
}

impl Store for DiskStore {
    fn write(&mut self, batches: Vec<LogWrite>) -> Result<(), StoreError> {
        let mut batch = self.batch();
        let mut pending: Vec<Entry> = Vec::new();
        for write in batches {
            if let Some(hard_state) = write.hard_state {
                self.mark.hard_state = hard_state;
                batch.insert(&self.keyspace, HARD_STATE, seal(&hard_state));
            }
            if write.install.is_some() || write.truncate_from.is_some() {
                // Cutting a record reads it back, so what was put into the batch must be in the store first.
                self.append(&mut batch, &std::mem::take(&mut pending));
                self.commit_log(std::mem::replace(&mut batch, self.database.batch()))?;
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
        let mut batch = self.batch();
        batch.insert(&self.keyspace, FOUNDING, seal(founding));
        self.commit(batch)?;
        self.format.cluster = Some(cluster_id(founding));
        self.format.write(&self.dir)
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let newer =
            self.snapshot.as_ref().is_some_and(|record| record.meta.stamp.seq >= snapshot.meta.stamp.seq);
        if newer {
            // One received from the master overtook it.
            return Ok(());
        }
        let record = self.write_chunks(snapshot)?;
        let mut batch = self.batch();
        self.drop_log_upto(&mut batch, snapshot.meta.stamp.seq);
        self.switch_snapshot(&mut batch, record);
        self.commit(batch)
    }

    fn snapshot_piece(
        &mut self,
        stamp: Option<Viewstamp>,
        offset: u64,
    ) -> Result<Option<SnapshotPiece>, StoreError> {
        let Some(record) = &self.snapshot else { return Ok(None) };
        let offset = if stamp == Some(record.meta.stamp) { offset.min(record.len) } else { 0 };
        let reader = Reader { dir: &self.dir, keyspace: &self.keyspace };
        let data = if record.len == 0 {
            Bytes::new()
        } else {
            let index = u32::try_from(offset / CHUNK_BYTES as u64).expect("snapshots are far below 2 PiB");
            let chunk = reader.chunk(record.generation, index.min(chunk_count(record.len) - 1))?;
            let start = usize::try_from(offset).expect("64-bit") - index as usize * CHUNK_BYTES;
            chunk.slice(start.min(chunk.len())..)
        };
        let done = offset + data.len() as u64 == record.len;
        Ok(Some(SnapshotPiece { meta: record.meta.clone(), offset, data, done }))
    }

    fn mark(&mut self) -> Result<(), StoreError> {
        self.watermark.raise(self.mark)
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.watermark.write_now(self.mark)
    }
}

/// Reads sealed records.
struct Reader<'a> {
    dir: &'a Path,
    keyspace: &'a Keyspace,
}

impl Reader<'_> {
    fn bytes(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.keyspace.get(key).map_err(|error| open_error(self.dir, &error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn open(&self, value: &Bytes, what: &str) -> Result<Bytes, StoreError> {
        match rpc::record::open(value) {
            Ok((RECORD_VERSION, body)) => Ok(value.slice_ref(body)),
            Ok((version, _)) => Err(StoreError::Version {
                dir: self.dir.to_owned(),
                found: format!("{version} (of its {what} record)"),
            }),
            Err(error) => {
                Err(StoreError::damaged(self.dir, format!("its {what} record is broken ({error})")))
            }
        }
    }

    fn get<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<Option<T>, StoreError> {
        let Some(value) = self.bytes(key)? else { return Ok(None) };
        let body = self.open(&value, what)?;
        let record = rpc::codec::decode(&body).map_err(|error| {
            StoreError::damaged(self.dir, format!("its {what} record is broken ({error})"))
        })?;
        Ok(Some(record))
    }

    fn must<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<T, StoreError> {
        self.get(key, what)?
            .ok_or_else(|| StoreError::damaged(self.dir, format!("its {what} record is gone")))
    }

    /// The founding membership; FORMAT and the store must agree on it. FORMAT may lag by the crash between the two writes.
    fn founding(&self, format: &Format) -> Result<Option<Membership>, StoreError> {
        let founding: Option<Membership> = self.get(FOUNDING, "membership")?;
        if format.cluster.is_some() && format.cluster != founding.as_ref().map(cluster_id) {
            return Err(StoreError::damaged(
                self.dir,
                "its store belongs to another group than its FORMAT file",
            ));
        }
        Ok(founding)
    }

    fn chunk(&self, generation: u64, index: u32) -> Result<Bytes, StoreError> {
        let value = self
            .bytes(&chunk_key(generation, index))?
            .ok_or_else(|| StoreError::damaged(self.dir, "a piece of its snapshot is gone"))?;
        self.open(&value, "snapshot")
    }

    fn snapshot(&self, record: &SnapshotRecord) -> Result<Snapshot, StoreError> {
        let mut state = BytesMut::new();
        for index in 0..chunk_count(record.len) {
            state.extend_from_slice(&self.chunk(record.generation, index)?);
        }
        if state.len() as u64 != record.len || state_hash(&state) != record.hash {
            return Err(StoreError::damaged(self.dir, "its snapshot is not as it was written"));
        }
        Ok(Snapshot { meta: record.meta.clone(), state: state.freeze() })
    }

    fn log_record(&self, key: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let value = self.bytes(key)?.ok_or_else(|| StoreError::damaged(self.dir, "a log record is gone"))?;
        self.decode_log_record(&value)
    }

    fn decode_log_record(&self, value: &Bytes) -> Result<Vec<Entry>, StoreError> {
        let body = self.open(value, "log")?;
        log_record::decode(body)
            .ok_or_else(|| StoreError::damaged(self.dir, "a log record is not a run of entries"))
    }

    /// The log's records, and the entries after `base`.
    fn log(&self, base: Viewstamp) -> Result<(BTreeMap<u64, Viewstamp>, Vec<Entry>), StoreError> {
        let mut records = BTreeMap::new();
        let mut entries: Vec<Entry> = Vec::new();
        for item in self.keyspace.prefix(b"e") {
            let (key, value) = item.into_inner().map_err(|error| open_error(self.dir, &error))?;
            let run = self.decode_log_record(&Bytes::copy_from_slice(&value))?;
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                return Err(StoreError::damaged(self.dir, "a log record is empty"));
            };
            if key != log_key(first.stamp.seq) {
                return Err(StoreError::damaged(self.dir, "a log record is not where it belongs"));
            }
            records.insert(first.stamp.seq, last.stamp);
            for entry in run.into_iter().filter(|entry| entry.stamp.seq > base.seq) {
                let before = entries.last().map_or(base, |last| last.stamp);
                if entry.stamp.seq != before.seq + 1 {
                    let hole = format!("its log has a hole between {before} and {}", entry.stamp);
                    return Err(StoreError::damaged(self.dir, hole));
                }
                entries.push(entry);
            }
        }
        Ok((records, entries))
    }
}

fn log_key(first: u64) -> [u8; 9] {
    let mut key = [b'e'; 9];
    key[1..].copy_from_slice(&first.to_be_bytes());
    key
}

fn chunk_key(generation: u64, index: u32) -> [u8; 13] {
    let mut key = [b'c'; 13];
    key[1..9].copy_from_slice(&generation.to_be_bytes());
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

fn chunk_count(len: u64) -> u32 {
    u32::try_from(len.div_ceil(CHUNK_BYTES as u64)).expect("snapshots are far below 2 PiB")
}

/// A group is named by the members that founded it: their identities are random.
pub(in crate::rsm) fn cluster_id(founding: &Membership) -> u64 {
    state_hash(&rpc::codec::encode(founding))
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
        Ok(opened) => opened.map_err(|error| open_error(dir, &error)),
        Err(said) => {
            tracing::debug!("{}: opening the store panicked: {said}", dir.display());
            Err(StoreError::damaged(dir, "its store is inconsistent"))
        }
    }
}

/// What fjall says while reading, in our words.
fn open_error(dir: &Path, error: &fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::InUse { dir: dir.to_owned() },
        fjall::Error::InvalidVersion(_) => StoreError::damaged(dir, "its store has an unreadable version"),
        fjall::Error::Io(source) => StoreError::io(
            &dir.join(STORE_DIR),
            source.raw_os_error().map_or_else(
                || std::io::Error::new(source.kind(), source.to_string()),
                std::io::Error::from_raw_os_error,
            ),
        ),
        other => StoreError::damaged(dir, format!("its store cannot be read ({other:?})")),
    }
}

fn write_error(dir: &Path, error: &fjall::Error) -> StoreError {
    StoreError::Write { dir: dir.to_owned(), what: error.to_string() }
}
