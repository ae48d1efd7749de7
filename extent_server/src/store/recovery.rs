//! What a store does after it was opened: recompute what a crash left in doubt, give back what nothing refers to, and
//! look after itself from then on.

use super::blocks::{Bulk, read_padded};
use super::chunk::{Crcs, slots};
use super::health::Health;
use super::kv::{Kv, decode_marks};
use super::probe::Point;
use super::steps::{Step, parse_chunk_key, space};
use super::watermark::Watermark;
use crate::error::StoreError;
use crate::group_commit::Batch;
use crate::types::{BLOCK_SIZE, ObjectId};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);

/// Gives every marked block the checksum of what it holds now: it was being overwritten when the last life of the store
/// ended, and holds old bytes, new ones, or some of both, as a local file would.
pub(crate) fn recompute_marked(bulk: &Bulk) -> Result<(), StoreError> {
    let mut marked: BTreeMap<ObjectId, Vec<(u64, u64)>> = BTreeMap::new();
    for entry in bulk.kv.entries(&[space::MARKS]) {
        let (raw, body) = entry?;
        let Some((object, chunk)) = parse_chunk_key(&raw) else {
            return Err(StoreError::Corrupt { what: "a record of marks has a malformed key".to_string() });
        };
        marked.entry(object).or_default().push((chunk, decode_marks(&raw, &body)?));
    }
    for (object, chunks) in marked {
        let blocks: u32 = chunks.iter().map(|(_, bits)| bits.count_ones()).sum();
        match recompute_object(bulk, object, &chunks) {
            Ok(()) => tracing::info!(
                "object {object:#x}: {blocks} blocks were being overwritten, checksums renewed"
            ),
            // Their old checksums stay, so that they read as corrupt rather than wrong.
            Err(e) => {
                tracing::error!("object {object:#x}: {blocks} blocks were being overwritten and stay so: {e}")
            }
        }
        bulk.health.check()?;
    }
    Ok(())
}

fn recompute_object(bulk: &Bulk, id: ObjectId, chunks: &[(u64, u64)]) -> Result<(), StoreError> {
    let object = bulk.object(id)?;
    let file = bulk.file(&object)?;
    // What we read may be in the page cache only; its checksum must not outlive it.
    file.sync_data().map_err(|e| bulk.io_error(&object, &e))?;
    bulk.probe(Point::AfterSync(id))?;
    let mut steps = Vec::new();
    for &(chunk, bits) in chunks {
        let known = bulk.kv.crcs(id, chunk)?;
        let mut crcs = Crcs::default();
        for slot in slots(bits & known.present()) {
            let block = chunk * super::chunk::CHUNK_BLOCKS + u64::from(slot);
            let mut whole = vec![0; BLOCK_SIZE as usize];
            read_padded(&file, block * BLOCK_SIZE, &mut whole).map_err(|e| bulk.io_error(&object, &e))?;
            crcs.set(slot, crc32fast::hash(&whole));
        }
        steps.push(Step::SetCrcs { object: id, chunk, crcs: Box::new(crcs) });
    }
    bulk.group.submit(Batch { session: None, steps }).wait()
}

/// The store's own threads; they end when this is dropped.
pub(crate) struct Background {
    stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits for a tick; whether to stop.
    fn tick(&self) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, TICK);
        }
        *stopped
    }
}

impl Background {
    /// Syncs the watermark, and notices when the tree's own background work fails (a full disk, say): it would
    /// otherwise stall commits without a word.
    pub(crate) fn start(
        kv: Arc<Kv>,
        watermark: Arc<Watermark>,
        health: Arc<Health>,
    ) -> io::Result<Background> {
        let background = Background { stop: Arc::default(), threads: Mutex::default() };
        let stop = background.stop.clone();
        background.spawn("store-upkeep", move || {
            loop {
                let last = stop.tick();
                if let Err(e) = watermark.sync() {
                    tracing::warn!("cannot sync the watermark: {e}");
                }
                if let Err(e) = kv.probe() {
                    health.fail(format!("its log or its background work failed: {e}"));
                }
                if last {
                    return;
                }
            }
        })?;
        Ok(background)
    }

    /// Gives back the space of files, or ends of files, without a block that has a checksum.
    pub(crate) fn sweep(&self, bulk: &Arc<Bulk>) {
        let (bulk, stop) = (bulk.clone(), self.stop.clone());
        let spawned = self.spawn("store-sweep", move || {
            let mut swept = 0;
            let walked = bulk.objects.walk(|id| {
                match sweep_object(&bulk, id) {
                    Ok(reclaimed) => swept += u64::from(reclaimed),
                    Err(e) => tracing::warn!("object {id:#x} was not swept: {e}"),
                }
                !stop.is_set()
            });
            match walked {
                Ok(()) if swept > 0 => tracing::info!("gave back the space of {swept} abandoned files"),
                Ok(()) => {}
                Err(e) => tracing::warn!("cannot look for abandoned files: {e}"),
            }
        });
        if let Err(e) = spawned {
            tracing::warn!("cannot look for abandoned files: {e}");
        }
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(work)?;
        self.threads.lock().push(thread);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.changed.notify_all();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread of the store panicked");
            }
        }
    }
}

/// Cuts one file to its last block with a checksum; whether there was anything to cut.
pub(crate) fn sweep_object(bulk: &Bulk, id: ObjectId) -> Result<bool, StoreError> {
    let size = match std::fs::metadata(bulk.objects.path(id)) {
        Ok(found) => found.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(StoreError::from_io(bulk.objects.path(id).display(), &e)),
    };
    // A look without locks first: nearly all files are in order.
    if size > 0 && size <= bulk.kv.end_of_object(id)? * BLOCK_SIZE {
        return Ok(false);
    }
    let object = bulk.object(id)?;
    let _commits = object.commits.lock();
    let _writer = object.writer.lock();
    let _io = object.io.write();
    let in_memory = object.state.lock().present_from(0).last().map_or(0, |block| block + 1);
    let end = bulk.kv.end_of_object(id)?.max(in_memory) * BLOCK_SIZE;
    if end == 0 {
        object.state.lock().created = false;
        bulk.objects.unlink(&object).map_err(|e| bulk.io_error(&object, &e))?;
        return Ok(true);
    }
    let Some(file) = bulk.objects.file(&object, false).map_err(|e| bulk.io_error(&object, &e))? else {
        return Ok(false);
    };
    let resize = || -> io::Result<bool> {
        let longer = file.metadata()?.len() > end;
        if longer {
            file.set_len(end)?;
        }
        Ok(longer)
    };
    resize().map_err(|e| bulk.io_error(&object, &e))
}
