//! Taking locks without deadlock.
//!
//! Who waits for a lock while holding others waits only for a larger id than all it holds; otherwise it lets go of
//! everything and asks for all it needs at once. [`RENAME_LOCK`](super::types::RENAME_LOCK) is taken alone and first.

use super::dir::Target;
use super::errors::{FsError, Step};
use super::format::Record;
use super::fs::Fs;
use super::traits::{Clock, Extents, Locks};
use super::types::{Held, Ino, Mode, NAME_MAX};

/// Guards, and the epoch they belong to: if the session is lost they are worth nothing any more.
pub(super) struct Locked<G> {
    guards: [Option<G>; 2],
    pub epoch: u64,
}

impl<G> Locked<G> {
    /// A result that is true under these guards.
    pub fn with<T>(self, value: T) -> Held<T, G> {
        Held::new(value, self.guards)
    }
}

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub dir: Ino,
    pub name: &'a [u8],
}

impl<'a> Place<'a> {
    /// Refuses names that cannot be.
    pub fn new(dir: Ino, name: &'a [u8]) -> Result<Place<'a>, FsError> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(FsError::Invalid("a name must not be empty, '.', '..' or contain '/' or NUL"));
        }
        Ok(Place { dir, name })
    }
}

/// What a place holds.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub dir: Record,
    pub target: Option<Target>,
}

/// Rounds of letting go and asking again before giving up; each is caused by someone else's change of the same names.
const ROUNDS_MAX: u32 = 1000;

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Takes all of `wants` (which may repeat ids), holding nothing.
    pub(super) async fn lock(&self, wants: &[(Ino, Mode)]) -> Result<Locked<L::Guard>, Step> {
        let epoch = self.0.state.lock().epoch;
        if let [_] = wants {
            return Ok(Locked { guards: [Some(self.acquire(wants).await?), None], epoch });
        }
        let wants = normalise(wants);
        Ok(Locked { guards: [Some(self.acquire(&wants).await?), None], epoch })
    }

    async fn acquire(&self, wants: &[(Ino, Mode)]) -> Result<L::Guard, Step> {
        if let Some(guard) = self.0.locks.try_acquire(wants) {
            return Ok(guard);
        }
        match self.0.locks.acquire(wants).await {
            Err(FsError::Lost) => Err(Step::Again),
            other => Ok(other?),
        }
    }

    /// Takes one lock if that needs no waiting.
    pub(super) fn try_lock(&self, epoch: u64, want: (Ino, Mode)) -> Option<Locked<L::Guard>> {
        let guard = self.0.locks.try_acquire(&[want])?;
        Some(Locked { guards: [Some(guard), None], epoch })
    }

    /// Takes one more lock if that needs no waiting.
    pub(super) fn try_lock_more(&self, held: &mut Locked<L::Guard>, want: (Ino, Mode)) -> bool {
        debug_assert!(held.guards[1].is_none(), "two guards are enough for every operation");
        held.guards[1] = self.0.locks.try_acquire(&[want]);
        held.guards[1].is_some()
    }

    /// Takes more locks, shared, if that needs no waiting.
    pub(super) fn try_lock_all(&self, held: &mut Locked<L::Guard>, inos: &[Ino]) -> bool {
        let wants: Vec<_> = inos.iter().map(|ino| (*ino, Mode::Shared)).collect();
        held.guards[1] = self.0.locks.try_acquire(&wants);
        held.guards[1].is_some()
    }

    /// Locks directories and what their names stand for: `places` with the directories' mode, then the children, and
    /// `extra` besides. On return everything found is locked and stays as found while held.
    pub(super) async fn lock_places<const N: usize>(
        &self,
        places: [Place<'_>; N],
        dir_mode: Mode,
        child_mode: impl Fn(&Target) -> Mode,
        extra: &[(Ino, Mode)],
    ) -> Result<(Locked<L::Guard>, [Found; N]), Step> {
        let mut base: Vec<(Ino, Mode)> = extra.to_vec();
        base.extend(places.iter().map(|p| (p.dir, dir_mode)));
        let mut wants = base.clone();
        for _ in 0..ROUNDS_MAX {
            wants = normalise(&wants);
            let mut held = self.lock(&wants).await?;
            let found = self.find(&held, &places).await?;
            let children = found.iter().filter_map(|f| f.target).map(|t| (t.0, child_mode(&t)));
            let missing: Vec<_> = children.filter(|c| !covers(&wants, *c)).collect();
            let missing = normalise(&missing);
            if missing.is_empty() {
                return Ok((held, found));
            }
            if let Some(guard) = self.0.locks.try_acquire(&missing) {
                held.guards[1] = Some(guard);
                return Ok((held, found));
            }
            let highest = wants.last().map_or(0, |w| w.0);
            if missing.iter().all(|m| m.0 > highest) {
                held.guards[1] = Some(self.acquire(&missing).await?);
                return Ok((held, found));
            }
            wants = base.clone();
            wants.extend(found.iter().filter_map(|f| f.target).map(|t| (t.0, child_mode(&t))));
        }
        Err(FsError::TimedOut("names that keep changing".into()).into())
    }

    async fn find<const N: usize>(
        &self,
        held: &Locked<L::Guard>,
        places: &[Place<'_>; N],
    ) -> Result<[Found; N], Step> {
        let mut found = Vec::with_capacity(N);
        for place in places {
            let dir = self.record(held, place.dir).await?;
            let target = self.entry(held, &dir, place.name).await?;
            found.push(Found { dir, target });
        }
        Ok(<[Found; N]>::try_from(found).unwrap_or_else(|_| unreachable!("one result for each place")))
    }
}

/// Ascending ids, each once, in the stronger mode.
fn normalise(wants: &[(Ino, Mode)]) -> Vec<(Ino, Mode)> {
    let mut out = wants.to_vec();
    out.sort_by_key(|&(ino, mode)| (ino, std::cmp::Reverse(mode)));
    out.dedup_by_key(|w| w.0);
    out
}

fn covers(wants: &[(Ino, Mode)], want: (Ino, Mode)) -> bool {
    wants.binary_search_by_key(&want.0, |w| w.0).is_ok_and(|at| wants[at].1 >= want.1)
}
