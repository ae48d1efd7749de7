//! Moving names.

use super::lookup::dangling;
use super::unlink::{drop_name, refuse_full};
use crate::core::dir::Target;
use crate::core::errors::{FsError, Step, attempt};
use crate::core::format::Record;
use crate::core::fs::Fs;
use crate::core::locking::{Found, Locked, Place};
use crate::core::traits::{Clock, Extents, Locks};
use crate::core::types::{FileKind, Ino, LINK_MAX, Mode, RENAME_LOCK, ROOT, RenameFlags};

/// A checked move: everything the changes need.
struct Plan {
    /// The directories; the same record when they are one.
    dirs: [Record; 2],
    /// What moves, and what it replaces or is exchanged for.
    from: (Target, Record),
    to: Option<(Target, Record)>,
    opened_elsewhere: bool,
}

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Moves a name, replacing what the new name stood for if it is of the same sort (and empty, for a directory).
    pub async fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<(), FsError> {
        if flags.no_replace && flags.exchange {
            return Err(FsError::Invalid("a rename cannot both exchange and not replace"));
        }
        let places = [Place::new(parent, name)?, Place::new(new_parent, new_name)?];
        self.make_room(true).await?;
        attempt!(self.rename_once(places, flags))
    }

    /// One attempt. Directories that change their parent do so under [`RENAME_LOCK`], so that the ancestors stand
    /// still while it is checked that none comes to be below itself; that it is needed shows only once the names are
    /// known, so then all is let go and taken again behind that lock.
    async fn rename_once(&self, places: [Place<'_>; 2], flags: RenameFlags) -> Result<(), Step> {
        let (held, found) = self.lock_both(places).await?;
        if !moves_directories(&places, &found, flags) {
            return self.rename_held(&held, places, found, flags).await;
        }
        drop(held);
        let _still = self.lock(&[(RENAME_LOCK, Mode::Exclusive)]).await?;
        let targets = found.map(|f| f.target);
        self.refuse_cycle(places[1].dir, targets[0]).await?;
        if flags.exchange {
            self.refuse_cycle(places[0].dir, targets[1]).await?;
        }
        let (held, found) = self.lock_both(places).await?;
        if found.map(|f| f.target) != targets {
            return Err(Step::Again);
        }
        self.rename_held(&held, places, found, flags).await
    }

    async fn lock_both(&self, places: [Place<'_>; 2]) -> Result<(Locked<L::Guard>, [Found; 2]), Step> {
        self.lock_places(places, Mode::Exclusive, |_| Mode::Exclusive, &[]).await
    }

    /// Refuses to move directory `moved` into `dir` if that is it or below it.
    async fn refuse_cycle(&self, dir: Ino, moved: Option<Target>) -> Result<(), Step> {
        let Some((moved, FileKind::Directory)) = moved else { return Ok(()) };
        let mut at = dir;
        while at != ROOT {
            if at == moved {
                return Err(FsError::Invalid("a directory cannot be moved into itself").into());
            }
            at = self.parent_once(at).await?;
        }
        Ok(())
    }

    async fn rename_held(
        &self,
        held: &Locked<L::Guard>,
        places: [Place<'_>; 2],
        found: [Found; 2],
        flags: RenameFlags,
    ) -> Result<(), Step> {
        let Some(from) = found[0].target else { return Err(FsError::NotFound.into()) };
        if found[1].dir.attr.nlink == 0 {
            return Err(FsError::NotFound.into());
        }
        match found[1].target {
            Some(_) if flags.no_replace => return Err(FsError::Exists.into()),
            None if flags.exchange => return Err(FsError::NotFound.into()),
            // Two names of one inode: POSIX leaves both.
            Some(to) if to.0 == from.0 => return Ok(()),
            _ => {}
        }
        let plan = self.plan(held, [found[0].dir, found[1].dir], from, found[1].target).await?;
        if flags.exchange {
            check_links(&plan, true)?;
            return self.exchange(held, places, plan);
        }
        if let Some((_, target)) = &plan.to {
            refuse_unlike(&plan.from.1, target)?;
        }
        check_links(&plan, false)?;
        self.replace(held, places, plan)
    }

    async fn plan(
        &self,
        held: &Locked<L::Guard>,
        dirs: [Record; 2],
        from: Target,
        to: Option<Target>,
    ) -> Result<Plan, Step> {
        let moved = self.named(held, from.0).await?;
        let mut plan = Plan { dirs, from: (from, moved), to: None, opened_elsewhere: false };
        if let Some(to) = to {
            let (record, opened) = self.record_exclusive(held, to.0).await.map_err(dangling)?;
            plan.to = Some((to, record));
            plan.opened_elsewhere = opened;
        }
        Ok(plan)
    }

    fn replace(&self, held: &Locked<L::Guard>, places: [Place<'_>; 2], plan: Plan) -> Result<(), Step> {
        let mut tx = self.begin(held)?;
        let [mut dir, mut new_dir] = plan.dirs;
        let same = dir.attr.ino == new_dir.attr.ino;
        let (target, mut moved) = plan.from;
        tx.set_entry(&mut dir, places[0].name, Some(target), None);
        if same {
            new_dir = dir;
        }
        tx.set_entry(&mut new_dir, places[1].name, plan.to.map(|t| t.0), Some(target));
        if !same {
            tx.put(dir);
        }
        tx.put(new_dir);
        if moved.is_dir() {
            moved.parent = new_dir.attr.ino;
        }
        moved.changed(tx.now);
        tx.put(moved);
        if let Some((_, replaced)) = plan.to {
            drop_name(&mut tx, replaced, plan.opened_elsewhere);
        }
        Ok(())
    }

    fn exchange(&self, held: &Locked<L::Guard>, places: [Place<'_>; 2], plan: Plan) -> Result<(), Step> {
        let Some((other_target, mut other)) = plan.to else {
            return Err(FsError::NotFound.into());
        };
        let mut tx = self.begin(held)?;
        let [mut dir, mut new_dir] = plan.dirs;
        let same = dir.attr.ino == new_dir.attr.ino;
        let (target, mut moved) = plan.from;
        tx.set_entry(&mut dir, places[0].name, Some(target), Some(other_target));
        if same {
            new_dir = dir;
        }
        tx.set_entry(&mut new_dir, places[1].name, Some(other_target), Some(target));
        if !same {
            tx.put(dir);
        }
        tx.put(new_dir);
        for (record, parent) in [(&mut moved, new_dir.attr.ino), (&mut other, dir.attr.ino)] {
            if record.is_dir() {
                record.parent = parent;
            }
            record.changed(tx.now);
            tx.put(*record);
        }
        Ok(())
    }
}

fn moves_directories(places: &[Place<'_>; 2], found: &[Found; 2], flags: RenameFlags) -> bool {
    let is_dir = |f: &Found| matches!(f.target, Some((_, FileKind::Directory)));
    places[0].dir != places[1].dir && (is_dir(&found[0]) || flags.exchange && is_dir(&found[1]))
}

/// Only like replaces like, and only an empty directory is replaced.
fn refuse_unlike(moved: &Record, replaced: &Record) -> Result<(), FsError> {
    match (moved.is_dir(), replaced.is_dir()) {
        (true, false) => Err(FsError::NotDir),
        (false, true) => Err(FsError::IsDir),
        (true, true) => refuse_full(replaced),
        (false, false) => Ok(()),
    }
}

/// A directory that gets one more subdirectory must have room for the link.
fn check_links(plan: &Plan, exchange: bool) -> Result<(), FsError> {
    let [dir, new_dir] = &plan.dirs;
    let moved = plan.from.1.is_dir();
    let other = plan.to.as_ref().is_some_and(|t| t.1.is_dir());
    let full = |d: &Record| d.attr.nlink >= LINK_MAX;
    let too_many = dir.attr.ino != new_dir.attr.ino
        && (moved && !other && full(new_dir) || exchange && other && !moved && full(dir));
    if too_many { Err(FsError::TooManyLinks) } else { Ok(()) }
}
