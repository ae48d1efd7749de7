//! Removing what has no name and is open nowhere, when those who should have done it died.
//!
//! A session that gives up the lock of an inode it has open leaves an opener key. Whether an opener still lives is
//! asked of its *anchor*: a lock that it holds as long as it lives and whose number stands under its session key.
//! Asked to give it up, a live session first names another anchor. So who gets the lock of the anchor that is named
//! *while holding it* knows that the session is gone. Left for later: removing the keys `opened` and `opener` of dead
//! sessions from inodes that still have names (they cost a scan at the inode's end and are removed with it).

use std::collections::{BTreeMap, BTreeSet};

use crate::core::cache::Presence;
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format;
use crate::core::fs::Fs;
use crate::core::load::after;
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::types::{Ino, Mode};

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Removes unlinked inodes whose openers are all gone; returns how many. Call it at mount and now and then.
    pub async fn reclaim_orphans(&self) -> Result<usize, FsError> {
        let mut removed = 0;
        let mut alive = BTreeMap::new();
        let (mut from, to) = format::orphan_range(0);
        loop {
            let (page, more) = self.0.store.scan(from, to.clone(), self.0.limits.scan_page).await?;
            for (key, _) in &page {
                let ino = format::trailing_id(key)?;
                removed += usize::from(self.reclaim(ino, &mut alive).await?);
            }
            match page.last() {
                Some((last, _)) if more => from = after(last),
                _ => return Ok(removed),
            }
        }
    }

    async fn reclaim(&self, ino: Ino, alive: &mut BTreeMap<u64, bool>) -> Result<bool, FsError> {
        if self.0.state.lock().files.contains_key(&ino) {
            return Ok(false);
        }
        for session in attempt!(self.other_openers(ino))? {
            if let std::collections::btree_map::Entry::Vacant(place) = alive.entry(session) {
                place.insert(attempt!(self.is_alive(session))?);
            }
        }
        let dead = alive.iter().filter(|(_, alive)| !**alive).map(|(session, _)| *session).collect();
        attempt!(self.reclaim_once(ino, &dead))
    }

    /// Whether a session lives; the record of one that does not is removed.
    async fn is_alive(&self, session: u64) -> Result<bool, Step> {
        let key = format::session_key(session);
        let Some(anchor) = self.anchor_of(session).await? else { return Ok(false) };
        let held = self.lock(&[(anchor, Mode::Exclusive)]).await?;
        if self.anchor_of(session).await? != Some(anchor) {
            return Ok(true);
        }
        self.begin(&held)?.set_mark(anchor, key, true, None);
        Ok(false)
    }

    async fn anchor_of(&self, session: u64) -> Result<Option<Ino>, Step> {
        let key = format::session_key(session);
        let value = self.0.store.get(vec![key.clone()]).await?.into_iter().next().flatten();
        Ok(value.map(|v| format::decode_anchor(&key, &v)).transpose()?)
    }

    async fn reclaim_once(&self, ino: Ino, dead: &BTreeSet<u64>) -> Result<bool, Step> {
        let held = self.lock(&[(ino, Mode::Exclusive)]).await?;
        let presence = self.presence(&held, ino, true).await?;
        let others = self.other_openers(ino).await?;
        let mut tx = self.begin(&held)?;
        if tx.files.contains_key(&ino) {
            return Ok(false);
        }
        match presence {
            Presence::There(record) if record.attr.nlink == 0 => {
                if !others.iter().all(|session| dead.contains(session)) {
                    return Ok(false);
                }
                tx.remove(&record);
                tx.set_orphan(ino, false);
                Ok(true)
            }
            _ => {
                tx.set_orphan(ino, false);
                Ok(false)
            }
        }
    }
}
