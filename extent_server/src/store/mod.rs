//! The store behind a server: ordered keys and values, bulk objects, atomic durable commits, fences.
//!
//! [`Store`] assumes nothing about where the bytes lie. [`EmbeddedStore`] keeps them in an embedded LSM store and plain
//! files on this machine; an engine over a distributed object store can stand in its place.

mod apply;
mod blocks;
mod chunk;
mod commit;
mod embedded;
mod fences;
pub(crate) mod fuzzing;
mod health;
mod journal;
mod kv;
mod object;
mod objects;
mod probe;
mod recovery;
mod session_order;
mod snapshots;
mod space;
mod steps;
#[cfg(test)]
mod tests;
mod verify;
mod watermark;

pub use embedded::{EmbeddedStore, OpenError, StoreOptions};
pub use verify::VerifyReport;

pub(crate) use health::Health;
pub(crate) use steps::Step;

use crate::error::StoreError;
use crate::survey::{BlocksChecked, KeysPage, ObjectsPage};
use crate::types::{BootId, ExtentStatus, Key, ObjectId, Op, StatFs, Value};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// What a store's waiting operations return. It does its work whether or not it is polled to the end.
pub type StoreFuture = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// Keys found in order, and whether the range holds more.
pub type Scanned = (Vec<(Key, Value)>, bool);

/// A durable, ordered store of extents.
///
/// `get`, `scan`, `read`, `write`, `statfs` and `verify` may block their thread on a disk or a network, so an
/// asynchronous caller runs them where blocking is allowed. What they return was checked against its checksum.
pub trait Store: Send + Sync + 'static {
    /// Whether calls may block their thread, as they do on a disk. A store all in memory says no, and is called right where
    /// the request arrives.
    fn may_block(&self) -> bool {
        true
    }

    /// The values of the first of `keys`, in order: of all, or of as many as come to about `bytes_max`, and at least one.
    fn get(&self, keys: &[Key], bytes_max: usize) -> Result<Vec<Option<Value>>, StoreError>;

    /// At most `limit` entries with `from <= key < to`, ascending; fewer when they come to about `bytes_max`.
    fn scan(&self, from: &Key, to: &Key, limit: u32, bytes_max: usize) -> Result<Scanned, StoreError>;

    /// The bytes of `ranges` of `object` one after the other; what was never written reads as zeros.
    fn read(&self, object: ObjectId, ranges: &[(u64, u32)]) -> Result<Bytes, StoreError>;

    /// Lays `data` down in `ranges` of `object`. Visible at once; durable only through a commit that names the object
    /// and the returned life of the store.
    fn write(
        &self,
        session: u64,
        object: ObjectId,
        ranges: &[(u64, u32)],
        data: &Bytes,
    ) -> Result<BootId, StoreError>;

    /// Makes the written data of `objects` durable, then applies `ops` in order, which may cut that data as well; all or
    /// nothing, visible together.
    /// Commits of one session take effect in the order in which this was called. `objects` whose [`BootId`] is not this
    /// life's refuse the commit with [`StoreError::Restarted`].
    fn commit(&self, session: u64, ops: Vec<Op>, objects: Vec<(ObjectId, BootId)>) -> StoreFuture;

    /// Refuses `session` for ever. Once answered, nothing of it lands, whatever is still under way, and what it wrote
    /// without committing is given up.
    fn fence(&self, session: u64) -> StoreFuture;

    /// Whether `session` was fenced.
    fn is_fenced(&self, session: u64) -> bool;

    /// How much space there is.
    fn statfs(&self) -> Result<StatFs, StoreError>;

    /// Reads everything back and compares it with its checksums.
    fn verify(&self) -> Result<VerifyReport, StoreError>;

    /// Takes a picture of keys and bulk data as they are now, for [`Store::survey`] and [`Store::survey_objects`].
    fn snapshot(&self) -> Result<u64, StoreError>;

    /// Gives a snapshot up; fine if there is none of that number.
    fn drop_snapshot(&self, snapshot: u64);

    /// Gives up snapshots that were not used for [`SNAPSHOT_IDLE`](crate::survey::SNAPSHOT_IDLE); returns how many
    /// there still are.
    fn drop_idle_snapshots(&self) -> usize;

    /// A page of a snapshot's keys, from `from` on.
    fn survey(&self, snapshot: u64, from: &Key) -> Result<KeysPage, StoreError>;

    /// A page of a snapshot's bulk objects, from `from` on.
    fn survey_objects(&self, snapshot: u64, from: ObjectId) -> Result<ObjectsPage, StoreError>;

    /// Compares some blocks of an object, from block `from` on, with their checksums, as they are now.
    fn check_blocks(&self, object: ObjectId, from: u64) -> Result<BlocksChecked, StoreError>;

    /// Counters and identity; `address` is filled in by the server.
    fn status(&self) -> ExtentStatus;

    /// Resolves once the store has failed for good, with the reason. The process should end then: only opening the
    /// store anew tells what is on the disk.
    fn failed(&self) -> Pin<Box<dyn Future<Output = String> + Send>>;
}
