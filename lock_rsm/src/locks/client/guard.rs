//! What an operation holds while it works.

use std::sync::Arc;

use super::inner::Inner;
use crate::locks::protocol::{LockId, Mode};

/// Locks held by one operation of this process. Dropping it lets go of them; they stay cached.
pub struct LockGuard {
    inner: Arc<Inner>,
    epoch: u64,
    /// Nearly always there is one lock, and then nothing is allocated.
    first: Option<(LockId, Mode)>,
    more: Vec<(LockId, Mode)>,
}

impl LockGuard {
    pub(super) fn new(inner: Arc<Inner>, epoch: u64) -> Self {
        LockGuard { inner, epoch, first: None, more: Vec::new() }
    }

    pub(super) fn add(&mut self, id: LockId, mode: Mode) {
        match self.first {
            None => self.first = Some((id, mode)),
            Some(_) => self.more.push((id, mode)),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The locks, in ascending order.
    pub fn locks(&self) -> impl Iterator<Item = (LockId, Mode)> {
        self.first.iter().chain(&self.more).copied()
    }

    /// Whether the session under which the locks were held has been lost: they protect nothing any more, and what was
    /// done under them may have been done by somebody else as well.
    pub fn is_void(&self) -> bool {
        self.epoch != self.inner.epoch()
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        for (id, mode) in self.first.iter().chain(&self.more) {
            self.inner.leave(*id, *mode);
        }
    }
}

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.locks()).finish()
    }
}

/// The locks an operation wants, ascending, each once in the stronger mode. Calls `f` with them; the usual cases
/// allocate nothing.
pub(super) fn in_order(wants: &[(LockId, Mode)]) -> std::borrow::Cow<'_, [(LockId, Mode)]> {
    if wants.is_sorted_by(|a, b| a.0 < b.0) {
        return wants.into();
    }
    let mut sorted = wants.to_vec();
    sorted.sort_unstable_by_key(|&(id, mode)| (id, std::cmp::Reverse(mode)));
    sorted.dedup_by_key(|&mut (id, _)| id);
    sorted.into()
}
