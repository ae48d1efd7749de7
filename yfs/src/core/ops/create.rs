//! Making inodes and names.

use bytes::Bytes;

use super::lookup::new_record;
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::Record;
use crate::core::fs::Fs;
use crate::core::locking::{Locked, Place};
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::types::{Attr, Cred, FileKind, Held, Ino, LINK_MAX, Mode, OpenFlags, SYMLINK_MAX};

const S_ISGID: u16 = 0o2000;

/// What is to be made.
struct New {
    kind: FileKind,
    mode: u32,
    rdev: u32,
    target: Option<Bytes>,
    cred: Cred,
    open: bool,
}

impl New {
    fn plain(kind: FileKind, mode: u32, cred: Cred) -> New {
        New { kind, mode, rdev: 0, target: None, cred, open: false }
    }

    fn record(&self, ino: Ino, dir: &Record, now: crate::core::types::Time) -> Record {
        let mut record = new_record(ino, self.kind, self.mode, self.cred, now);
        record.attr.rdev = self.rdev;
        record.attr.size = self.target.as_ref().map_or(0, |t| t.len() as u64);
        if dir.attr.perm & S_ISGID != 0 {
            record.attr.gid = dir.attr.gid;
        }
        if record.is_dir() {
            record.parent = dir.attr.ino;
            record.attr.perm |= dir.attr.perm & S_ISGID;
        }
        record
    }
}

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Creates a regular file, or with `!flags.exclusive` takes the existing one, and opens it: count one
    /// [`Fs::release`] against it. An existing directory gives `IsDir`.
    pub async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        cred: Cred,
        flags: OpenFlags,
    ) -> Result<Held<Attr, L::Guard>, FsError> {
        let place = Place::new(parent, name)?;
        self.make_room(true).await?;
        let new = New { open: true, ..New::plain(FileKind::Regular, mode, cred) };
        attempt!(self.create_once(place, &new, flags))
    }

    async fn create_once(
        &self,
        place: Place<'_>,
        new: &New,
        flags: OpenFlags,
    ) -> Result<Held<Attr, L::Guard>, Step> {
        let child = if flags.truncate { Mode::Exclusive } else { Mode::Shared };
        let (held, [found]) = self.lock_places([place], Mode::Exclusive, |_| child, &[]).await?;
        match found.target {
            None => self.make(held, place.name, found.dir, new).await,
            Some(_) if flags.exclusive => Err(FsError::Exists.into()),
            Some((_, FileKind::Directory)) => Err(FsError::IsDir.into()),
            Some((ino, _)) => {
                let record = self.named(&held, ino).await?;
                let attr = self.open_held(&held, record, flags)?;
                Ok(held.with(attr))
            }
        }
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
    ) -> Result<Held<Attr, L::Guard>, FsError> {
        if matches!(kind, FileKind::Directory | FileKind::Symlink) {
            return Err(FsError::Invalid("mknod makes no directories and symbolic links"));
        }
        self.make_new(parent, name, New { rdev, ..New::plain(kind, mode, cred) }).await
    }

    /// Creates a directory.
    pub async fn mkdir(
        &self,
        parent: Ino,
        name: &[u8],
        mode: u32,
        cred: Cred,
    ) -> Result<Held<Attr, L::Guard>, FsError> {
        self.make_new(parent, name, New::plain(FileKind::Directory, mode, cred)).await
    }

    /// Creates a symbolic link.
    pub async fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        cred: Cred,
    ) -> Result<Held<Attr, L::Guard>, FsError> {
        if target.len() > SYMLINK_MAX {
            return Err(FsError::NameTooLong);
        }
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        let target = Some(Bytes::copy_from_slice(target));
        self.make_new(parent, name, New { target, ..New::plain(FileKind::Symlink, 0o777, cred) }).await
    }

    async fn make_new(&self, parent: Ino, name: &[u8], new: New) -> Result<Held<Attr, L::Guard>, FsError> {
        let place = Place::new(parent, name)?;
        self.make_room(true).await?;
        attempt!(self.make_once(place, &new))
    }

    async fn make_once(&self, place: Place<'_>, new: &New) -> Result<Held<Attr, L::Guard>, Step> {
        let held = self.lock(&[(place.dir, Mode::Exclusive)]).await?;
        let dir = self.record(&held, place.dir).await?;
        match self.entry(&held, &dir, place.name).await? {
            Some(_) => Err(FsError::Exists.into()),
            None => self.make(held, place.name, dir, new).await,
        }
    }

    /// Makes an inode and its name, which the exclusively held directory does not have.
    async fn make(
        &self,
        mut held: Locked<L::Guard>,
        name: &[u8],
        dir: Record,
        new: &New,
    ) -> Result<Held<Attr, L::Guard>, Step> {
        if dir.attr.nlink == 0 {
            return Err(FsError::NotFound.into());
        }
        if new.kind == FileKind::Directory && dir.attr.nlink >= LINK_MAX {
            return Err(FsError::TooManyLinks.into());
        }
        let ino = loop {
            let ino = match self.take_fresh(held.epoch).await {
                Err(FsError::Lost) => return Err(Step::Again),
                other => other?,
            };
            // Its lock may have been given back since it was allocated; then it is not ours any more.
            if self.try_lock_more(&mut held, (ino, Mode::Exclusive)) {
                break ino;
            }
        };
        let attr = self.put_new(&held, name, dir, new, ino)?;
        Ok(held.with(attr))
    }

    fn put_new(
        &self,
        held: &Locked<L::Guard>,
        name: &[u8],
        mut dir: Record,
        new: &New,
        ino: Ino,
    ) -> Result<Attr, Step> {
        let mut tx = self.begin(held)?;
        let record = new.record(ino, &dir, tx.now);
        tx.set_entry(&mut dir, name, None, Some((ino, new.kind)));
        tx.put(dir);
        tx.create(record, new.target.clone());
        if new.open {
            tx.files.entry(ino).or_default().count += 1;
        }
        Ok(record.shown())
    }

    /// Gives an inode another name.
    pub async fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Held<Attr, L::Guard>, FsError> {
        let place = Place::new(parent, name)?;
        self.make_room(true).await?;
        attempt!(self.link_once(ino, place))
    }

    async fn link_once(&self, ino: Ino, place: Place<'_>) -> Result<Held<Attr, L::Guard>, Step> {
        let wants = [(place.dir, Mode::Exclusive), (ino, Mode::Exclusive)];
        let held = self.lock(&wants).await?;
        let mut record = self.record(&held, ino).await?;
        if record.is_dir() {
            return Err(FsError::NotPermitted.into());
        }
        let mut dir = self.record(&held, place.dir).await?;
        if self.entry(&held, &dir, place.name).await?.is_some() {
            return Err(FsError::Exists.into());
        }
        if dir.attr.nlink == 0 || record.attr.nlink == 0 {
            return Err(FsError::NotFound.into());
        }
        if record.attr.nlink >= LINK_MAX {
            return Err(FsError::TooManyLinks.into());
        }
        let attr = {
            let mut tx = self.begin(&held)?;
            record.attr.nlink += 1;
            record.changed(tx.now);
            tx.set_entry(&mut dir, place.name, None, Some((ino, record.attr.kind)));
            tx.put(dir);
            tx.put(record);
            record.shown()
        };
        Ok(held.with(attr))
    }
}
