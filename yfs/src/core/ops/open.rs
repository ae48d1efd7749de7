//! Opening and closing. An open file is counted here; the kernel does the rest.

use crate::core::cache::{OpenFile, Presence};
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::{self, Record};
use crate::core::fs::Fs;
use crate::core::locking::Locked;
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::types::{Attr, FileKind, Held, Ino, Mode, OpenFlags};

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Opens a file: it stays usable after its last name is gone until as many [`Fs::release`]. A directory may be
    /// opened and released too, but is not counted: once removed, its listing is empty.
    pub async fn open(&self, ino: Ino, flags: OpenFlags) -> Result<Held<Attr, L::Guard>, FsError> {
        if flags.truncate {
            self.make_room(false).await?;
        }
        attempt!(self.open_once(ino, flags))
    }

    async fn open_once(&self, ino: Ino, flags: OpenFlags) -> Result<Held<Attr, L::Guard>, Step> {
        let mode = if flags.truncate { Mode::Exclusive } else { Mode::Shared };
        let held = self.lock(&[(ino, mode)]).await?;
        let record = self.record(&held, ino).await?;
        let attr = self.open_held(&held, record, flags)?;
        Ok(held.with(attr))
    }

    /// Opens an inode that is held, exclusively if it is to be truncated.
    pub(super) fn open_held(
        &self,
        held: &Locked<L::Guard>,
        mut record: Record,
        flags: OpenFlags,
    ) -> Result<Attr, Step> {
        match record.attr.kind {
            FileKind::Directory if flags.truncate => return Err(FsError::IsDir.into()),
            FileKind::Directory => return Ok(record.shown()),
            FileKind::Regular if flags.truncate => {
                let mut tx = self.begin(held)?;
                tx.resize(&mut record, 0, None);
                record.modified(tx.now);
                tx.put(record);
            }
            _ => {}
        }
        self.with_state(held, |st| st.files.entry(record.attr.ino).or_default().count += 1)?;
        Ok(record.shown())
    }

    /// Ends one open. Its error is not the application's: that has been told by [`Fs::flush`].
    pub async fn release(&self, ino: Ino) -> Result<(), FsError> {
        {
            let mut st = self.0.state.lock();
            let Some(file) = st.files.get_mut(&ino) else { return Ok(()) };
            file.count = file.count.saturating_sub(1);
            if file.count > 0 {
                return Ok(());
            }
            if !file.recorded && !file.unlinked {
                st.files.remove(&ino);
                return Ok(());
            }
        }
        attempt!(self.last_close_once(ino))
    }

    /// The last close here of a file of which others may know that we had it open, or that has no name.
    async fn last_close_once(&self, ino: Ino) -> Result<(), Step> {
        let unlinked = |file: Option<&OpenFile>| file.is_some_and(|f| f.unlinked);
        let mut mode = Mode::Shared;
        if unlinked(self.0.state.lock().files.get(&ino)) {
            mode = Mode::Exclusive;
        }
        loop {
            let held = self.lock(&[(ino, mode)]).await?;
            let presence = self.presence(&held, ino, mode == Mode::Exclusive).await?;
            let Presence::There(record) = presence else {
                self.with_state(&held, |st| {
                    closed(st.files.get(&ino).copied()).then(|| st.files.remove(&ino))
                })?;
                return Ok(());
            };
            if record.attr.nlink > 0 {
                return self.forget_opener(&held, ino);
            }
            if mode == Mode::Exclusive {
                let opened = self.opened_elsewhere(&held, ino).await?;
                return self.close_orphan(&held, record, opened);
            }
            mode = Mode::Exclusive;
        }
    }

    fn forget_opener(&self, held: &Locked<L::Guard>, ino: Ino) -> Result<(), Step> {
        let mut tx = self.begin(held)?;
        let file = tx.files.get(&ino).copied();
        if !closed(file) {
            return Ok(());
        }
        tx.files.remove(&ino);
        if file.is_some_and(|f| f.recorded) {
            let key = format::opener_key(ino, tx.session());
            tx.set_mark(ino, key, true, None);
        }
        Ok(())
    }

    /// Nobody here has the nameless inode open any more: it goes, or is left to the last one elsewhere.
    fn close_orphan(&self, held: &Locked<L::Guard>, record: Record, opened: bool) -> Result<(), Step> {
        let ino = record.attr.ino;
        self.forget_opener(held, ino)?;
        let mut tx = self.begin(held)?;
        if closed(tx.files.get(&ino).copied()) && !opened {
            tx.remove(&record);
            tx.set_orphan(ino, false);
        }
        Ok(())
    }
}

/// Not open here (any more, or again).
fn closed(file: Option<OpenFile>) -> bool {
    file.is_none_or(|f| f.count == 0)
}
