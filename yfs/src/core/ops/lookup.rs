//! Finding inodes and looking at them.

use bytes::Bytes;

use crate::core::cache::Presence;
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::{Layout, Record};
use crate::core::fs::Fs;
use crate::core::locking::{Locked, Place};
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::types::{Attr, Cred, FileKind, Held, Ino, Mode, ROOT, StatFs, Time};

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Creates the root directory (mode 0755, owned by `cred`) if the store has none, and makes it durable.
    pub async fn make_root(&self, cred: Cred) -> Result<(), FsError> {
        attempt!(self.make_root_once(cred))?;
        self.flush_all().await
    }

    async fn make_root_once(&self, cred: Cred) -> Result<(), Step> {
        let held = self.lock(&[(ROOT, Mode::Exclusive)]).await?;
        if let Presence::There(_) = self.presence(&held, ROOT, false).await? {
            return Ok(());
        }
        let mut tx = self.begin(&held)?;
        let root = new_record(ROOT, FileKind::Directory, 0o755, cred, tx.now);
        tx.create(Record { parent: ROOT, ..root }, None);
        Ok(())
    }

    /// The inode that `name` of `parent` stands for; `None` when there is no such name (true while held).
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Held<Option<Attr>, L::Guard>, FsError> {
        let place = Place::new(parent, name)?;
        attempt!(self.lookup_once(place))
    }

    async fn lookup_once(&self, place: Place<'_>) -> Result<Held<Option<Attr>, L::Guard>, Step> {
        let (held, [found]) = self.lock_places([place], Mode::Shared, |_| Mode::Shared, &[]).await?;
        let attr = match found.target {
            Some((ino, _)) => Some(self.named(&held, ino).await?.shown()),
            None => None,
        };
        Ok(held.with(attr))
    }

    /// The attributes of an inode that an entry stands for: it must be there.
    pub(in crate::core) async fn named(&self, held: &Locked<L::Guard>, ino: Ino) -> Result<Record, Step> {
        self.record(held, ino).await.map_err(dangling)
    }

    /// The parent of a directory (`..`); the root is its own.
    pub async fn parent(&self, dir: Ino) -> Result<Ino, FsError> {
        attempt!(self.parent_once(dir))
    }

    pub(in crate::core) async fn parent_once(&self, dir: Ino) -> Result<Ino, Step> {
        let held = self.lock(&[(dir, Mode::Shared)]).await?;
        let record = self.record(&held, dir).await?;
        if record.is_dir() { Ok(record.parent) } else { Err(FsError::NotDir.into()) }
    }

    /// Attributes.
    pub async fn getattr(&self, ino: Ino) -> Result<Held<Attr, L::Guard>, FsError> {
        attempt!(self.getattr_once(ino))
    }

    async fn getattr_once(&self, ino: Ino) -> Result<Held<Attr, L::Guard>, Step> {
        let held = self.lock(&[(ino, Mode::Shared)]).await?;
        let record = self.record(&held, ino).await?;
        Ok(held.with(record.shown()))
    }

    /// The target of a symbolic link.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes, FsError> {
        attempt!(self.readlink_once(ino))
    }

    async fn readlink_once(&self, ino: Ino) -> Result<Bytes, Step> {
        let held = self.lock(&[(ino, Mode::Shared)]).await?;
        self.target(&held, ino).await
    }

    /// Size and space of the store.
    pub async fn statfs(&self) -> Result<StatFs, FsError> {
        Ok(self.0.store.statfs().await?)
    }
}

/// A missing inode that an entry stands for is damage, not an old handle.
pub(in crate::core) fn dangling(step: Step) -> Step {
    match step {
        Step::Fail(FsError::Stale(ino)) => {
            FsError::Io(format!("corrupt record: an entry stands for inode {ino}, which is not in the store"))
                .into()
        }
        other => other,
    }
}

/// Attributes of a new inode without parent.
pub(in crate::core) fn new_record(ino: Ino, kind: FileKind, mode: u32, cred: Cred, now: Time) -> Record {
    let attr = Attr {
        ino,
        kind,
        perm: (mode & 0o7777) as u16,
        nlink: if kind == FileKind::Directory { 2 } else { 1 },
        uid: cred.uid,
        gid: cred.gid,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
    };
    Record { attr, layout: Layout::Inline, parent: 0 }
}
