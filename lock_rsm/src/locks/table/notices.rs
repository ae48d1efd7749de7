//! What a command makes the master tell to sessions.

use std::collections::BTreeMap;

use crate::locks::protocol::{Grant, LockId, Mode, Revoke, SessionId, Stamp};

/// Grants and revokes, gathered per session; each lock at most once, as it stands after the command.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Notices {
    stamp: Stamp,
    grants: BTreeMap<SessionId, BTreeMap<LockId, Mode>>,
    revokes: BTreeMap<SessionId, BTreeMap<LockId, Mode>>,
}

impl Notices {
    /// Nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.revokes.is_empty()
    }

    /// One message for each session that was granted something. To be sent before [`Notices::revokes`].
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        let stamp = self.stamp;
        self.grants.iter().map(move |(&session, locks)| Grant { session, stamp, locks: pairs(locks) })
    }

    /// One message for each session that should give up something.
    pub fn revokes(&self) -> impl Iterator<Item = Revoke> {
        let stamp = self.stamp;
        self.revokes.iter().map(move |(&session, locks)| Revoke { session, stamp, locks: pairs(locks) })
    }

    /// Adds a grant as of `stamp`.
    pub fn grant(&mut self, stamp: Stamp, session: SessionId, lock: LockId, mode: Mode) {
        self.stamp = stamp;
        self.grants.entry(session).or_default().insert(lock, mode);
    }

    /// Adds a revoke as of `stamp`.
    pub fn revoke(&mut self, stamp: Stamp, session: SessionId, lock: LockId, wanted: Mode) {
        self.stamp = stamp;
        self.revokes.entry(session).or_default().insert(lock, wanted);
    }

    /// Drops what was to be told to a session that is no more.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.grants.remove(&session);
        self.revokes.remove(&session);
    }
}

fn pairs(locks: &BTreeMap<LockId, Mode>) -> Vec<(LockId, Mode)> {
    locks.iter().map(|(&lock, &mode)| (lock, mode)).collect()
}
