//! The file system as its users hold it. The operations themselves are in `ops/`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::Mutex;

use super::cache::State;
use super::event::Event;
use super::flush::Flushing;
use super::traits::{Clock, Extents, Invalidate, Locks};

/// Bounds of the core's memory and batches.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Cached inodes (clean ones are dropped beyond it).
    pub inodes_max: usize,
    /// Cached directory entries over all directories (clean ones are dropped beyond it).
    pub entries_max: usize,
    /// Cached clean file data, in bytes.
    pub clean_bytes_max: usize,
    /// Unflushed changes, in bytes: who wants to change more waits for a flush.
    pub dirty_bytes_max: usize,
    /// A generation is closed when it holds this many bytes of file data…
    pub generation_bytes_max: usize,
    /// …or this many records.
    pub generation_records_max: usize,
    /// A change is flushed by [`Fs::flush_due`] when it is this old.
    pub flush_after: Duration,
    /// The largest read-ahead of a sequential reader, in bytes.
    pub read_ahead_max: u64,
    /// Inode numbers asked for at once.
    pub allocate_batch: u32,
    /// Entries read from the store at once; a directory with at most as many is read whole at its first use.
    pub scan_page: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            inodes_max: 200_000,
            entries_max: 1_000_000,
            clean_bytes_max: 256 << 20,
            dirty_bytes_max: 128 << 20,
            generation_bytes_max: 32 << 20,
            generation_records_max: 8192,
            flush_after: Duration::from_secs(2),
            read_ahead_max: 2 << 20,
            allocate_batch: 512,
            scan_page: 1000,
        }
    }
}

/// A file system on locks `L`, store `E` and clock `C`. Clones are handles to the same.
pub struct Fs<L, E, C>(pub(super) Arc<Inner<L, E, C>>);

pub(super) struct Inner<L, E, C> {
    pub locks: L,
    pub store: E,
    pub clock: C,
    pub invalidate: Arc<dyn Invalidate>,
    pub limits: Limits,
    /// Lock order: `flushing` is never held together with `state`. Neither is ever held across an await, or while
    /// calling locks, store or invalidate.
    pub state: Mutex<State>,
    pub flushing: Mutex<Option<Flushing>>,
    /// One request for fresh inode numbers at a time.
    pub refill: AsyncMutex<()>,
    /// A block was fetched (or its fetcher gave up).
    pub fetched: Event,
    /// There are closed generations.
    pub to_flush: Event,
    /// Fresh inode numbers run low.
    pub to_refill: Event,
    /// There are wishes of readers.
    pub to_fetch: Event,
}

impl<L, E, C> Clone for Fs<L, E, C> {
    fn clone(&self) -> Self {
        Fs(self.0.clone())
    }
}

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// A file system with nothing cached. Call [`Fs::make_root`] once before use.
    pub fn new(locks: L, store: E, clock: C, invalidate: Arc<dyn Invalidate>, limits: Limits) -> Self {
        Fs(Arc::new(Inner {
            locks,
            store,
            clock,
            invalidate,
            limits,
            state: Mutex::new(State::new()),
            flushing: Mutex::new(None),
            refill: AsyncMutex::new(()),
            fetched: Event::default(),
            to_flush: Event::default(),
            to_refill: Event::default(),
            to_fetch: Event::default(),
        }))
    }

    /// The locks it works under.
    pub fn locks(&self) -> &L {
        &self.0.locks
    }

    /// The bounds it keeps.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }
}
