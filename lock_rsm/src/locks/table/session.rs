//! One session: whose it is and which locks it has a part in.

use std::collections::BTreeSet;

use crate::locks::protocol::LockId;

/// A session. The modes of its locks are with the locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The RSM client that opened it; only its commands count, and pushes go there.
    pub(super) client: u64,
    /// What the client calls itself.
    pub(super) name: String,
    pub(super) lease_ms: u32,
    /// It has been closed or expired, and not all its locks are freed yet.
    pub(super) ending: bool,
    pub(super) held: BTreeSet<LockId>,
    pub(super) waiting: BTreeSet<LockId>,
}

impl Session {
    pub(super) fn new(client: u64, name: String, lease_ms: u32) -> Session {
        Session { client, name, lease_ms, ending: false, held: BTreeSet::new(), waiting: BTreeSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty()
    }
}
