//! What the core needs from outside: locks, the extent store, the clock, and someone to tell about invalidations.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::errors::{FsError, StoreError};
use super::types::{Ino, Mode, StatFs, Time};

/// Cached global locks, ids = inode numbers.
///
/// What an implementation promises:
/// * A guard excludes other guards of this process as the lock excludes other clients: per id many shared or one
///   exclusive.
/// * Before a lock is given back or downgraded it calls [`super::Fs::revoke`] while no guard on the id exists, lets no
///   new guard be taken until that returned `Ok`, and does not release before. (On `Err` nothing was dropped: call it
///   again after a pause.)
/// * When the session is lost it refuses new guards, calls [`super::Fs::session_lost`], and only after that returned
///   does [`Locks::session`] name another session and are guards of that session given out.
pub trait Locks: Send + Sync + 'static {
    /// Lets go of the locks when dropped; they stay cached.
    type Guard: Send + Sync + 'static;

    /// All of `wants`, if every one is cached in a sufficient mode and free of conflict in this process. Never waits.
    /// The ids are distinct, in any order.
    fn try_acquire(&self, wants: &[(Ino, Mode)]) -> Option<Self::Guard>;

    /// All of `wants`, waiting as long as it takes (up to the implementation's timeout). Never deadlocks with other
    /// `acquire` calls as long as callers that wait while holding a guard only wait for larger ids.
    fn acquire(&self, wants: &[(Ino, Mode)]) -> impl Future<Output = Result<Self::Guard, FsError>> + Send;

    /// `n` fresh ids (never below 2^20), held exclusively by this session and cached.
    fn allocate(&self, n: u32) -> impl Future<Output = Result<Range<Ino>, FsError>> + Send;

    /// The current session.
    fn session(&self) -> u64;

    /// How long what is cached may still be trusted without an answer from the lock service.
    fn lease_left(&self) -> Duration;
}

/// Names one run of the extent server.
pub type BootId = u64;

/// One change of an atomic commit; they apply in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set a key.
    Put {
        /// Key.
        key: Bytes,
        /// New value.
        value: Bytes,
    },
    /// Remove a key; fine if absent.
    Delete {
        /// Key.
        key: Bytes,
    },
    /// Remove all keys that begin so.
    DeletePrefix {
        /// The beginning.
        prefix: Bytes,
    },
    /// Cut a bulk object: whole blocks beyond `size` become holes.
    Truncate {
        /// Object.
        object: Ino,
        /// New size in bytes.
        size: u64,
    },
    /// Remove a bulk object.
    Remove {
        /// Object.
        object: Ino,
    },
}

/// A page of a range scan: keys with values in key order, and whether there are more.
pub type ScanPage = (Vec<(Bytes, Bytes)>, bool);

/// The durable store.
///
/// Calls retry by themselves for the implementation's timeout and then fail with [`StoreError::Unreachable`]. A call
/// that failed or was abandoned never takes effect after a later call of this client was answered.
pub trait Extents: Send + Sync + 'static {
    /// The values of `keys`, in their order.
    fn get(&self, keys: Vec<Bytes>) -> impl Future<Output = Result<Vec<Option<Bytes>>, StoreError>> + Send;

    /// Up to `limit` pairs with `from <= key < to`.
    fn scan(
        &self,
        from: Bytes,
        to: Bytes,
        limit: u32,
    ) -> impl Future<Output = Result<ScanPage, StoreError>> + Send;

    /// The ranges (offset, length) of an object, one after the other; holes and what is beyond the end are zeros.
    fn read(
        &self,
        object: Ino,
        ranges: Vec<(u64, u32)>,
    ) -> impl Future<Output = Result<Bytes, StoreError>> + Send;

    /// Writes ranges of an object, whose bytes stand one after the other in `data`. Durable only after a commit that
    /// names the object with the returned boot id.
    fn write(
        &self,
        session: u64,
        object: Ino,
        ranges: Vec<(u64, u32)>,
        data: Bytes,
    ) -> impl Future<Output = Result<BootId, StoreError>> + Send;

    /// Makes the named objects' data durable and then applies `ops`, all or nothing.
    fn commit(
        &self,
        session: u64,
        ops: Vec<Op>,
        objects: Vec<(Ino, BootId)>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Space.
    fn statfs(&self) -> impl Future<Output = Result<StatFs, StoreError>> + Send;
}

/// The wall clock, for time stamps and for the age of unflushed changes. Nothing that is needed for safety.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Time;
}

/// Told when something the kernel may have cached is no longer protected by a lock. Called with no mutex held, after
/// the new state is published.
pub trait Invalidate: Send + Sync + 'static {
    /// The attributes (and so the data and the listing) of `ino` must be fetched anew.
    fn attributes(&self, ino: Ino);

    /// The entries of `dir` that were handed out must be looked up anew. May take a while (it may wait for the kernel).
    fn entries(&self, dir: Ino);

    /// All of the above, for everything: the session was lost.
    fn everything(&self) {}
}

impl<T: Invalidate + ?Sized> Invalidate for Arc<T> {
    fn attributes(&self, ino: Ino) {
        (**self).attributes(ino);
    }
    fn entries(&self, dir: Ino) {
        (**self).entries(dir);
    }
    fn everything(&self) {
        (**self).everything();
    }
}

/// For who has no kernel to tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKernel;

impl Invalidate for NoKernel {
    fn attributes(&self, _ino: Ino) {}
    fn entries(&self, _dir: Ino) {}
}
