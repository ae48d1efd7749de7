//! What the kernel may know and cache: which inodes it has, and whether an answer being given is still fresh.
//!
//! The kernel may keep attributes only while we hold the inode's lock. When the lock is given up, we expire them with a
//! notification. Two kinds of answers could slip past that and leave the kernel with stale attributes, and this table
//! stops both:
//!
//! 1. An answer computed before the invalidation but sent after it. The kernel discards it when it knew the inode (its
//!    `attr_version` has moved on), but not when it learns of the inode by this very answer. So each request notes the
//!    *epoch* at its start, each invalidation starts a new epoch, and an answer about an inode invalidated since gets the
//!    timeout 0 ([`Known::may_cache`], [`Known::learn`]).
//! 2. An answer sent before the invalidation that the kernel has not digested yet: the notification then finds no such
//!    inode, and the inode appears afterwards. Lookups are counted when answered and forgets when received, so we know
//!    that the kernel will have the inode any moment, and the invalidation is repeated until it arrives
//!    ([`Known::has`]; see `Kernel::settle`).
//!
//! And one thing the kernel cannot see at all: it holds its pages for good while size and modification time are what they
//! were, but `utimensat` can set the modification time back after a change. So the table remembers with which attributes
//! the kernel's pages go, and finds out when they may have changed although these two are the same: somebody else had
//! the lock, and the time of the last change of *anything* (ctime), which nobody can set, differs
//! ([`Known::has_doubtful_pages`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::core::Time;

/// A moment in the order of invalidations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

const SHARDS: usize = 64;
const SLOTS: usize = 64;

/// See the module's description.
#[derive(Debug)]
pub struct Known {
    epoch: AtomicU64,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    /// Inodes the kernel has references to.
    inodes: HashMap<u64, Inode>,
    /// Epoch of the latest invalidation among the inodes that share the slot. Sharing costs a cached answer now and
    /// then, never freshness, and bounds the memory.
    invalidated: [u64; SLOTS],
}

#[derive(Debug, Default)]
struct Inode {
    /// How many lookups the kernel owes us forgets for.
    lookups: u64,
    /// What its pages were last checked against, and when.
    seen: Option<(Seen, Epoch)>,
}

/// The attributes by which the kernel, and we, tell whether the pages of an inode are up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Time of the last change of anything.
    pub ctime: Time,
}

impl Known {
    /// Nothing known but the root, which the kernel has for as long as the mount lasts.
    pub fn new(root: u64) -> Known {
        let shard = || Mutex::new(Shard { inodes: HashMap::new(), invalidated: [0; SLOTS] });
        let known = Known { epoch: AtomicU64::new(1), shards: (0..SHARDS).map(|_| shard()).collect() };
        known.shard(root).lock().inodes.insert(root, Inode { lookups: 1, seen: None });
        known
    }

    /// The epoch in which a request starts; to be taken before the request's answer is computed.
    pub fn now(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    /// Whether an answer about `ino`, to a request that started at `since`, is still fresh.
    pub fn may_cache(&self, ino: u64, since: Epoch) -> bool {
        self.shard(ino).lock().invalidated[slot(ino)] <= since.0
    }

    /// Notes that the kernel is being told of the inode by an answer that counts as a lookup. Must be called before the
    /// answer is sent. Says whether the answer is still fresh and whether the inode is new to the kernel.
    pub fn learn(&self, ino: u64, since: Epoch) -> Learnt {
        let mut shard = self.shard(ino).lock();
        let fresh = shard.invalidated[slot(ino)] <= since.0;
        let inode = shard.inodes.entry(ino).or_default();
        inode.lookups += 1;
        Learnt { fresh, new: inode.lookups == 1 }
    }

    /// The kernel dropped `n` lookups of the inode.
    pub fn forget(&self, ino: u64, n: u64) {
        let mut shard = self.shard(ino).lock();
        if let Some(inode) = shard.inodes.get_mut(&ino) {
            inode.lookups = inode.lookups.saturating_sub(n);
            if inode.lookups == 0 {
                shard.inodes.remove(&ino);
            }
        }
    }

    /// The kernel is about to be told these attributes, to a request that started at `since`: may it have pages that are
    /// out of date without noticing? If not, these are what its pages go with from now on. If so, the pages must be
    /// dropped, then [`Known::pages_dropped`] be called, and the attributes be looked at anew.
    pub fn has_doubtful_pages(&self, ino: u64, seen: Seen, since: Epoch) -> bool {
        let mut shard = self.shard(ino).lock();
        let invalidated = shard.invalidated[slot(ino)];
        let Some(inode) = shard.inodes.get_mut(&ino) else { return false };
        if let Some((before, when)) = inode.seen {
            let unnoticed =
                (before.size, before.mtime) == (seen.size, seen.mtime) && before.ctime != seen.ctime;
            if unnoticed && when.0 < invalidated {
                return true;
            }
        }
        inode.seen = Some((seen, since));
        false
    }

    /// The kernel has no pages of the inode any more.
    pub fn pages_dropped(&self, ino: u64) {
        if let Some(inode) = self.shard(ino).lock().inodes.get_mut(&ino) {
            inode.seen = None;
        }
    }

    /// Whether the kernel has the inode, or will have it as soon as it digests what was sent.
    pub fn has(&self, ino: u64) -> bool {
        self.shard(ino).lock().inodes.contains_key(&ino)
    }

    /// Starts a new epoch for the inode: what was computed about it before must not be cached from now on. Says whether
    /// the kernel has the inode, see [`Known::has`].
    pub fn invalidate(&self, ino: u64) -> bool {
        let mut shard = self.shard(ino).lock();
        // Within the shard's lock, so that an answer is checked either before (and then counted) or after this.
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        shard.invalidated[slot(ino)] = epoch;
        shard.inodes.contains_key(&ino)
    }

    /// Starts a new epoch for everything; returns the inodes the kernel has.
    pub fn invalidate_all(&self) -> Vec<u64> {
        let mut inodes = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
            shard.invalidated = [epoch; SLOTS];
            inodes.extend(shard.inodes.keys().copied());
        }
        inodes
    }

