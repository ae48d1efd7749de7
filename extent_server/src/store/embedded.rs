//! The default engine: an embedded LSM store and one sparse file per bulk object, in one data directory.
//!
//! ```text
//! DATA/FORMAT     kind, version, identity          DATA/kv/        the LSM store: keys, checksums, marks, fences
//! DATA/LOCK       held while a process uses it     DATA/objects/   backing files of bulk objects
//! DATA/WATERMARK  last group of commits on disk
//! ```

use super::apply::{Applier, Counters};
use super::blocks::Bulk;
use super::fences::Fences;
use super::health::Health;
use super::kv::Kv;
use super::objects::{Objects, sync_directory};
use super::probe::Probe;
use super::session_order::SessionOrder;
use super::snapshots::Snapshots;
use super::space::Space;
use super::steps::{IDENTITY, SEQUENCE, Step, parse_fence_key, space, user_key};
use super::watermark::Watermark;
use super::{Scanned, Store, StoreFuture, VerifyReport, journal, recovery};
use crate::error::StoreError;
use crate::format::{DataDir, FormatError, Found};
use crate::group_commit::{Batch, GroupCommit};
use crate::protocol::{check_keys, check_objects, check_ops};
use crate::survey::{BlocksChecked, KeysPage, ObjectsPage};
use crate::types::{BootId, ExtentStatus, Key, ObjectId, Op, StatFs, Value};
use bytes::Bytes;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const KV: &str = "kv";
const OBJECTS: &str = "objects";
const WATERMARK: &str = "WATERMARK";

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of the file system to keep free; `None` for a sixteenth of it, within 16 and 256 MiB.
    pub reserve: Option<u64>,
    /// About how many backing files to keep open.
    pub files_max: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { reserve: None, files_max: 512 }
    }
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not ours, not this version's, or in use.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Something in it is damaged or missing.
    #[error("the extent store in {} is damaged: {what}; restore it from a backup", dir.display())]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// What is.
        what: String,
    },
    /// The system refused.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A [`Store`] in a directory.
pub struct EmbeddedStore {
    boot: BootId,
    kv: Arc<Kv>,
    bulk: Arc<Bulk>,
    group: Arc<GroupCommit>,
    fences: Arc<Fences>,
    order: Arc<SessionOrder>,
    space: Arc<Space>,
    health: Arc<Health>,
    counters: Arc<Counters>,
    background: recovery::Background,
    snapshots: Snapshots,
    // Last: the lock is let go when all else is closed. Whatever can outlive this store holds it too.
    data: Arc<DataDir>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, creating it if `dir` is new or empty. Blocks, so not for an asynchronous task.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<EmbeddedStore, OpenError> {
        EmbeddedStore::open_probed(dir, options, None)
    }

    pub(crate) fn open_probed(
        dir: &Path,
        options: &StoreOptions,
        probe: Option<Arc<dyn Probe>>,
    ) -> Result<EmbeddedStore, OpenError> {
        let found = DataDir::open(dir, &random_id().map_err(|e| io_error(dir, e))?)?;
        let (data, kv, watermark, sequence) = match found {
            Found::New(data) => create(data)?,
            Found::Ready(data) => reopen(data)?,
        };
        let store = assemble((data, kv, watermark, sequence), options, probe)?;
        recovery::recompute_marked(&store.bulk).map_err(|e| damaged(dir, &e))?;
        Ok(store)
    }

    /// The life this store is in.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Starts to give back, on a thread of its own, the space of backing files that nothing refers to any more.
    pub fn start_sweeping(&self) {
        self.background.sweep(&self.bulk);
    }

    fn submit(&self, session: u64, ops: Vec<Op>) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let mut turn = self.order.enter(session);
        let group = self.group.clone();
        async move {
            turn.come().await;
            let steps = ops.into_iter().map(Step::from).collect();
            let pending = group.submit(Batch { session: Some(session), steps });
            drop(turn);
            pending.durable().await
        }
    }

    fn submit_bulk(
        &self,
        session: u64,
        ops: Vec<Op>,
        objects: Vec<ObjectId>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let mut turn = self.order.enter(session);
        let bulk = self.bulk.clone();
        async move {
            turn.come().await;
            blocking(move || bulk.commit(session, ops, &objects, turn)).await
        }
    }
}

