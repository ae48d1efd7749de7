//! Snapshots that are looked at page by page.

use super::chunk::CHUNK_BLOCKS;
use super::kv::{Examined, Kv, decode_crcs};
use super::steps::{chunk_key, describe, parse_chunk_key, space, user_key};
use crate::error::StoreError;
use crate::protocol::invalid;
use crate::survey::{KeysPage, ObjectSummary, ObjectsPage, SNAPSHOT_IDLE, SNAPSHOTS_MAX, SURVEY_MAX};
use crate::types::{Key, ObjectId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The snapshots somebody looks at.
#[derive(Default)]
pub(crate) struct Snapshots {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    snapshots: BTreeMap<u64, (Arc<fjall::Snapshot>, Instant)>,
}

impl Kept {
    fn drop_idle(&mut self) {
        self.snapshots.retain(|_, (_, used)| used.elapsed() < SNAPSHOT_IDLE);
    }
}

impl Snapshots {
    /// Takes one.
    pub(crate) fn take(&self, kv: &Kv) -> Result<u64, StoreError> {
        let mut kept = self.kept.lock();
        kept.drop_idle();
        if kept.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(invalid(
                "as many snapshots as there may be are looked at already; try again in a minute",
            ));
        }
        kept.last += 1;
        let name = kept.last;
        kept.snapshots.insert(name, (Arc::new(kv.snapshot()), Instant::now()));
        Ok(name)
    }

    /// Drops one that nobody needs any more.
    pub(crate) fn drop_one(&self, name: u64) {
        self.kept.lock().snapshots.remove(&name);
    }

    /// Drops those that were not used for long; how many are left.
    pub(crate) fn drop_idle(&self) -> usize {
        let mut kept = self.kept.lock();
        kept.drop_idle();
        kept.snapshots.len()
    }

    fn get(&self, name: u64) -> Result<Arc<fjall::Snapshot>, StoreError> {
        match self.kept.lock().snapshots.get_mut(&name) {
            Some((snapshot, used)) => {
                *used = Instant::now();
                Ok(snapshot.clone())
            }
            None => {
                Err(invalid("there is no such snapshot; it was unused for too long, or the server restarted"))
            }
        }
    }

    /// Keys of the user from `from` on.
    pub(crate) fn keys(&self, kv: &Kv, name: u64, from: &Key) -> Result<KeysPage, StoreError> {
        let snapshot = self.get(name)?;
        let (mut page, mut bytes) = (KeysPage::default(), 0);
        for found in kv.walk(&snapshot, &user_key(from), &[space::USER + 1]) {
            let (raw, body) = match found {
                Ok(found) => found,
                Err(e) => {
                    page.lost.push(e.to_string());
                    if page.is_full(bytes) {
                        return Err(e);
                    }
                    continue;
                }
            };
            let key = Bytes::from(raw).slice(1..);
            if page.is_full(bytes) {
                page.next = Some(key);
                return Ok(page);
            }
            bytes += key.len() + body.as_ref().map_or(0, Bytes::len);
            page.entries.push((key, body.ok()));
        }
        Ok(page)
    }

    /// Objects that have blocks, from `from` on.
    pub(crate) fn objects(&self, kv: &Kv, name: u64, from: ObjectId) -> Result<ObjectsPage, StoreError> {
        let snapshot = self.get(name)?;
        let mut page = ObjectsPage::default();
        for found in kv.walk(&snapshot, &chunk_key(space::CRCS, from, 0), &[space::CRCS + 1]) {
            let full = page.objects.len() + page.lost.len() >= SURVEY_MAX;
            match found.and_then(summary) {
                Ok(part) => match page.objects.last_mut().filter(|last| last.object == part.object) {
                    Some(last) => (last.blocks, last.end) = (last.blocks + part.blocks, part.end),
                    None if full => {
                        page.next = Some(part.object);
                        return Ok(page);
                    }
                    None => page.objects.push(part),
                },
                Err(e) if full => return Err(e),
                Err(e) => page.lost.push(e.to_string()),
            }
        }
        Ok(page)
    }
}

/// What one record of checksums says of its object.
fn summary((raw, body): Examined) -> Result<ObjectSummary, StoreError> {
    let malformed = || StoreError::Corrupt { what: format!("{}: malformed key", describe(&raw)) };
    let (object, chunk) = parse_chunk_key(&raw).ok_or_else(malformed)?;
    let present = decode_crcs(&raw, &body?)?.present();
    let end = chunk * CHUNK_BLOCKS + u64::from(u64::BITS - present.leading_zeros());
    Ok(ObjectSummary { object, blocks: u64::from(present.count_ones()), end })
}
