//! The file system as its users see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::errors::FsError;
use super::traits::{Clock, Extents, Invalidate, Locks};
use super::types::{
    Attr, Cred, DirEntry, FileKind, Held, Ino, Mode, OpenFlags, RenameFlags, SetAttr, StatFs, Time,
};

/// Bounds of the core's memory and batches.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Cached inodes (clean ones are dropped beyond it).
    pub inodes_max: usize,
    /// Cached directory entries over all directories (clean ones are dropped beyond it).
    pub entries_max: usize,
    /// Cached clean file data, in bytes.
    pub clean_bytes_max: usize,
    /// Unflushed file data, in bytes: a writer beyond it waits for a flush.
    pub dirty_bytes_max: usize,
    /// A generation is closed when it holds this many bytes of file data…
    pub generation_bytes_max: usize,
    /// …or this many records.
    pub generation_records_max: usize,
    /// A change is flushed by [`Fs::flush_due`] when it is this old.
    pub flush_after: Duration,
    /// The largest read-ahead of a sequential reader, in bytes.
    pub read_ahead_max: usize,
    /// Inode numbers asked for at once.
    pub allocate_batch: u32,
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
        }
    }
}

/// A file system on locks `L`, store `E` and clock `C`. Clones are handles to the same.
pub struct Fs<L, E, C>(Arc<Inner<L, E, C>>);

#[allow(dead_code)]
struct Inner<L, E, C> {
    locks: L,
    store: E,
    clock: C,
    invalidate: Arc<dyn Invalidate>,
    limits: Limits,
}

impl<L, E, C> Clone for Fs<L, E, C> {
    fn clone(&self) -> Self {
        Fs(self.0.clone())
    }
}

type Result<T> = std::result::Result<T, FsError>;
const LATER: FsError = FsError::Busy;

#[allow(dead_code, unused_variables, clippy::unused_async, missing_docs)]
impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// A file system with nothing cached. Call [`Fs::make_root`] once before use.
    pub fn new(locks: L, store: E, clock: C, invalidate: Arc<dyn Invalidate>, limits: Limits) -> Self {
        Fs(Arc::new(Inner { locks, store, clock, invalidate, limits }))
    }

    /// The locks it works under.
    pub fn locks(&self) -> &L {
        &self.0.locks
    }

    /// Creates the root directory (mode 0755, owned by `cred`) if the store has none.
    pub async fn make_root(&self, cred: Cred) -> Result<()> {
        Err(LATER)
    }

    /// The inode that `name` of `parent` stands for; `None` when there is no such name (true while held).
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Held<Option<Attr>, L::Guard>> {
        Err(LATER)
    }

    /// The parent of a directory (`..`); the root is its own.
    pub async fn parent(&self, dir: Ino) -> Result<Ino> {
        Err(LATER)
    }

    /// Attributes.
    pub async fn getattr(&self, ino: Ino) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    /// Changes attributes; a size cuts or grows.
    pub async fn setattr(&self, ino: Ino, set: SetAttr, cred: Cred) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    /// Creates a regular file, or with `!flags.exclusive` takes the existing one, and opens it: count one
    /// [`Fs::release`] against it. An existing directory gives `IsDir`.
    pub async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        cred: Cred,
        flags: OpenFlags,
    ) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    /// Creates a file, pipe, socket or device node (not a directory or symlink) without opening it.
    pub async fn mknod(
        &self,
        parent: Ino,
        name: &[u8],
        kind: FileKind,
        mode: u32,
        rdev: u32,
        cred: Cred,
    ) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    pub async fn mkdir(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        cred: Cred,
    ) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    pub async fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        cred: Cred,
    ) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    pub async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        Err(LATER)
    }

    pub async fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    pub async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        Err(LATER)
    }

    pub async fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        Err(LATER)
    }

    pub async fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        Err(LATER)
    }

    /// Opens a file or directory: it stays usable after its last name is gone until as many [`Fs::release`].
    pub async fn open(&self, ino: Ino, flags: OpenFlags) -> Result<Held<Attr, L::Guard>> {
        Err(LATER)
    }

    /// Ends one open. Never report its error to an application: it has been told by [`Fs::flush`].
    pub async fn release(&self, ino: Ino) -> Result<()> {
        Err(LATER)
    }

    /// What `close(2)` waits for (the FLUSH request): writes nothing, but tells once what was lost (EIO) or does not
    /// fit (ENOSPC).
    pub async fn flush(&self, ino: Ino) -> Result<()> {
        Err(LATER)
    }

    /// Makes everything that happened to this inode (and before it on this mount) durable. Also for directories.
    pub async fn fsync(&self, ino: Ino) -> Result<()> {
        Err(LATER)
    }

    /// Up to `len` bytes from `offset`; fewer only at the end of the file.
    pub async fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes> {
        Err(LATER)
    }

    /// Writes all of `data` at `offset`, or with `append` at the true end. A writer other than root clears set-uid
    /// and set-gid.
    pub async fn write(&self, ino: Ino, offset: u64, data: Bytes, append: bool, cred: Cred) -> Result<u32> {
        Err(LATER)
    }

    /// Up to `limit` entries behind cookie `after` (0 = from the start), without `.` and `..`; with `attrs` their
    /// attributes too. An empty answer is the end.
    pub async fn readdir(
        &self,
        dir: Ino,
        after: u64,
        limit: usize,
        attrs: bool,
    ) -> Result<Held<Vec<DirEntry>, L::Guard>> {
        Err(LATER)
    }

    pub async fn statfs(&self) -> Result<StatFs> {
        Err(LATER)
    }

    /// Flushes everything that has happened so far (unmount, `sync`).
    pub async fn flush_all(&self) -> Result<()> {
        Err(LATER)
    }

    /// Flushes what is older than [`Limits::flush_after`]; call it every few hundred milliseconds.
    pub async fn flush_due(&self, now: Time) -> Result<()> {
        Err(LATER)
    }

    /// Work nobody waits for: early flushes, fresh inode numbers, read-ahead, orphans. Never returns; run it in one
    /// task. Nothing depends on it but speed.
    pub async fn background(&self) {}

    /// A lock is to be given back (`keep` = `None`) or downgraded (`Some(Shared)`): flushes what depends on it, drops
    /// what may not be kept, tells the kernel. On an error nothing was dropped and the lock must not be released:
    /// call again after a pause.
    pub async fn revoke(&self, ino: Ino, keep: Option<Mode>) -> Result<()> {
        Err(LATER)
    }

    /// The session and all its locks are gone: forgets everything, remembers which files lost changes.
    pub fn session_lost(&self) {}

    /// Removes unlinked inodes whose openers are all gone; returns how many. Call it at mount and now and then.
    pub async fn reclaim_orphans(&self) -> Result<usize> {
        Err(LATER)
    }
}
