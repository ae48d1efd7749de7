//! Sessions refused for ever.
//!
//! Once a fence is answered, nothing of its session lands any more, whenever it was sent or received:
//!
//! 1. A fence adds to the set in memory ([`Fences::add`]), then goes into the queue of commits and is synced with its group,
//!    then gives up what the session wrote but did not commit, then is answered.
//! 2. A bulk write checks the set again right before its first byte goes to the file, and holds it shared until the last byte
//!    is down ([`Fences::hold`]). Adding is exclusive. So the write is down before the fence is added, and then part of what
//!    the fence gives up, or it is refused. It is all the same how long it had waited in a socket, for a lock or for a mark.
//! 3. A commit is checked by the one thread that applies the queue, when its turn has come. If it is let in, the fence was
//!    not yet added, so it stands behind in the queue, and the commit is applied before the fence is answered.
//! 4. The set is read from the store before the port is opened. A fence that was answered is there; a client that hears of a
//!    restart and sends again meets it.
//!
//! A fence is never dropped. The session's client may be frozen for longer than any time one could choose, and its number
//! is all that tells its late writes from others'.

use crate::error::StoreError;
use parking_lot::{RwLock, RwLockReadGuard};
use std::collections::HashSet;

/// The set in memory. It is ahead of the disk: a session is refused from the moment its fence begins.
#[derive(Default)]
pub(crate) struct Fences {
    sessions: RwLock<HashSet<u64>>,
}

/// Holds off new fences while a write of an unfenced session goes down.
pub(crate) struct Unfenced<'a> {
    _sessions: RwLockReadGuard<'a, HashSet<u64>>,
}

impl Fences {
    pub(crate) fn new(sessions: HashSet<u64>) -> Fences {
        Fences { sessions: RwLock::new(sessions) }
    }

    /// Refuses a fenced session, as of now.
    pub(crate) fn check(&self, session: u64) -> Result<(), StoreError> {
        self.hold(session).map(|_| ())
    }

    /// Refuses a fenced session; while the guard lives, [`Fences::add`] waits.
    pub(crate) fn hold(&self, session: u64) -> Result<Unfenced<'_>, StoreError> {
        let sessions = self.sessions.read();
        if sessions.contains(&session) {
            return Err(StoreError::Fenced { session });
        }
        Ok(Unfenced { _sessions: sessions })
    }

    /// Fences a session in memory, after the writes that are going down.
    pub(crate) fn add(&self, session: u64) {
        self.sessions.write().insert(session);
    }

    pub(crate) fn contains(&self, session: u64) -> bool {
        self.sessions.read().contains(&session)
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.read().len()
    }
}
