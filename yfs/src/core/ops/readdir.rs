//! Listing directories.

use crate::core::cache::Presence;
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::Record;
use crate::core::fs::Fs;
use crate::core::load::Pin;
use crate::core::locking::Locked;
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::types::{DirEntry, Held, Ino, Mode};

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Up to `limit` entries behind cookie `after` (0 = from the start), without `.` and `..`; with `attrs` their
    /// attributes too. An empty answer is the end.
    pub async fn readdir(
        &self,
        dir: Ino,
        after: u64,
        limit: usize,
        attrs: bool,
    ) -> Result<Held<Vec<DirEntry>, L::Guard>, FsError> {
        attempt!(self.readdir_once(dir, after, limit.max(1), attrs))
    }

    async fn readdir_once(
        &self,
        dir: Ino,
        after: u64,
        limit: usize,
        attrs: bool,
    ) -> Result<Held<Vec<DirEntry>, L::Guard>, Step> {
        let mut held = self.lock(&[(dir, Mode::Shared)]).await?;
        let mut entries = self.list(&held, dir, after, limit).await?;
        if !attrs || entries.is_empty() {
            return Ok(held.with(entries));
        }
        let mut inos = numbers(&entries);
        if !self.try_lock_all(&mut held, &inos) {
            // Not while holding the directory: its number may be larger than a child's.
            drop(held);
            inos.push(dir);
            let wants: Vec<_> = inos.iter().map(|ino| (*ino, Mode::Shared)).collect();
            held = self.lock(&wants).await?;
            entries = self.list(&held, dir, after, limit).await?;
            inos.sort_unstable();
        }
        // A name that came to stand for another inode meanwhile goes without attributes.
        let locked: Vec<Ino> =
            numbers(&entries).into_iter().filter(|ino| inos.binary_search(ino).is_ok()).collect();
        let records = self.records(&held, &locked).await?;
        for entry in &mut entries {
            entry.attr = records.get(&entry.ino).map(Record::shown);
        }
        Ok(held.with(entries))
    }

    async fn list(
        &self,
        held: &Locked<L::Guard>,
        dir: Ino,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DirEntry>, Step> {
        match self.presence(held, dir, false).await? {
            Presence::There(record) if !record.is_dir() => return Err(FsError::NotDir.into()),
            Presence::There(_) => {}
            // Removed while it was open.
            _ => return Ok(Vec::new()),
        }
        let from = after.saturating_add(1);
        let _pin = Pin::new(&self.0, held.epoch, dir)?;
        loop {
            let (missing, entries) = self.with_state(held, |st| {
                let cached = st.inode(dir).dir.get_or_insert_default();
                (cached.missing_from(from), cached.list(from, limit))
            })?;
            match missing {
                None => return Ok(entries),
                Some(hash) => self.scan(held, dir, hash).await?,
            }
        }
    }
}

fn numbers(entries: &[DirEntry]) -> Vec<Ino> {
    let mut inos: Vec<Ino> = entries.iter().map(|e| e.ino).collect();
    inos.sort_unstable();
    inos.dedup();
    inos
}
