//! Taking names away.

use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::Record;
use crate::core::fs::Fs;
use crate::core::locking::Place;
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::tx::Tx;
use crate::core::types::{FileKind, Ino, Mode};

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Removes a name that is not a directory's, and with its last name the inode, once nobody has it open.
    pub async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        let place = Place::new(parent, name)?;
        self.make_room(false).await?;
        attempt!(self.unlink_once(place))
    }

    async fn unlink_once(&self, place: Place<'_>) -> Result<(), Step> {
        let (held, [found]) = self.lock_places([place], Mode::Exclusive, |_| Mode::Exclusive, &[]).await?;
        let Some((ino, kind)) = found.target else { return Err(FsError::NotFound.into()) };
        if kind == FileKind::Directory {
            return Err(FsError::IsDir.into());
        }
        let (record, opened) = self.record_exclusive(&held, ino).await.map_err(super::lookup::dangling)?;
        let mut dir = found.dir;
        let mut tx = self.begin(&held)?;
        tx.set_entry(&mut dir, place.name, found.target, None);
        tx.put(dir);
        drop_name(&mut tx, record, opened);
        Ok(())
    }

    /// Removes an empty directory.
    pub async fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<(), FsError> {
        let place = Place::new(parent, name)?;
        self.make_room(false).await?;
        attempt!(self.rmdir_once(place))
    }

    async fn rmdir_once(&self, place: Place<'_>) -> Result<(), Step> {
        let (held, [found]) = self.lock_places([place], Mode::Exclusive, |_| Mode::Exclusive, &[]).await?;
        let Some((ino, kind)) = found.target else { return Err(FsError::NotFound.into()) };
        if kind != FileKind::Directory {
            return Err(FsError::NotDir.into());
        }
        let record = self.named(&held, ino).await?;
        refuse_full(&record)?;
        let mut dir = found.dir;
        let mut tx = self.begin(&held)?;
        tx.set_entry(&mut dir, place.name, found.target, None);
        tx.put(dir);
        tx.remove(&record);
        Ok(())
    }
}

/// `NotEmpty` for a directory with entries.
pub(super) fn refuse_full(dir: &Record) -> Result<(), FsError> {
    if dir.attr.size > 0 { Err(FsError::NotEmpty) } else { Ok(()) }
}

/// An inode loses a name: a directory all of itself, a file with its last name too, unless someone has it open (then
/// it stays as an orphan).
pub(super) fn drop_name(tx: &mut Tx<'_>, mut record: Record, opened_elsewhere: bool) {
    if record.is_dir() || record.attr.nlink <= 1 && !opened_elsewhere && !is_open(tx, record.attr.ino) {
        tx.remove(&record);
        return;
    }
    record.attr.nlink -= 1;
    record.changed(tx.now);
    tx.put(record);
    if record.attr.nlink == 0 {
        tx.set_orphan(record.attr.ino, true);
        if let Some(file) = tx.files.get_mut(&record.attr.ino) {
            file.unlinked = true;
        }
    }
}

fn is_open(tx: &Tx<'_>, ino: Ino) -> bool {
    tx.files.get(&ino).is_some_and(|f| f.count > 0)
}
