//! The embedded LSM store: sealed records in one ordered tree.

use super::chunk::{CHUNK_BLOCKS, Crcs};
use super::steps::{chunk_key, describe, object_prefix, parse_chunk_key, space};
use crate::error::{StoreError, is_no_space};
use crate::types::ObjectId;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use std::ops::Bound;
use std::path::Path;

const TREE: &str = "extents";
const RECORD_VERSION: u8 = 1;
const CACHE_BYTES: u64 = 64 << 20;
const FILES_MAX: usize = 256;
const MEMTABLE_BYTES: u64 = 32 << 20;

/// The tree.
pub(crate) struct Kv {
    db: Database,
    tree: Keyspace,
}

/// A record found, intact or not, under its stored key.
pub(crate) type Examined = (Vec<u8>, Result<Bytes, StoreError>);

/// A record found, still under its stored key.
pub(crate) type Entry = (Vec<u8>, Bytes);

impl Kv {
    /// Opens the tree, or creates it where `create` says so.
    pub(crate) fn open(path: &Path, create: bool) -> Result<Kv, String> {
        let open = || -> fjall::Result<Option<Kv>> {
            // The log holds sealed records, most of them small or incompressible: compressing it costs latency for nothing.
            let db = Database::builder(path)
                .cache_size(CACHE_BYTES)
                .max_cached_files(Some(FILES_MAX))
                .journal_compression(fjall::CompressionType::None)
                .open()?;
            if !create && !db.keyspace_exists(TREE) {
                return Ok(None);
            }
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let tree = db.keyspace(TREE, options)?;
            Ok(Some(Kv { db, tree }))
        };
        // The store's recovery asserts some of its invariants: damage may show as a panic.
        match rpc::quiet::catch_quietly(open) {
            Ok(Ok(Some(kv))) => Ok(kv),
            Ok(Ok(None)) => Err("its records are missing".to_string()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(said) => Err(format!("its recovery found an inconsistency: {}", said.replace('\n', " "))),
        }
    }

    /// Whether the store under us has given up, as it does when its background work fails.
    pub(crate) fn probe(&self) -> Result<(), String> {
        self.db.persist(PersistMode::Buffer).map_err(|e| e.to_string())
    }

    /// The body of the record at `raw`.
    pub(crate) fn get(&self, raw: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.tree.get(raw) {
            Ok(Some(sealed)) => unseal(raw, &sealed).map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(read_error(&describe(raw), &e)),
        }
    }

    /// All of it as of one moment, for as long as that is kept.
    pub(crate) fn snapshot(&self) -> fjall::Snapshot {
        self.db.snapshot()
    }

    /// The records of a snapshot with `from <= key < to`, ascending. A body that fails its checksum is an error beside
    /// its key; an error alone says that the tree itself cannot be read there.
    pub(crate) fn walk(
        &self,
        snapshot: &fjall::Snapshot,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<Examined, StoreError>> + use<> {
        assert!(from < to, "an empty range would make the tree panic");
        let what = format!("records from {}", describe(from));
        let range = (Bound::Included(from), Bound::Excluded(to));
        snapshot.range::<&[u8], _>(&self.tree, range).map(move |guard| {
            let (key, sealed) = guard.into_inner().map_err(|e| read_error(&what, &e))?;
            let body = unseal(&key, &sealed);
            Ok((key.to_vec(), body))
        })
    }

    /// The bodies at several keys, as of one moment.
    pub(crate) fn view(&self) -> View<'_> {
        View { tree: &self.tree, snapshot: self.db.snapshot() }
    }

    /// The checksums of a chunk; none if there is no record.
    pub(crate) fn crcs(&self, object: ObjectId, chunk: u64) -> Result<Crcs, StoreError> {
        let raw = chunk_key(space::CRCS, object, chunk);
        self.get(&raw)?.map_or(Ok(Crcs::default()), |body| decode_crcs(&raw, &body))
    }

    /// Whether any checksum of `object` is stored.
    pub(crate) fn has_object(&self, object: ObjectId) -> Result<bool, StoreError> {
        let prefix = object_prefix(space::CRCS, object);
        let first = self.tree.prefix(&prefix).next().map(fjall::Guard::key).transpose();
        first.map(|found| found.is_some()).map_err(|e| read_error(&describe(&prefix), &e))
    }

    /// One past the last block of `object` that has a checksum; 0 if none has.
    pub(crate) fn end_of_object(&self, object: ObjectId) -> Result<u64, StoreError> {
        let prefix = object_prefix(space::CRCS, object);
        let Some(last) = self.tree.prefix(&prefix).next_back() else { return Ok(0) };
        let (raw, sealed) = last.into_inner().map_err(|e| read_error(&describe(&prefix), &e))?;
        let present = decode_crcs(&raw, &unseal(&raw, &sealed)?)?.present();
        let chunk = parse_chunk_key(&raw).map_or(0, |(_, chunk)| chunk);
        Ok(chunk * CHUNK_BLOCKS + u64::from(64 - present.leading_zeros()))
    }

    /// The stored keys that start with `prefix`.
    pub(crate) fn keys(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> {
        let what = format!("records from {}", describe(prefix));
        self.tree.prefix(prefix).map(move |g| g.key().map(|k| k.to_vec()).map_err(|e| read_error(&what, &e)))
    }

    /// The records whose stored keys start with `prefix`.
    pub(crate) fn entries(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        entries(self.tree.prefix(prefix), describe(prefix))
    }

    /// Writes records (and removes those without a body) as one batch, and syncs it. An error leaves the disk in doubt.
    pub(crate) fn write<'a>(
        &self,
        records: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<(), String> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for (raw, body) in records {
            match body {
                Some(body) => batch.insert(&self.tree, raw, rpc::record::seal(RECORD_VERSION, body)),
                None => batch.remove(&self.tree, raw),
            }
        }
        batch.commit().map_err(|e| match &e {
            fjall::Error::Io(e) if is_no_space(e) => "no space left for its log".to_string(),
            _ => format!("its log cannot be written: {e}"),
        })
    }
}

/// The tree as of one moment.
pub(crate) struct View<'a> {
    tree: &'a Keyspace,
    snapshot: fjall::Snapshot,
}

