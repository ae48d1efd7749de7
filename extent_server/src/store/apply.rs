//! Turns the steps of a group of commits into records, and writes them with one sync.

use super::chunk::{Crcs, from_block};
use super::fences::Fences;
use super::kv::{Kv, decode_crcs, decode_marks};
use super::probe::{Point, Probe};
use super::space::{Need, Space};
use super::steps::{SEQUENCE, Step, chunk_key, fence_key, object_prefix, parse_chunk_key, space, user_key};
use super::watermark::Watermark;

use crate::error::StoreError;
use crate::format::DataDir;
use crate::group_commit::{Apply, Batch};
use crate::types::ObjectId;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records to be, by stored key; `None` removes. All records of one group carry the same version in the log, so each
/// key may appear in it once only.
type Overlay = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Groups and commits made durable.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) groups: AtomicU64,
    pub(crate) commits: AtomicU64,
}

/// The one who writes to the tree.
pub(crate) struct Applier {
    pub(crate) kv: Arc<Kv>,
    pub(crate) fences: Arc<Fences>,
    pub(crate) space: Arc<Space>,
    pub(crate) watermark: Arc<Watermark>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) probe: Option<Arc<dyn Probe>>,
    /// The number of the last group written.
    pub(crate) sequence: u64,
    /// Keeps the directory locked for as long as the tree is open.
    pub(crate) _data: Arc<DataDir>,
}

impl Apply for Applier {
    fn apply(&mut self, group: &[Batch]) -> Result<Vec<Result<(), StoreError>>, String> {
        let mut overlay = Overlay::new();
        let mut bytes = 0;
        let answers: Vec<_> = group.iter().map(|batch| self.admit(batch, &mut overlay, &mut bytes)).collect();
        if answers.iter().any(Result::is_ok) {
            self.write(overlay)?;
            let commits = answers.iter().filter(|a| a.is_ok()).count() as u64;
            self.counters.groups.fetch_add(1, Ordering::Relaxed);
            self.counters.commits.fetch_add(commits, Ordering::Relaxed);
        }
        Ok(answers)
    }
}

impl Applier {
    /// Adds a batch to the group, wholly or not at all.
    fn admit(&self, batch: &Batch, overlay: &mut Overlay, bytes: &mut u64) -> Result<(), StoreError> {
        if let Some(session) = batch.session {
            self.fences.check(session)?;
        }
        let need = if batch.steps.iter().any(Step::frees) { Need::Free } else { Need::Grow };
        let cost = batch.cost();
        // A fence must land even on a full disk: the next holder's safety hangs on it, and it is a few bytes.
        if !batch.steps.iter().all(|step| matches!(step, Step::Fence { .. })) {
            self.space.check(*bytes + cost, need)?;
        }
        let mut layer = Layer { kv: &self.kv, below: overlay, own: Overlay::new() };
        batch.steps.iter().try_for_each(|step| layer.apply(step))?;
        let own = layer.own;
        overlay.extend(own);
        *bytes += cost;
        Ok(())
    }

