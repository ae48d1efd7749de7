//! The lock service as its protocol describes it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::linear::Model;
use lock_rsm::locks::Mode;
use lock_rsm::locks::protocol::Standing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The commands of the lock service, with its queues: first come, first served; shared requests that stand together
/// enter together; the only holder of a lock has it made exclusive past the queue. Each lock is a part, so a command for
/// several locks is recorded as one operation for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockTable;

/// A command about one lock. The answer is where the lock stands for the session afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockOp {
    /// The session wants the lock.
    Acquire {
        /// Which lock.
        lock: u64,
        /// Who.
        session: u64,
        /// At least in this mode.
        mode: Mode,
    },
    /// The session gives it up, or keeps it shared.
    Release {
        /// Which lock.
        lock: u64,
        /// Who.
        session: u64,
        /// What it keeps.
        keep: Option<Mode>,
    },
    /// The session has ended: what it held and waited for is gone. Recorded for each lock it ever asked for.
    End {
        /// Which lock.
        lock: u64,
        /// Who.
        session: u64,
    },
}

/// A lock: who holds it, and who waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    holders: BTreeMap<u64, Mode>,
    queue: Vec<(u64, Mode)>,
}

impl Place {
    fn standing(&self, session: u64) -> Standing {
        let waiting = self.queue.iter().find(|(waiter, _)| *waiter == session);
        Standing { held: self.holders.get(&session).copied(), waiting: waiting.map(|(_, mode)| *mode) }
    }

    fn has_room(&self, session: u64, mode: Mode) -> bool {
        self.holders.iter().all(|(holder, held)| *holder == session || held.goes_with(mode))
    }

    fn acquire(&mut self, session: u64, mode: Mode) {
        let standing = self.standing(session);
        if standing.grants(mode) {
            return;
        }
        let overtakes = !self.queue.is_empty() && standing.held.is_none();
        if let Some(place) = self.queue.iter_mut().find(|(waiter, _)| *waiter == session) {
            place.1 = place.1.max(mode);
        } else if self.has_room(session, mode) && !overtakes {
            self.holders.insert(session, mode);
        } else {
            self.queue.push((session, mode));
        }
    }

    fn release(&mut self, session: u64, keep: Option<Mode>) {
        let Some(held) = self.holders.get(&session).copied() else { return };
        match keep {
            Some(keep) => drop(self.holders.insert(session, keep.min(held))),
            None => drop(self.holders.remove(&session)),
        }
        self.let_in();
    }

    fn end(&mut self, session: u64) {
        self.queue.retain(|(waiter, _)| *waiter != session);
        self.holders.remove(&session);
        self.let_in();
    }

    fn let_in(&mut self) {
        while let Some(&(session, mode)) = self.queue.first() {
            if !self.has_room(session, mode) {
                break;
            }
            self.queue.remove(0);
            self.holders.insert(session, mode);
        }
    }
}

impl LockOp {
    /// What is answered about a lock as it is, and how it is afterwards.
    pub fn apply(&self, place: &Place) -> (Standing, Place) {
        let mut after = place.clone();
        let session = match *self {
            LockOp::Acquire { session, mode, .. } => {
                after.acquire(session, mode);
                session
            }
            LockOp::Release { session, keep, .. } => {
                after.release(session, keep);
                session
            }
            LockOp::End { session, .. } => {
                after.end(session);
                session
            }
        };
        (after.standing(session), after)
    }
}

impl Model for LockTable {
    type Key = u64;
    type State = Place;
    type Input = LockOp;
    type Output = Standing;

    fn key(&self, input: &LockOp) -> u64 {
        match input {
            LockOp::Acquire { lock, .. } | LockOp::Release { lock, .. } | LockOp::End { lock, .. } => *lock,
        }
    }

    fn initial(&self, _: &u64) -> Place {
        Place::default()
    }

    fn step(&self, place: &Place, input: &LockOp, output: Option<&Standing>) -> Option<Place> {
        let (standing, after) = input.apply(place);
        output.is_none_or(|output| *output == standing).then_some(after)
    }
}
