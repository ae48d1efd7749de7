//! The extent server's store, on a simulated disk: what is durable, what is only in its memory, and a queue to the disk.
//!
//! It keeps the promises of [`extent_server::Store`] and no more: bulk writes that no commit named are lost in a crash, or
//! not, as the dice fall; commits and fences are durable in the order in which they were asked for, and answered then.

use super::host;
use super::record::Record;
use crate::rng::Rng;
use bytes::{Bytes, BytesMut};
use extent_server::store::{Scanned, StoreFuture};
use extent_server::survey::{BlocksChecked, KeysPage, ObjectsPage};
use extent_server::{
    BLOCK_SIZE, BootId, ExtentStatus, Key, ObjectId, Op, StatFs, Store, StoreError, Value, VerifyReport,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

type Place = (ObjectId, u64);
type Tell = oneshot::Sender<Result<(), StoreError>>;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Keys and values.
    pub pairs: BTreeMap<Key, Value>,
    /// Committed bulk blocks.
    pub blocks: BTreeMap<Place, Bytes>,
    /// Sessions refused for ever.
    pub fenced: BTreeSet<u64>,
    /// Lives of the server so far.
    pub boots: u64,
}

enum What {
    Commit { session: u64, ops: Vec<Op>, objects: Vec<(ObjectId, BootId)> },
    Fence { session: u64 },
}

struct Job {
    what: What,
    tell: Tell,
}

struct State {
    disk: Disk,
    /// Written and in no commit yet, with the session that wrote it.
    written: BTreeMap<Place, (u64, Bytes)>,
    queue: VecDeque<Job>,
    boot: u64,
    rng: Rng,
    disk_ms_max: u64,
    commits: u64,
}

/// The store of one server through all its lives. Clones are the same.
#[derive(Clone)]
pub struct SimStore {
    state: Arc<Mutex<State>>,
    work: Arc<Notify>,
    record: Record,
}

impl SimStore {
    /// An empty disk, whose speed and losses follow from `seed`.
    pub fn new(seed: u64, disk_ms_max: u64, record: Record) -> SimStore {
        let state = State {
            disk: Disk::default(),
            written: BTreeMap::new(),
            queue: VecDeque::new(),
            boot: 0,
            rng: Rng::new(seed),
            disk_ms_max,
            commits: 0,
        };
        SimStore { state: Arc::new(Mutex::new(state)), work: Arc::new(Notify::new()), record }
    }

    /// A life begins.
    pub fn boot(&self) {
        let mut state = self.state.lock();
        state.disk.boots += 1;
        state.boot = state.disk.boots;
    }

    /// A life ends: of what is under way to the disk some arrives, in order, and nobody hears of it.
    pub fn crash(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let arriving = state.rng.below(state.queue.len() + 1);
        let jobs: Vec<Job> = state.queue.drain(..).collect();
        for job in jobs.iter().take(arriving) {
            let _ = state.perform(&job.what, &self.record); // nobody hears of it
        }
        for (place, (_, data)) in std::mem::take(&mut state.written) {
            // Where nothing was committed before, nothing says that there is a block.
            if state.rng.chance(50) && state.disk.blocks.contains_key(&place) {
                state.disk.blocks.insert(place, data);
            }
        }
        state.boot = 0;
        drop(guard);
        drop(jobs);
    }

    /// What would survive a crash now.
    pub fn disk(&self) -> Disk {
        self.state.lock().disk.clone()
    }

    /// Commits made durable so far.
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Takes the queue to the disk, for as long as this life lasts.
    pub async fn work(self) {
        loop {
            let wait = {
                let mut state = self.state.lock();
                let max = state.disk_ms_max;
                (!state.queue.is_empty()).then(|| state.rng.next_u64() % (max + 1))
            };
            match wait {
                None => self.work.notified().await,
                Some(ms) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    let done = self.state.lock().one(&self.record);
                    if let Some((tell, result)) = done {
                        let _ = tell.send(result); // who asked may be gone
                    }
                }
            }
        }
    }

    fn submit(&self, what: What) -> StoreFuture {
        let (tell, answer) = oneshot::channel();
        self.state.lock().queue.push_back(Job { what, tell });
        self.work.notify_one();
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(StoreError::Io { what: "the disk is gone".into() }))
        })
    }
}

impl State {
    fn one(&mut self, record: &Record) -> Option<(Tell, Result<(), StoreError>)> {
        let Job { what, tell } = self.queue.pop_front()?;
        let result = self.perform(&what, record);
        Some((tell, result))
    }

    fn perform(&mut self, what: &What, record: &Record) -> Result<(), StoreError> {
        match what {
            What::Fence { session } => {
                self.disk.fenced.insert(*session);
                let blocks = &self.disk.blocks;
                self.written.retain(|place, (writer, _)| writer != session || blocks.contains_key(place));
                record.fenced(*session);
                Ok(())
            }
            What::Commit { session, ops, objects } => {
                self.check(*session)?;
                if objects.iter().any(|(_, boot)| boot.0 != self.boot) {
                    return Err(StoreError::Restarted);
                }
                record.accepted(*session);
                for (object, _) in objects {
                    self.keep(*object);
                }
                ops.iter().for_each(|op| self.apply(op));
                self.commits += 1;
                Ok(())
            }
        }
    }

    fn check(&self, session: u64) -> Result<(), StoreError> {
        if self.disk.fenced.contains(&session) { Err(StoreError::Fenced { session }) } else { Ok(()) }
    }

    /// The object's data becomes durable.
    fn keep(&mut self, object: ObjectId) {
        let places: Vec<_> =
            self.written.range((object, 0)..=(object, u64::MAX)).map(|(at, _)| *at).collect();
        for place in places {
            if let Some((_, data)) = self.written.remove(&place) {
                self.disk.blocks.insert(place, data);
            }
        }
    }