impl View<'_> {
    /// The body of the record at `raw`.
    pub(crate) fn get(&self, raw: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.snapshot.get(self.tree, raw) {
            Ok(Some(sealed)) => unseal(raw, &sealed).map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(read_error(&describe(raw), &e)),
        }
    }

    /// The records with `from <= key < to`, ascending.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        assert!(from < to, "an empty range would make the tree panic");
        entries(self.snapshot.range::<&[u8], _>(self.tree, range), describe(from))
    }
}

fn entries(iter: fjall::Iter, from: String) -> impl Iterator<Item = Result<Entry, StoreError>> {
    let mut last = format!("records from {from}");
    iter.map(move |guard| {
        let (key, sealed) = guard.into_inner().map_err(|e| read_error(&last, &e))?;
        last = format!("records after {}", describe(&key));
        let body = unseal(&key, &sealed)?;
        Ok((key.to_vec(), body))
    })
}

/// What a chunk's record says.
pub(crate) fn decode_crcs(raw: &[u8], body: &[u8]) -> Result<Crcs, StoreError> {
    Crcs::decode(body).ok_or_else(|| StoreError::Corrupt { what: format!("{}: wrong length", describe(raw)) })
}

/// What a record of marks says.
pub(crate) fn decode_marks(raw: &[u8], body: &[u8]) -> Result<u64, StoreError> {
    let bits = body.try_into().map(u64::from_le_bytes);
    bits.map_err(|_| StoreError::Corrupt { what: format!("{}: wrong length", describe(raw)) })
}

fn unseal(raw: &[u8], sealed: &[u8]) -> Result<Bytes, StoreError> {
    match rpc::record::open(sealed) {
        Ok((RECORD_VERSION, body)) => Ok(Bytes::copy_from_slice(body)),
        Ok((version, _)) => {
            Err(StoreError::Corrupt { what: format!("{}: record version {version}", describe(raw)) })
        }
        Err(e) => Err(StoreError::Corrupt { what: format!("{}: {e}", describe(raw)) }),
    }
}

/// The tree checks its own blocks, so that anything but an error of the system is damage.
fn read_error(what: &str, e: &fjall::Error) -> StoreError {
    match e {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io))
            if io.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Io { what: format!("{what}: {io}") }
        }
        _ => StoreError::Corrupt { what: format!("{what}: {e}") },
    }
}
