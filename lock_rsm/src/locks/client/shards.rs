//! The locks of a client, spread over mutexes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::LockError;
use super::state::{Effects, LockState};
use crate::locks::protocol::{LockId, Mode, Stamp};

/// Wakes a waiting operation: the epoch under which it has the lock, or why it will not get it.
pub(super) type Wake = oneshot::Sender<Result<u64, LockError>>;

const SHARDS: usize = 64;

/// One mutex in a cache line of its own. No other lock is taken and nothing is awaited while one is held.
#[repr(align(128))]
struct Slot(Mutex<Shard>);

pub(super) struct Shards(Box<[Slot]>);

/// Some of the locks.
#[derive(Default)]
pub(super) struct Shard {
    /// Counts the sessions lost; answers to commands sent under another epoch are void.
    pub(super) epoch: u64,
    /// No lock that has been forgotten here was known at a later stamp.
    floor: Stamp,
    tickets: u64,
    /// Acquisitions served without any waiting.
    pub(super) hits: u64,
    pub(super) locks: HashMap<LockId, LockState<Wake>, BuildHasherDefault<IdHasher>>,
}

/// What an event on a lock leaves to be done outside of the mutex.
pub(super) struct Outcome {
    pub(super) epoch: u64,
    pub(super) effects: Effects<Wake>,
    /// How the number of held locks changed.
    pub(super) held: isize,
}

impl Shards {
    pub(super) fn new() -> Self {
        Shards((0..SHARDS).map(|_| Slot(Mutex::new(Shard::default()))).collect())
    }

    pub(super) fn of(&self, id: LockId) -> MutexGuard<'_, Shard> {
        self.0[(spread(id) >> 32) as usize % SHARDS].0.lock()
    }

    pub(super) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.0.iter().map(|slot| slot.0.lock())
    }
}

impl Shard {
    /// Takes a lock if that needs no waiting.
    pub(super) fn try_enter(&mut self, id: LockId, mode: Mode, now: u64) -> bool {
        self.locks.get_mut(&id).is_some_and(|lock| lock.try_enter(mode, now))
    }

    /// A number for a waiting operation.
    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Applies an event to a lock and wakes whoever is served. Waking under the mutex makes being served one step with
    /// knowing it, so that an operation that gives up at that moment can tell which of the two it must undo.
    pub(super) fn event(
        &mut self,
        id: LockId,
        event: impl FnOnce(&mut LockState<Wake>) -> Effects<Wake>,
    ) -> Outcome {
        let floor = self.floor;
        let lock = self.locks.entry(id).or_insert_with(|| LockState::new(floor));
        let before = lock.held().is_some();
        let mut effects = event(lock);
        let held = isize::from(lock.held().is_some()) - isize::from(before);
        for wake in effects.wake.drain(..) {
            // The receiver may be gone; then the operation undoes its part itself.
            let _ = wake.send(Ok(self.epoch));
        }
        if lock.is_forgettable() {
            self.floor = self.floor.max(lock.known());
            self.locks.remove(&id);
        }
        Outcome { epoch: self.epoch, effects, held }
    }
}

/// Lock ids are spread by one multiplication; they come from our own server, not from an adversary.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = spread(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = spread(id);
    }
}

fn spread(id: u64) -> u64 {
    let x = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}
