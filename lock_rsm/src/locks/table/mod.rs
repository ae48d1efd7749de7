//! The lock table: who holds which lock, who waits, and what to tell whom.
//!
//! Pure and deterministic: the same commands in the same order leave byte-identical [`LockTable::marshal`] on every
//! replica. It knows no clock and sends nothing; what is to be told to sessions comes out as [`Notices`].
//!
//! Rules:
//! * A lock has either one exclusive holder or any number of shared ones.
//! * Who cannot have a lock waits in its queue, first come, first served. A shared request does not overtake a waiting
//!   exclusive one; shared requests that stand together are granted together.
//! * The only holder of a shared lock may make it exclusive at once. Otherwise an upgrade waits like everybody else, its
//!   holder keeps the shared lock and is asked to give it up if somebody stands before it; so two upgraders cannot
//!   wait for each other.
//! * Only the first in the queue makes holders give up a lock. A holder is told (again) whenever its own standing changes,
//!   the first in the queue changes, or somebody in the queue asks again.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod lock;
mod marshal;
mod notices;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use marshal::TableError;
pub use notices::Notices;

use super::protocol::{
    Acquire, Allocate, BATCH_MAX, FIRST_ALLOCATED, LockId, Mode, NAME_MAX, OpenSession, Release, SessionId,
    Stamp, Standing,
};
use lock::Lock;
use session::Session;

/// The most open sessions.
pub const SESSIONS_MAX: usize = 1 << 16;
/// The most locks that may be held or waited for at once, over all sessions. A held lock costs about 50 bytes.
pub const LOCKS_MAX: usize = 1 << 23;
/// The most sessions in one lock's queue; a further one is answered RETRY without a place.
pub const WAITERS_MAX: usize = 4096;
/// The most locks one end-of-session command frees, so that no single command holds up the replicas.
pub const FREED_MAX: usize = 1 << 16;
/// Leases outside of this are clamped, in milliseconds.
pub const LEASE_MS: std::ops::RangeInclusive<u32> = 100..=3_600_000;

/// Why a command was not executed; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The session is unknown, ending, or belongs to another client.
    #[error("no such session")]
    NoSession,
    /// The batch or name is too long.
    #[error("batch or name too long")]
    TooLong,
    /// A limit on sessions or locks is reached.
    #[error("too many sessions or locks")]
    Full,
}

/// The whole state of the lock service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockTable {
    /// The last command that changed or confirmed anything; what the notices of [`LockTable::outstanding`] are as of.
    stamp: Stamp,
    next_id: LockId,
    sessions_opened: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// Only locks that somebody holds or waits for.
    locks: BTreeMap<LockId, Lock>,
    /// Held and waited-for locks over all sessions.
    load: usize,
}

impl Default for LockTable {
    fn default() -> Self {
        LockTable {
            stamp: (0, 0),
            next_id: FIRST_ALLOCATED,
            sessions_opened: 0,
            sessions: BTreeMap::new(),
            locks: BTreeMap::new(),
            load: 0,
        }
    }
}

