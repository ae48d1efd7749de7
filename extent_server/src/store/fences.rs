//! Sessions refused for ever.

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
