//! An extent store whose server can restart, fill up, be cut off, and be fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::executor::yield_now;
use super::rng::Rng;
use crate::core::format::BLOCK;
use crate::core::{BootId, Extents, Ino, Op, ScanPage, StatFs, StoreError};
use crate::fsck::Object;

type Blocks = BTreeMap<(Ino, u64), Vec<u8>>;

/// What the server has.
#[derive(Clone, Default)]
pub struct Server {
    kv: BTreeMap<Bytes, Bytes>,
    durable: Blocks,
    /// Written but not committed: shown to readers, gone after a restart (or not).
    written: BTreeMap<(Ino, u64), (u64, Vec<u8>)>,
    boot: BootId,
    fenced: BTreeSet<u64>,
    /// Keep showing what a fenced session wrote into holes and never committed.
    pub keeps_dead_writes: bool,
    /// Refuse to take more than this many bytes.
    pub bytes_max: Option<usize>,
    commits: u64,
    calls: u64,
}

impl Server {
    /// All pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.kv.iter()
    }

    /// Objects that have durable blocks.
    pub fn objects(&self) -> Vec<Object> {
        let mut objects: Vec<Object> = Vec::new();
        for (ino, index) in self.durable.keys().copied() {
            match objects.last_mut().filter(|object| object.ino == ino) {
                Some(object) => (object.blocks, object.end) = (object.blocks + 1, index + 1),
                None => objects.push(Object { ino, blocks: 1, end: index + 1 }),
            }
        }
        objects
    }

    /// Sets or removes a key behind everybody's back.
    pub fn plant(&mut self, key: Bytes, value: Option<Bytes>) {
        match value {
            Some(value) => drop(self.kv.insert(key, value)),
            None => drop(self.kv.remove(&key)),
        }
    }

    /// Makes a block of bulk data behind everybody's back.
    pub fn plant_block(&mut self, object: Ino, index: u64, data: Vec<u8>) {
        self.durable.insert((object, index), data);
    }

    /// Commits so far.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The server restarts: each write that was not committed is lost or kept as the dice fall.
    pub fn restart(&mut self, rng: &mut Rng) {
        self.boot += 1;
        for (place, (_, data)) in std::mem::take(&mut self.written) {
            // Without a checksum a block that never was there stays a hole.
            if rng.chance(50) && self.durable.contains_key(&place) {
                self.durable.insert(place, data);
            }
        }
    }

    /// Refuses a session from now on.
    pub fn fence(&mut self, session: u64) {
        self.fenced.insert(session);
        if !self.keeps_dead_writes {
            let durable = &self.durable;
            self.written.retain(|place, (writer, _)| *writer != session || durable.contains_key(place));
        }
    }

    /// Flips bits in a stored value.
    pub fn damage(&mut self, key: &Bytes) {
        let value = self.kv.get_mut(key).expect("the test damages what is there");
        *value = value.iter().map(|b| !b).collect();
    }

    fn used(&self) -> usize {
        let kv: usize = self.kv.iter().map(|(k, v)| k.len() + v.len()).sum();
        kv + (self.durable.len() + self.written.len()) * BLOCK as usize
    }

    fn check(&self, session: u64, more: usize) -> Result<(), StoreError> {
        assert_ne!(session, 0, "nothing is written without a session");
        if self.fenced.contains(&session) {
            return Err(StoreError::Fenced(session));
        }
        match self.bytes_max {
            Some(max) if more > 0 && self.used() + more > max => Err(StoreError::NoSpace),
            _ => Ok(()),
        }
    }

    fn block(&self, object: Ino, index: u64) -> &[u8] {
        let place = (object, index);
        let written = self.written.get(&place).map(|(_, data)| data);
        written.or_else(|| self.durable.get(&place)).map_or(&[], |b| &b[..])
    }

    fn read(&self, object: Ino, ranges: &[(u64, u32)]) -> Bytes {
        let mut out = BytesMut::new();
        for (offset, len) in ranges {
            let end = offset + u64::from(*len);
            let mut at = *offset;
            while at < end {
                let upto = end.min((at / BLOCK + 1) * BLOCK);
                let block = self.block(object, at / BLOCK);
                for i in at..upto {
                    out.extend_from_slice(&[block.get((i % BLOCK) as usize).copied().unwrap_or(0)]);
                }
                at = upto;
            }
        }
        out.freeze()
    }

    fn write(
        &mut self,
        session: u64,
        object: Ino,
        ranges: &[(u64, u32)],
        data: &[u8],
    ) -> Result<BootId, StoreError> {
        self.check(session, data.len())?;
        let total: usize = ranges.iter().map(|r| r.1 as usize).sum();
        assert_eq!(total, data.len(), "a write has the bytes of its ranges");
        let mut data = data;
        for (offset, len) in ranges {
            assert!(offset % BLOCK == 0 && u64::from(*len) % BLOCK == 0, "the core writes whole blocks");
            for index in offset / BLOCK..(offset + u64::from(*len)) / BLOCK {
                let (block, rest) = data.split_at(BLOCK as usize);
                self.written.insert((object, index), (session, block.to_vec()));
                data = rest;
            }
        }
        Ok(self.boot)
    }

    fn commit(&mut self, session: u64, ops: &[Op], objects: &[(Ino, BootId)]) -> Result<(), StoreError> {
        let more: usize =
            ops.iter().map(|op| if let Op::Put { value, .. } = op { value.len() } else { 0 }).sum();
        let frees = ops.iter().any(|op| !matches!(op, Op::Put { .. }));
        self.check(session, if frees { 0 } else { more })?;
        if objects.iter().any(|(_, boot)| *boot != self.boot) {
            return Err(StoreError::Restarted);
        }
        // The operations first: a cut of an object that is named leaves the data written since.
        let kept: Vec<_> = objects.iter().filter_map(|(object, _)| self.take_written(*object)).collect();
        ops.iter().for_each(|op| self.apply(op));
        self.durable.extend(kept.into_iter().flatten());
        self.commits += 1;
        Ok(())
    }

    fn take_written(&mut self, object: Ino) -> Option<Blocks> {
        let places: Vec<_> = self.written.range((object, 0)..=(object, u64::MAX)).map(|(p, _)| *p).collect();
        places.into_iter().map(|place| Some((place, self.written.remove(&place)?.1))).collect()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put { key, value } => drop(self.kv.insert(key.clone(), value.clone())),
            Op::Delete { key } => drop(self.kv.remove(key)),
            Op::DeletePrefix { prefix } => self.kv.retain(|key, _| !key.starts_with(prefix)),
            Op::Truncate { object, size } => self.cut(*object, size.div_ceil(BLOCK)),
            Op::Remove { object } => self.cut(*object, 0),
        }
    }

    fn cut(&mut self, object: Ino, from: u64) {
        let stays = |place: &(Ino, u64)| place.0 != object || place.1 < from;
        self.durable.retain(|place, _| stays(place));
        self.written.retain(|place, _| stays(place));
    }
}