impl LockTable {
    /// Opens a session for the RSM client `client`.
    pub fn open_session(
        &mut self,
        stamp: Stamp,
        client: u64,
        args: &OpenSession,
    ) -> Result<SessionId, Refusal> {
        if args.name.len() > NAME_MAX {
            return Err(Refusal::TooLong);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Refusal::Full);
        }
        self.stamp = stamp;
        let id = self.fresh_session_id(args.nonce);
        let lease_ms = args.lease_ms.clamp(*LEASE_MS.start(), *LEASE_MS.end());
        self.sessions.insert(id, Session::new(client, args.name.clone(), lease_ms));
        Ok(id)
    }

    /// Grants or queues each lock; says where each stands afterwards.
    pub fn acquire(
        &mut self,
        stamp: Stamp,
        client: u64,
        args: &Acquire,
        notices: &mut Notices,
    ) -> Result<Vec<Standing>, Refusal> {
        self.check_command(client, args.session, args.locks.len())?;
        if self.load + args.locks.len() > LOCKS_MAX {
            return Err(Refusal::Full);
        }
        self.stamp = stamp;
        let standings =
            args.locks.iter().map(|&(id, mode)| self.acquire_one(args.session, id, mode, notices));
        Ok(standings.collect())
    }

    /// Gives up or downgrades each lock, grants them on, and says where each stands afterwards.
    pub fn release(
        &mut self,
        stamp: Stamp,
        client: u64,
        args: &Release,
        notices: &mut Notices,
    ) -> Result<Vec<Standing>, Refusal> {
        self.check_command(client, args.session, args.locks.len())?;
        self.stamp = stamp;
        let standings =
            args.locks.iter().map(|&(id, keep)| self.release_one(args.session, id, keep, notices));
        Ok(standings.collect())
    }

    /// Hands out `count` fresh ids, held exclusive; returns the first.
    pub fn allocate(&mut self, stamp: Stamp, client: u64, args: &Allocate) -> Result<LockId, Refusal> {
        let count = args.count as usize;
        self.check_command(client, args.session, count)?;
        if self.load + count > LOCKS_MAX {
            return Err(Refusal::Full);
        }
        self.stamp = stamp;
        // An id may already be in use as a name somebody chose; then it is not fresh and is passed over.
        let mut first = self.next_id;
        while let Some((&taken, _)) = self.locks.range(first..first + args.count as u64).next_back() {
            first = taken + 1;
        }
        self.next_id = first + args.count as u64;
        let session = self.sessions.get_mut(&args.session).expect("checked above");
        for id in first..self.next_id {
            self.locks.insert(id, Lock::held(args.session, Mode::Exclusive));
            session.held.insert(id);
        }
        self.load += count;
        Ok(first)
    }

    /// Ends a session: its locks go to whoever waits. Frees at most [`FREED_MAX`] locks and says whether more are left;
    /// the session is refused from the first command on. `client` is none when the master itself ends the session.
    pub fn end_session(
        &mut self,
        stamp: Stamp,
        client: Option<u64>,
        session: SessionId,
        notices: &mut Notices,
    ) -> bool {
        let Some(entry) = self.sessions.get_mut(&session) else { return false };
        if client.is_some_and(|client| client != entry.client) {
            return false;
        }
        self.stamp = stamp;
        entry.ending = true;
        let waiting: Vec<LockId> = entry.waiting.iter().copied().take(FREED_MAX).collect();
        let held: Vec<LockId> = entry.held.iter().copied().take(FREED_MAX - waiting.len()).collect();
        for id in waiting {
            self.leave_queue(session, id, notices);
        }
        for id in held {
            self.release_one(session, id, None, notices);
        }
        notices.forget(session);
        let more = self.sessions.get(&session).is_some_and(|entry| !entry.is_empty());
        if !more {
            self.sessions.remove(&session);
        }
        more
    }

    /// How many sessions hold the lock.
    pub fn stat(&self, id: LockId) -> u32 {
        self.locks.get(&id).map_or(0, |lock| lock.holders().count() as u32)
    }

    /// How many sessions wait for the lock.
    pub fn waiting(&self, id: LockId) -> usize {
        self.locks.get(&id).map_or(0, Lock::waiter_count)
    }

    /// Where the lock stands for the session.
    pub fn standing(&self, session: SessionId, id: LockId) -> Standing {
        self.locks.get(&id).map_or(Standing::default(), |lock| lock.standing(session))
    }

    /// Every revoke that should have been heard by now, as of the last command: what a new master sends again.
    pub fn outstanding(&self, notices: &mut Notices) {
        for (&session, entry) in &self.sessions {
            for &id in &entry.waiting {
                let lock = self.locks.get(&id).expect("a lock waited for exists");
                // Every waiter's session comes by here; each lock is told once, for its first.
                if lock.first_waiter().is_some_and(|first| first.session == session) {
                    self.revoke_all(id, lock, notices);
                }
            }
        }
    }

    /// The RSM client to which a session's pushes go.
    pub fn client_of(&self, session: SessionId) -> Option<u64> {
        self.sessions.get(&session).map(|entry| entry.client)
    }

    /// A session's lease in milliseconds; none when it is unknown or ending.
    pub fn lease_ms(&self, session: SessionId) -> Option<u32> {
        self.sessions.get(&session).filter(|entry| !entry.ending).map(|entry| entry.lease_ms)
    }

    /// Every session with its name, lease in milliseconds, and whether its end has begun.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &str, u32, bool)> {
        self.sessions.iter().map(|(&id, entry)| (id, entry.name.as_str(), entry.lease_ms, entry.ending))
    }

    /// The stamp of the last command.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Held and waited-for locks over all sessions.
    pub fn load(&self) -> usize {
        self.load
    }

    fn check_command(&self, client: u64, session: SessionId, batch: usize) -> Result<(), Refusal> {
        if batch > BATCH_MAX {
            return Err(Refusal::TooLong);
        }
        match self.sessions.get(&session) {
            Some(entry) if entry.client == client && !entry.ending => Ok(()),
            _ => Err(Refusal::NoSession),
        }
    }

    /// Mixes the client's random number with a counter, so that an id cannot be chosen.
    fn fresh_session_id(&mut self, nonce: u64) -> SessionId {
        loop {
            self.sessions_opened += 1;
            let id = mix(nonce ^ mix(self.sessions_opened));
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    fn acquire_one(&mut self, session: SessionId, id: LockId, mode: Mode, notices: &mut Notices) -> Standing {
        let entry = self.sessions.get_mut(&session).expect("checked by the command");
        let Some(lock) = self.locks.get_mut(&id) else {
            self.locks.insert(id, Lock::held(session, mode));
            entry.held.insert(id);
            self.load += 1;
            return Standing { held: Some(mode), waiting: None };
        };
        let before = lock.standing(session);
        if before.grants(mode) {
            // It asks because it does not know; then it has not heard a revoke either.
            self.revoke_one(id, session, notices);
            return before;
        }
        if before.waiting.is_none() && lock.may_enter(session, mode) {
            lock.hold(session, mode);
            if before.held.is_none() {
                entry.held.insert(id);
                self.load += 1;
            }
            self.revoke_one(id, session, notices);
            return Standing { held: Some(mode), waiting: None };
        }
        let first_before = lock.first_waiter();
        if before.waiting.is_some() {
            lock.strengthen_waiter(session, mode);
        } else if lock.waiter_count() < WAITERS_MAX {
            lock.enqueue(session, mode);
            entry.waiting.insert(id);
            self.load += 1;
        }
        let lock = &self.locks[&id];
        if before.waiting.is_some() || lock.first_waiter() != first_before {
            self.revoke_all(id, lock, notices);
        }
        lock.standing(session)
    }

    fn release_one(
        &mut self,
        session: SessionId,
        id: LockId,
        keep: Option<Mode>,
        notices: &mut Notices,
    ) -> Standing {
        let Some(lock) = self.locks.get_mut(&id) else { return Standing::default() };
        let Some(held) = lock.standing(session).held else { return lock.standing(session) };
        match keep {
            Some(keep) if keep >= held => {}
            Some(keep) => lock.hold(session, keep),
            None => {
                lock.let_go(session);
                self.sessions.get_mut(&session).expect("a holder is a session").held.remove(&id);
                self.load -= 1;
            }
        }
        self.settle(id, Some(session), notices);
        self.standing(session, id)
    }

    fn leave_queue(&mut self, session: SessionId, id: LockId, notices: &mut Notices) {
        let lock = self.locks.get_mut(&id).expect("a lock waited for exists");
        let was_first = lock.first_waiter().is_some_and(|first| first.session == session);
        lock.dequeue(session);
        self.sessions.get_mut(&session).expect("a waiter is a session").waiting.remove(&id);
        self.load -= 1;
        if was_first {
            self.settle(id, None, notices);
            if let Some(lock) = self.locks.get(&id) {
                self.revoke_all(id, lock, notices);
            }
        }
    }

    /// Grants the lock to as many waiters as may enter, in order; then tells the holders that stand in the way of the
    /// next one what they have not been told: all of them when the first in the queue is a new one, otherwise
    /// `changed`, whose own standing is new.
    fn settle(&mut self, id: LockId, changed: Option<SessionId>, notices: &mut Notices) {
        let lock = self.locks.get_mut(&id).expect("only an existing lock is settled");
        let mut granted = false;
        while let Some(first) = lock.first_waiter() {
            if !lock.may_hold(first.session, first.mode) {
                break;
            }
            lock.dequeue(first.session);
            let entry = self.sessions.get_mut(&first.session).expect("a waiter is a session");
            entry.waiting.remove(&id);
            // An upgrade holds the lock already: one unit of load either way goes with the queue's place.
            if !entry.held.insert(id) {
                self.load -= 1;
            }
            lock.hold(first.session, first.mode);
            notices.grant(self.stamp, first.session, id, first.mode);
            granted = true;
        }
        if lock.is_unused() {
            self.locks.remove(&id);
        } else if granted {
            self.revoke_all(id, &self.locks[&id], notices);
        } else if let Some(session) = changed {
            self.revoke_one(id, session, notices);
        }
    }

    /// Tells every holder in the way of the first waiter.
    fn revoke_all(&self, id: LockId, lock: &Lock, notices: &mut Notices) {
        let Some(first) = lock.first_waiter() else { return };
        for (holder, held) in lock.holders() {
            if holder != first.session && !held.goes_with(first.mode) {
                notices.revoke(self.stamp, holder, id, first.mode);
            }
        }
    }

    /// Tells `session` if it is in the way of the first waiter.
    fn revoke_one(&self, id: LockId, session: SessionId, notices: &mut Notices) {
        let Some(lock) = self.locks.get(&id) else { return };
        let Some(first) = lock.first_waiter() else { return };
        let held = lock.standing(session).held;
        if first.session != session && held.is_some_and(|held| !held.goes_with(first.mode)) {
            notices.revoke(self.stamp, session, id, first.mode);
        }
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