impl Store for EmbeddedStore {
    fn get(&self, keys: &[Key], bytes_max: usize) -> Result<Vec<Option<Value>>, StoreError> {
        check_keys(keys)?;
        let view = self.kv.view();
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let value = view.get(&user_key(key))?;
            bytes += value.as_ref().map_or(0, Bytes::len);
            if bytes > bytes_max && !values.is_empty() {
                break;
            }
            values.push(value);
        }
        Ok(values)
    }

    fn scan(&self, from: &Key, to: &Key, limit: u32, bytes_max: usize) -> Result<Scanned, StoreError> {
        check_keys(&[from.clone(), to.clone()])?;
        if from >= to {
            return Ok((Vec::new(), false));
        }
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in self.kv.view().range(&user_key(from), &user_key(to)) {
            let (key, value) = entry?;
            bytes += key.len() + value.len();
            let full = found.len() >= limit as usize || (bytes > bytes_max && !found.is_empty());
            if full {
                return Ok((found, true));
            }
            found.push((Bytes::from(key).slice(1..), value));
        }
        Ok((found, false))
    }

    fn read(&self, object: ObjectId, ranges: &[(u64, u32)]) -> Result<Bytes, StoreError> {
        self.bulk.read(object, ranges)
    }

    fn write(
        &self,
        session: u64,
        object: ObjectId,
        ranges: &[(u64, u32)],
        data: &Bytes,
    ) -> Result<BootId, StoreError> {
        self.bulk.write(session, object, ranges, data).map(|()| self.boot)
    }

    fn commit(&self, session: u64, ops: Vec<Op>, objects: Vec<(ObjectId, BootId)>) -> StoreFuture {
        if let Err(e) = check_ops(&ops).and_then(|()| check_objects(&objects)) {
            return Box::pin(std::future::ready(Err(e)));
        }
        if objects.iter().any(|(_, boot)| *boot != self.boot) {
            return Box::pin(std::future::ready(Err(StoreError::Restarted)));
        }
        let bulk = ops.iter().any(|op| matches!(op, Op::Truncate { .. } | Op::Remove { .. }));
        if bulk || !objects.is_empty() {
            let objects = objects.into_iter().map(|(object, _)| object).collect();
            Box::pin(detached(self.submit_bulk(session, ops, objects)))
        } else {
            Box::pin(detached(self.submit(session, ops)))
        }
    }

    fn fence(&self, session: u64) -> StoreFuture {
        // From here on its writes are refused; those going down are waited for off this thread.
        let (fences, group, bulk) = (self.fences.clone(), self.group.clone(), self.bulk.clone());
        Box::pin(detached(blocking(move || {
            fences.add(session);
            let steps = vec![Step::Fence { session }];
            group.submit(Batch { session: None, steps }).wait()?;
            bulk.drop_session(session)
        })))
    }

    fn is_fenced(&self, session: u64) -> bool {
        self.fences.contains(session)
    }

    fn statfs(&self) -> Result<StatFs, StoreError> {
        self.space.statfs().map_err(|e| StoreError::from_io(self.data.path().display(), &e))
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        Ok(super::verify::verify(&self.bulk))
    }

    fn snapshot(&self) -> Result<u64, StoreError> {
        self.snapshots.take(&self.kv)
    }

    fn drop_snapshot(&self, snapshot: u64) {
        self.snapshots.drop_one(snapshot);
    }

    fn drop_idle_snapshots(&self) -> usize {
        self.snapshots.drop_idle()
    }

    fn survey(&self, snapshot: u64, from: &Key) -> Result<KeysPage, StoreError> {
        check_keys(std::slice::from_ref(from))?;
        self.snapshots.keys(&self.kv, snapshot, from)
    }

    fn survey_objects(&self, snapshot: u64, from: ObjectId) -> Result<ObjectsPage, StoreError> {
        self.snapshots.objects(&self.kv, snapshot, from)
    }

    fn check_blocks(&self, object: ObjectId, from: u64) -> Result<BlocksChecked, StoreError> {
        super::verify::check_blocks(&self.bulk, object, from)
    }

    fn status(&self) -> ExtentStatus {
        ExtentStatus {
            address: String::new(),
            pid: std::process::id(),
            boot: self.boot,
            store: self.data.id().to_string(),
            groups: self.counters.groups.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
            uncommitted_objects: self.bulk.objects.uncommitted(),
            fenced_sessions: self.fences.len() as u64,
            failed: self.health.reason(),
        }
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        Box::pin(self.health.failed())
    }
}

/// Runs to its end even if nobody waits for it any more: a commit given up half-way would hold up its session.
fn detached(
    work: impl Future<Output = Result<(), StoreError>> + Send + 'static,
) -> impl Future<Output = Result<(), StoreError>> + Send {
    let task = tokio::spawn(work);
    async move { task.await.unwrap_or_else(|e| Err(StoreError::Io { what: format!("a task of the store: {e}") })) }
}

async fn blocking(work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) -> Result<(), StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(StoreError::Io { what: format!("a task of the store: {e}") }))
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

fn random_boot() -> io::Result<BootId> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(BootId(u64::from_le_bytes(bytes)))
}

type Parts = (DataDir, Kv, Watermark, u64);

