//! What a client has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of a lock client since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LockStats {
    /// Acquisitions served from cached locks without waiting.
    pub hits: u64,
    /// Acquisitions that had to wait, for the server or for another operation of this process.
    pub waits: u64,
    /// Acquire commands sent, each for one or many locks.
    pub acquire_rpcs: u64,
    /// Locks asked for in these.
    pub locks_asked: u64,
    /// Release commands sent, each for one or many locks.
    pub release_rpcs: u64,
    /// Locks given back or downgraded in these.
    pub locks_given: u64,
    /// Allocate commands sent.
    pub allocate_rpcs: u64,
    /// Locks named in pushed grants.
    pub grants: u64,
    /// Locks named in pushed revokes.
    pub revokes: u64,
    /// Locks given back because too many were idle.
    pub evicted: u64,
    /// Keepalives answered.
    pub keepalives: u64,
    /// Sessions opened; each beyond the first followed a lost one.
    pub sessions: u64,
    /// Locks held now, cached ones included.
    pub held: u64,
}

/// The counters that are not kept with the locks themselves.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) waits: Counter,
    pub(super) acquire_rpcs: Counter,
    pub(super) locks_asked: Counter,
    pub(super) release_rpcs: Counter,
    pub(super) locks_given: Counter,
    pub(super) allocate_rpcs: Counter,
    pub(super) grants: Counter,
    pub(super) revokes: Counter,
    pub(super) evicted: Counter,
    pub(super) keepalives: Counter,
    pub(super) sessions: Counter,
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub(super) fn read(&self, hits: u64, held: u64) -> LockStats {
        LockStats {
            hits,
            waits: self.waits.get(),
            acquire_rpcs: self.acquire_rpcs.get(),
            locks_asked: self.locks_asked.get(),
            release_rpcs: self.release_rpcs.get(),
            locks_given: self.locks_given.get(),
            allocate_rpcs: self.allocate_rpcs.get(),
            grants: self.grants.get(),
            revokes: self.revokes.get(),
            evicted: self.evicted.get(),
            keepalives: self.keepalives.get(),
            sessions: self.sessions.get(),
            held,
        }
    }
}