    fn write(&mut self, mut overlay: Overlay) -> Result<(), String> {
        let sequence = self.sequence + 1;
        overlay.insert(SEQUENCE.to_vec(), Some(Bytes::copy_from_slice(&sequence.to_le_bytes())));
        if let Some(probe) = &self.probe {
            probe.at(Point::BeforeGroup).map_err(|e| e.to_string())?;
        }
        self.kv.write(overlay.iter().map(|(key, body)| (key.as_slice(), body.as_deref())))?;
        self.sequence = sequence;
        if let Err(e) = self.watermark.record(sequence) {
            tracing::warn!("cannot note the last group of commits: {e}; damage to the log may go unnoticed");
        }
        if let Some(probe) = &self.probe {
            probe.at(Point::AfterGroup).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// The changes of one batch over those of its group over the tree.
struct Layer<'a> {
    kv: &'a Kv,
    below: &'a Overlay,
    own: Overlay,
}

impl Layer<'_> {
    fn apply(&mut self, step: &Step) -> Result<(), StoreError> {
        match step {
            Step::Put { key, value } => self.put(user_key(key), value.clone()),
            Step::Delete { key } => self.remove(user_key(key)),
            Step::DeletePrefix { prefix } => {
                for key in self.keys(&user_key(prefix))? {
                    self.remove(key);
                }
            }
            Step::Trim { object, first } => self.trim(*object, *first)?,
            Step::SetCrcs { object, chunk, crcs } => self.set_crcs(*object, *chunk, crcs)?,
            Step::Mark { object, chunk, bits } => {
                let raw = chunk_key(space::MARKS, *object, *chunk);
                let marks = self.marks(&raw)? | bits;
                self.put_marks(raw, marks);
            }
            Step::Fence { session } => self.put(fence_key(*session), Bytes::new()),
        }
        Ok(())
    }

    fn set_crcs(&mut self, object: ObjectId, chunk: u64, crcs: &Crcs) -> Result<(), StoreError> {
        let raw = chunk_key(space::CRCS, object, chunk);
        let mut merged = self.crcs(&raw)?;
        merged.overlay(crcs);
        self.put(raw, merged.encode().into());
        let raw = chunk_key(space::MARKS, object, chunk);
        let marks = self.marks(&raw)?;
        if marks & crcs.present() != 0 {
            self.put_marks(raw, marks & !crcs.present());
        }
        Ok(())
    }

    fn trim(&mut self, object: ObjectId, first: u64) -> Result<(), StoreError> {
        for space in [space::CRCS, space::MARKS] {
            for raw in self.keys(&object_prefix(space, object))? {
                let gone = parse_chunk_key(&raw).map_or(0, |(_, chunk)| from_block(chunk, first));
                match gone {
                    0 => {}
                    u64::MAX => self.remove(raw),
                    _ if space == space::MARKS => {
                        let marks = self.marks(&raw)? & !gone;
                        self.put_marks(raw, marks);
                    }
                    _ => {
                        let mut crcs = self.crcs(&raw)?;
                        crcs.clear(gone);
                        self.put_crcs(raw, &crcs);
                    }
                }
            }
        }
        Ok(())
    }

    fn crcs(&self, raw: &[u8]) -> Result<Crcs, StoreError> {
        self.get(raw)?.map_or(Ok(Crcs::default()), |body| decode_crcs(raw, &body))
    }

    fn marks(&self, raw: &[u8]) -> Result<u64, StoreError> {
        self.get(raw)?.map_or(Ok(0), |body| decode_marks(raw, &body))
    }

    fn put_crcs(&mut self, raw: Vec<u8>, crcs: &Crcs) {
        if crcs.present() == 0 { self.remove(raw) } else { self.put(raw, crcs.encode().into()) }
    }

    fn put_marks(&mut self, raw: Vec<u8>, marks: u64) {
        if marks == 0 {
            self.remove(raw);
        } else {
            self.put(raw, Bytes::copy_from_slice(&marks.to_le_bytes()));
        }
    }

    fn put(&mut self, raw: Vec<u8>, body: Bytes) {
        self.own.insert(raw, Some(body));
    }

    fn remove(&mut self, raw: Vec<u8>) {
        self.own.insert(raw, None);
    }

    fn get(&self, raw: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.own.get(raw).or_else(|| self.below.get(raw)) {
            Some(changed) => Ok(changed.clone()),
            None => self.kv.get(raw),
        }
    }

    /// The stored keys with `prefix`, as of the steps so far; a key already removed may be among them.
    fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = self.kv.keys(prefix).collect::<Result<Vec<_>, _>>()?;
        for layer in [self.below, &self.own] {
            let from = (Bound::Included(prefix.to_vec()), Bound::Unbounded);
            let put =
                layer.range(from).take_while(|(key, _)| key.starts_with(prefix)).filter(|(_, v)| v.is_some());
            keys.extend(put.map(|(key, _)| key.clone()));
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }
}