/// Makes everything of a new store, and declares it one as the last step.
fn create(data: DataDir) -> Result<Parts, OpenError> {
    let dir = data.path().to_path_buf();
    for part in [KV, OBJECTS] {
        let part = dir.join(part);
        // The rest of a creation that was cut short; nothing in it was ever acknowledged.
        if part.exists() {
            fs::remove_dir_all(&part).map_err(|e| io_error(&part, e))?;
        }
    }
    let objects = dir.join(OBJECTS);
    fs::create_dir(&objects).map_err(|e| io_error(&objects, e))?;
    let kv = Kv::open(&dir.join(KV), true).map_err(|what| damaged(&dir, &what))?;
    let first = [(IDENTITY, Some(data.id().as_bytes())), (SEQUENCE, Some(&1u64.to_le_bytes()[..]))];
    kv.write(first.into_iter()).map_err(|what| damaged(&dir, &what))?;
    let path = dir.join(WATERMARK);
    let (watermark, _) = Watermark::open(&path).map_err(|e| io_error(&path, e))?;
    // Both slots, so that noting a group never needs new space.
    let written = watermark.record(0).and_then(|()| watermark.record(1)).and_then(|()| watermark.sync());
    written.map_err(|e| io_error(&path, e))?;
    sync_directory(&dir).map_err(|e| io_error(&dir, e))?;
    data.ready()?;
    Ok((data, kv, watermark, 1))
}

fn reopen(data: DataDir) -> Result<Parts, OpenError> {
    let dir = data.path().to_path_buf();
    let objects = dir.join(OBJECTS);
    if !objects.is_dir() {
        return Err(damaged(&dir, &format!("{} is missing", objects.display())));
    }
    let path = dir.join(WATERMARK);
    let (watermark, known) = Watermark::open(&path).map_err(|e| io_error(&path, e))?;
    if known.is_none() {
        tracing::warn!("{} is missing or damaged: lost commits cannot be noticed this time", path.display());
    }
    let evidence = journal::examine(&dir.join(KV), known).map_err(|what| damaged(&dir, &what))?;
    let kv = Kv::open(&dir.join(KV), false).map_err(|what| damaged(&dir, &what))?;
    let record = |raw| kv.get(raw).map_err(|e| damaged(&dir, &e));
    let identity = record(IDENTITY)?;
    if identity.as_deref().is_some_and(|identity| identity != data.id().as_bytes()) {
        return Err(damaged(&dir, &"its FORMAT and its kv directory belong to different stores"));
    }
    let sequence = record(SEQUENCE)?.and_then(|body| body[..].try_into().ok()).map_or(0, u64::from_le_bytes);
    if let Some(known) = known.filter(|known| sequence < *known) {
        let what = format!(
            "its log ends with group {sequence} of commits, but group {known} was acknowledged{}",
            evidence.describe()
        );
        return Err(damaged(&dir, &what));
    }
    if identity.is_none() || sequence == 0 {
        return Err(damaged(&dir, &"its identity or its sequence number is missing"));
    }
    evidence.discard();
    Ok((data, kv, watermark, sequence))
}

fn assemble(
    (data, kv, watermark, sequence): Parts,
    options: &StoreOptions,
    probe: Option<Arc<dyn Probe>>,
) -> Result<EmbeddedStore, OpenError> {
    let dir = data.path().to_path_buf();
    let data = Arc::new(data);
    let system = |e| io_error(&dir, e);
    let prefix = [space::FENCES];
    let fenced = kv.entries(&prefix).map(|entry| entry.map(|(raw, _)| parse_fence_key(&raw)));
    let fenced = fenced.collect::<Result<Option<HashSet<u64>>, _>>().map_err(|e| damaged(&dir, &e))?;
    let fenced = fenced.ok_or_else(|| damaged(&dir, &"a record of a fence has a malformed key"))?;
    let (kv, watermark) = (Arc::new(kv), Arc::new(watermark));
    let (fences, health) = (Arc::new(Fences::new(fenced)), Arc::new(Health::default()));
    let space = Arc::new(Space::new(&dir, options.reserve));
    let counters = Arc::new(Counters::default());
    let applier = Applier {
        kv: kv.clone(),
        fences: fences.clone(),
        space: space.clone(),
        watermark: watermark.clone(),
        counters: counters.clone(),
        probe: probe.clone(),
        sequence,
        _data: data.clone(),
    };
    let group = Arc::new(GroupCommit::start(applier, health.clone()).map_err(system)?);
    let objects = Objects::new(dir.join(OBJECTS), options.files_max);
    objects.sync_tree().map_err(system)?;
    let background = recovery::Background::start(kv.clone(), watermark, health.clone()).map_err(system)?;
    let bulk = Arc::new(Bulk {
        kv: kv.clone(),
        objects,
        group: group.clone(),
        fences: fences.clone(),
        space: space.clone(),
        health: health.clone(),
        probe,
        _data: data.clone(),
    });
    let order = Arc::default();
    let boot = random_boot().map_err(system)?;
    let snapshots = Snapshots::default();
    Ok(EmbeddedStore {
        boot,
        kv,
        bulk,
        group,
        fences,
        order,
        space,
        health,
        counters,
        background,
        snapshots,
        data,
    })
}

fn damaged(dir: &Path, what: &dyn std::fmt::Display) -> OpenError {
    OpenError::Damaged { dir: dir.to_path_buf(), what: what.to_string() }
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_path_buf(), source }
}
