//! Reads everything back and compares it with its checksums.

use super::blocks::{Bulk, read_block};
use super::chunk::{CHUNK_BLOCKS, slots};
use super::kv::{decode_crcs, decode_marks};
use super::steps::{describe, object_prefix, parse_chunk_key, parse_fence_key, space};
use crate::error::StoreError;
use crate::survey::BlocksChecked;
use crate::types::{BLOCK_SIZE, ObjectId};
use std::collections::BTreeSet;
use std::fmt;

/// Damage is listed one by one up to here.
const DAMAGE_LISTED_MAX: usize = 1000;

/// What a store holds, and what of it is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Keys with intact values.
    pub keys: u64,
    /// Bytes of these keys and values.
    pub key_bytes: u64,
    /// Bulk objects with at least one block.
    pub objects: u64,
    /// Their intact blocks, of 64 KiB each.
    pub blocks: u64,
    /// Fenced sessions.
    pub fences: u64,
    /// Backing files that nothing refers to; harmless, a running server gives their space back.
    pub orphans: u64,
    /// How many keys, blocks and other records are damaged.
    pub damaged: u64,
    /// The first of them, in words.
    pub damage: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damaged == 0
    }

    fn damage(&mut self, what: impl fmt::Display) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_LISTED_MAX {
            self.damage.push(what.to_string());
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "keys: {} ({} bytes)", self.keys, self.key_bytes)?;
        writeln!(f, "objects: {} ({} blocks of {} bytes)", self.objects, self.blocks, BLOCK_SIZE)?;
        writeln!(f, "fenced sessions: {}", self.fences)?;
        writeln!(f, "abandoned files: {}", self.orphans)?;
        for what in &self.damage {
            writeln!(f, "damaged: {what}")?;
        }
        if self.damaged > self.damage.len() as u64 {
            writeln!(f, "damaged: {} more", self.damaged - self.damage.len() as u64)?;
        }
        match self.damaged {
            0 => write!(f, "verified: all intact"),
            n => write!(f, "verified: {n} damaged; restore them from a backup"),
        }
    }
}

/// Walks all records and all blocks.
pub(crate) fn verify(bulk: &Bulk) -> VerifyReport {
    let mut report = VerifyReport::default();
    for entry in bulk.kv.entries(&[space::USER]) {
        match entry {
            Ok((key, value)) => {
                report.keys += 1;
                report.key_bytes += (key.len() - 1 + value.len()) as u64;
            }
            Err(e) => report.damage(unwrapped(e)),
        }
    }
    for entry in bulk.kv.entries(&[space::FENCES]) {
        match entry.map(|(raw, _)| parse_fence_key(&raw)) {
            Ok(Some(_)) => report.fences += 1,
            Ok(None) => report.damage("a record of a fence has a malformed key"),
            Err(e) => report.damage(unwrapped(e)),
        }
    }
    for entry in bulk.kv.entries(&[space::MARKS]) {
        if let Err(e) = entry.and_then(|(raw, body)| decode_marks(&raw, &body)) {
            report.damage(unwrapped(e));
        }
    }
    for entry in bulk.kv.entries(&[space::SYSTEM]) {
        if let Err(e) = entry {
            report.damage(unwrapped(e));
        }
    }
    let objects = verify_objects(bulk, &mut report);
    count_orphans(bulk, &objects, &mut report);
    report
}

fn verify_objects(bulk: &Bulk, report: &mut VerifyReport) -> BTreeSet<ObjectId> {
    let mut objects = BTreeSet::new();
    for entry in bulk.kv.entries(&[space::CRCS]) {
        let decoded =
            entry.and_then(|(raw, body)| Ok((parse_chunk_key(&raw), decode_crcs(&raw, &body)?, raw)));
        match decoded {
            Ok((Some((object, chunk)), crcs, _)) => {
                objects.insert(object);
                verify_chunk(bulk, object, chunk, crcs.present(), report);
            }
            Ok((None, _, raw)) => report.damage(format!("{}: malformed key", describe(&raw))),
            Err(e) => report.damage(unwrapped(e)),
        }
    }
    report.objects = objects.len() as u64;
    objects
}

/// Checks blocks against the checksums that count now: those in memory are ahead while a server is running.
fn verify_chunk(bulk: &Bulk, id: ObjectId, chunk: u64, present: u64, report: &mut VerifyReport) {
    let object = match bulk.object(id) {
        Ok(object) => object,
        Err(e) => return report.damage(unwrapped(e)),
    };
    let _io = object.io.read();
    let file = match bulk.file(&object) {
        Ok(file) => file,
        Err(e) => return report.damage(unwrapped(e)),
    };
    let mut whole = vec![0; BLOCK_SIZE as usize];
    for slot in slots(present) {
        let block = chunk * CHUNK_BLOCKS + u64::from(slot);
        let crc = object.state.lock().crc(&bulk.kv, id, block);
        let checked = crc.and_then(|crc| match crc {
            Some(crc) => read_block(&object, &file, block, crc, &mut whole),
            None => Ok(()),
        });
        match checked {
            Ok(()) => report.blocks += 1,
            Err(e) => report.damage(unwrapped(e)),
        }
    }
}

/// Chunks whose blocks are read for one answer: 16 MiB at most.
const CHECK_CHUNKS: usize = 4;

/// Compares the blocks of the first chunks with any, from block `from` on, with their checksums.
pub(crate) fn check_blocks(bulk: &Bulk, id: ObjectId, from: u64) -> Result<BlocksChecked, StoreError> {
    let mut report = VerifyReport::default();
    let mut next = None;
    let prefix = object_prefix(space::CRCS, id);
    let mut looked = 0;
    for raw in bulk.kv.keys(&prefix) {
        let raw = raw?;
        let Some((_, chunk)) = parse_chunk_key(&raw).filter(|(_, chunk)| *chunk >= from / CHUNK_BLOCKS)
        else {
            continue;
        };
        if looked == CHECK_CHUNKS {
            next = Some(chunk * CHUNK_BLOCKS);
            break;
        }
        looked += 1;
        match bulk.kv.crcs(id, chunk) {
            Ok(crcs) => verify_chunk(bulk, id, chunk, crcs.present(), &mut report),
            Err(e) => report.damage(unwrapped(e)),
        }
    }
    Ok(BlocksChecked { intact: report.blocks, damaged: report.damage, next })
}

fn count_orphans(bulk: &Bulk, objects: &BTreeSet<ObjectId>, report: &mut VerifyReport) {
    let mut orphans = 0;
    let walked = bulk.objects.walk(|id| {
        orphans += u64::from(!objects.contains(&id));
        true
    });
    report.orphans = orphans;
    if let Err(e) = walked {
        report.damage(format!("the backing files cannot be listed: {e}"));
    }
}

/// The report says itself what to do about damage.
fn unwrapped(e: StoreError) -> String {
    match e {
        StoreError::Corrupt { what } | StoreError::Io { what } => what,
        other => other.to_string(),
    }
}