/// What happens to a client's calls.
#[derive(Clone, Default)]
pub struct Faults {
    /// So many more calls are answered; then the client is dead: its calls wait for ever.
    pub dies_after: Option<u64>,
    /// Whether the call at which it dies still takes effect.
    pub last_call_counts: bool,
    /// Calls fail with `Unreachable`.
    pub unreachable: bool,
    /// The server restarts with this chance (percent) at each call.
    pub restart_chance: u64,
    /// Calls let other tasks run with this chance (percent).
    pub yield_chance: u64,
}

/// A client's connection to the server.
#[derive(Clone)]
pub struct FakeStore {
    server: Arc<Mutex<Server>>,
    faults: Arc<Mutex<Faults>>,
    rng: Arc<Mutex<Rng>>,
}

impl FakeStore {
    /// A connection with no faults.
    pub fn new(server: Arc<Mutex<Server>>, seed: u64) -> FakeStore {
        FakeStore { server, faults: Arc::default(), rng: Arc::new(Mutex::new(Rng::new(seed))) }
    }

    /// Its faults.
    pub fn faults(&self) -> parking_lot::MutexGuard<'_, Faults> {
        self.faults.lock()
    }

    async fn call<T>(
        &self,
        work: impl FnOnce(&mut Server) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let faults = self.faults.lock().clone();
        while self.rng.lock().chance(faults.yield_chance) {
            yield_now().await;
        }
        if self.rng.lock().chance(faults.restart_chance) {
            self.server.lock().restart(&mut self.rng.lock());
        }
        if faults.unreachable {
            return Err(StoreError::Unreachable("cut off by the test".into()));
        }
        let dies = {
            let mut faults = self.faults.lock();
            let dies = faults.dies_after == Some(0);
            faults.dies_after = faults.dies_after.map(|n| n.saturating_sub(1));
            dies
        };
        if dies && !faults.last_call_counts {
            return pending().await;
        }
        let result = {
            let mut server = self.server.lock();
            server.calls += 1;
            work(&mut server)
        };
        if dies {
            self.faults.lock().last_call_counts = false;
            self.faults.lock().dies_after = Some(0);
            return pending().await;
        }
        while self.rng.lock().chance(faults.yield_chance) {
            yield_now().await;
        }
        result
    }
}

impl Extents for FakeStore {
    async fn get(&self, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.call(|s| Ok(keys.iter().map(|k| s.kv.get(k).cloned()).collect())).await
    }

    async fn scan(&self, from: Bytes, to: Bytes, limit: u32) -> Result<ScanPage, StoreError> {
        self.call(|s| {
            let mut range = s.kv.range(from..to).map(|(k, v)| (k.clone(), v.clone()));
            let page = range.by_ref().take(limit as usize).collect();
            Ok((page, range.next().is_some()))
        })
        .await
    }

    async fn read(&self, object: Ino, ranges: Vec<(u64, u32)>) -> Result<Bytes, StoreError> {
        self.call(|s| Ok(s.read(object, &ranges))).await
    }

    async fn write(
        &self,
        session: u64,
        object: Ino,
        ranges: Vec<(u64, u32)>,
        data: Bytes,
    ) -> Result<BootId, StoreError> {
        self.call(|s| s.write(session, object, &ranges, &data)).await
    }

    async fn commit(
        &self,
        session: u64,
        ops: Vec<Op>,
        objects: Vec<(Ino, BootId)>,
    ) -> Result<(), StoreError> {
        self.call(|s| s.commit(session, &ops, &objects)).await
    }

    async fn statfs(&self) -> Result<StatFs, StoreError> {
        self.call(|s| {
            let total = s.bytes_max.unwrap_or(1 << 40) as u64;
            let free = total.saturating_sub(s.used() as u64);
            Ok(StatFs { bytes_total: total, bytes_free: free, files_total: 1 << 32, files_free: 1 << 32 })
        })
        .await
    }
}