    /// How many inodes the kernel has.
    pub fn inodes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().inodes.len()).sum()
    }

    fn shard(&self, ino: u64) -> &Mutex<Shard> {
        &self.shards[spread(ino) % SHARDS]
    }
}

/// What [`Known::learn`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// Nothing invalidated the inode since the request started.
    pub fresh: bool,
    /// The kernel did not have the inode before.
    pub new: bool,
}

/// Inode numbers are handed out in ranges; the upper half of a multiplicative hash spreads them.
fn spread(ino: u64) -> usize {
    (ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

fn slot(ino: u64) -> usize {
    spread(ino) / SHARDS % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_crossed_an_invalidation_is_not_cached() {
        let known = Known::new(1);
        let before = known.now();
        assert!(known.may_cache(7, before));
        known.invalidate(7);
        assert!(!known.may_cache(7, before));
        assert!(!known.learn(7, before).fresh);
        assert!(known.may_cache(7, known.now()), "a request that starts now is fresh");
    }

    #[test]
    fn another_inode_is_not_affected() {
        let known = Known::new(1);
        let before = known.now();
        let other = (8..).find(|i| spread(*i) % (SHARDS * SLOTS) != spread(7) % (SHARDS * SLOTS)).unwrap();
        known.invalidate(7);
        assert!(known.may_cache(other, before));
    }

    #[test]
    fn lookups_and_forgets_are_counted() {
        let known = Known::new(1);
        assert!(known.has(1) && !known.has(7));
        assert!(!known.invalidate(7));
        assert!(known.learn(7, known.now()).new);
        assert!(!known.learn(7, known.now()).new);
        known.forget(7, 1);
        assert!(known.has(7) && known.invalidate(7));
        known.forget(7, 1);
        assert!(!known.has(7));
        known.forget(7, 1); // one too many must not underflow
        assert_eq!(known.inodes(), 1);
    }

    #[test]
    fn losing_everything_invalidates_everything() {
        let known = Known::new(1);
        for ino in 2..500 {
            known.learn(ino, known.now());
        }
        let before = known.now();
        assert_eq!(known.invalidate_all().len(), 499);
        assert!((1..1000).all(|ino| !known.may_cache(ino, before)));
        assert!((1..1000).all(|ino| known.may_cache(ino, known.now())));
    }

    #[test]
    fn pages_are_doubted_only_after_somebody_else_had_the_lock() {
        let known = Known::new(1);
        let at = |secs| Time { secs, nanos: 0 };
        let seen = |mtime, ctime| Seen { size: 10, mtime: at(mtime), ctime: at(ctime) };
        let doubtful = |what| known.has_doubtful_pages(7, what, known.now());
        assert!(!doubtful(seen(1, 1)), "the kernel does not even have the inode");
        known.learn(7, known.now());
        assert!(!doubtful(seen(1, 1)));
        assert!(!doubtful(seen(1, 2)), "our own change of the attributes");
        known.invalidate(7);
        assert!(!doubtful(seen(1, 2)), "nothing has changed");
        known.invalidate(7);
        assert!(!doubtful(seen(3, 3)), "the kernel notices this by itself");
        known.invalidate(7);
        assert!(doubtful(seen(3, 4)), "changed, and the modification time set back, perhaps");
        assert!(doubtful(seen(3, 4)), "until the pages are dropped");
        known.pages_dropped(7);
        assert!(!doubtful(seen(3, 4)));
    }

    #[test]
    fn consecutive_inodes_spread_over_the_shards() {
        let mut per_shard = [0; SHARDS];
        for ino in 1 << 20..(1 << 20) + 6400 {
            per_shard[spread(ino) % SHARDS] += 1;
        }
        assert!(per_shard.iter().all(|n| *n < 300), "{per_shard:?}");
    }
}