    fn apply(&mut self, op: &Op) {
        let pairs = &mut self.disk.pairs;
        match op {
            Op::Put { key, value } => drop(pairs.insert(key.clone(), value.clone())),
            Op::Delete { key } => drop(pairs.remove(key)),
            Op::DeletePrefix { prefix } => pairs.retain(|key, _| !key.starts_with(prefix)),
            Op::Truncate { object, size } => self.cut(*object, size.div_ceil(BLOCK_SIZE)),
            Op::Remove { object } => self.cut(*object, 0),
        }
    }

    fn cut(&mut self, object: ObjectId, from: u64) {
        let stays = |place: &Place| place.0 != object || place.1 < from;
        self.disk.blocks.retain(|place, _| stays(place));
        self.written.retain(|place, _| stays(place));
    }

    fn block(&self, place: Place) -> Option<&Bytes> {
        self.written.get(&place).map(|(_, data)| data).or_else(|| self.disk.blocks.get(&place))
    }

    fn read(&self, object: ObjectId, ranges: &[(u64, u32)]) -> Bytes {
        let mut out = BytesMut::new();
        for &(offset, len) in ranges {
            let end = offset + u64::from(len);
            let mut at = offset;
            while at < end {
                let upto = end.min((at / BLOCK_SIZE + 1) * BLOCK_SIZE);
                let (from, to) = ((at % BLOCK_SIZE) as usize, (at % BLOCK_SIZE + upto - at) as usize);
                let filled = out.len() + to - from;
                if let Some(block) = self.block((object, at / BLOCK_SIZE)) {
                    out.extend_from_slice(&block[from.min(block.len())..to.min(block.len())]);
                }
                out.resize(filled, 0);
                at = upto;
            }
        }
        out.freeze()
    }

    fn write(&mut self, session: u64, object: ObjectId, ranges: &[(u64, u32)], data: &Bytes) {
        let mut data = data.clone();
        for &(offset, len) in ranges {
            assert!(
                offset % BLOCK_SIZE == 0 && u64::from(len) % BLOCK_SIZE == 0,
                "the core writes whole blocks"
            );
            for index in offset / BLOCK_SIZE..(offset + u64::from(len)) / BLOCK_SIZE {
                self.written.insert((object, index), (session, data.split_to(BLOCK_SIZE as usize)));
            }
        }
    }
}

impl Store for SimStore {
    fn may_block(&self) -> bool {
        false
    }

    fn get(&self, keys: &[Key], _: usize) -> Result<Vec<Option<Value>>, StoreError> {
        let state = self.state.lock();
        Ok(keys.iter().map(|key| state.disk.pairs.get(key).cloned()).collect())
    }

    fn scan(&self, from: &Key, to: &Key, limit: u32, _: usize) -> Result<Scanned, StoreError> {
        if from >= to {
            return Ok((Vec::new(), false));
        }
        let state = self.state.lock();
        let mut range = state.disk.pairs.range(from.clone()..to.clone());
        let page = range.by_ref().take(limit as usize).map(|(key, value)| (key.clone(), value.clone()));
        Ok((page.collect(), range.next().is_some()))
    }

    fn read(&self, object: ObjectId, ranges: &[(u64, u32)]) -> Result<Bytes, StoreError> {
        Ok(self.state.lock().read(object, ranges))
    }

    fn write(
        &self,
        session: u64,
        object: ObjectId,
        ranges: &[(u64, u32)],
        data: &Bytes,
    ) -> Result<BootId, StoreError> {
        let mut state = self.state.lock();
        state.check(session)?;
        self.record.accepted(session);
        state.write(session, object, ranges, data);
        Ok(BootId(state.boot))
    }

    fn commit(&self, session: u64, ops: Vec<Op>, objects: Vec<(ObjectId, BootId)>) -> StoreFuture {
        self.submit(What::Commit { session, ops, objects })
    }

    fn fence(&self, session: u64) -> StoreFuture {
        self.submit(What::Fence { session })
    }

    fn is_fenced(&self, session: u64) -> bool {
        self.state.lock().disk.fenced.contains(&session)
    }

    fn statfs(&self) -> Result<StatFs, StoreError> {
        let (total, files) = (1 << 40, 1 << 32);
        Ok(StatFs { total, free: total, available: total, files, files_free: files })
    }

    fn verify(&self) -> Result<VerifyReport, StoreError> {
        Ok(VerifyReport::default())
    }

    fn snapshot(&self) -> Result<u64, StoreError> {
        elsewhere()
    }

    fn drop_snapshot(&self, _: u64) {}

    fn drop_idle_snapshots(&self) -> usize {
        0
    }

    fn survey(&self, _: u64, _: &Key) -> Result<KeysPage, StoreError> {
        elsewhere()
    }

    fn survey_objects(&self, _: u64, _: ObjectId) -> Result<ObjectsPage, StoreError> {
        elsewhere()
    }

    fn check_blocks(&self, _: ObjectId, _: u64) -> Result<BlocksChecked, StoreError> {
        elsewhere()
    }

    fn status(&self) -> ExtentStatus {
        let state = self.state.lock();
        ExtentStatus {
            address: super::network::address(host::current()),
            pid: 0,
            boot: BootId(state.boot),
            store: "simulated".into(),
            groups: state.commits,
            commits: state.commits,
            uncommitted_objects: 0,
            fenced_sessions: state.disk.fenced.len() as u64,
            failed: None,
        }
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// No mount asks for it; the simulator takes its pictures by [`SimStore::disk`].
fn elsewhere<T>() -> Result<T, StoreError> {
    Err(StoreError::Io { what: "a simulated store has no snapshots".into() })
}
