//! The kernel's caches as this mount sees them: what may be cached and for how long, and taking it back.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::known::{Epoch, Known, Learnt, Seen};
use super::notify::{Notifier, Outcome};
use crate::core::{Attr, FileKind, Ino, Invalidate, ROOT};

/// What the kernel of one mount may hold. Made before the mount; while it is not
/// attached to one, there is nothing to take back.
#[derive(Debug)]
pub struct Kernel {
    known: Known,
    notifier: RwLock<Option<Arc<Notifier>>>,
    /// Invalidated inodes that the kernel is about to have: an answer about them is on its way through the kernel.
    unsettled: Mutex<HashSet<Ino>>,
    attr_timeout: Duration,
}

impl Kernel {
    /// The kernel may keep attributes for `attr_timeout` at most.
    pub fn new(attr_timeout: Duration) -> Kernel {
        Kernel {
            known: Known::new(ROOT),
            notifier: RwLock::new(None),
            unsettled: Mutex::new(HashSet::new()),
            attr_timeout,
        }
    }

    /// From now on invalidations go to this mount.
    pub fn attach(&self, device: OwnedFd) {
        let before = self.notifier.write().replace(Arc::new(Notifier::new(device)));
        assert!(before.is_none(), "a Kernel belongs to one mount");
    }

    /// The mount has ended, and with it all that the kernel had of it.
    pub fn detach(&self) {
        *self.notifier.write() = None;
    }

    /// The moment a request starts; to be taken before its answer is computed.
    pub fn now(&self) -> Epoch {
        self.known.now()
    }

    /// How long the kernel may keep attributes of an inode it has, answered to a request that started at `since`, when
    /// the lease of our locks still lasts `lease_left` (read before this call).
    pub fn attr_ttl(&self, ino: Ino, since: Epoch, lease_left: Duration) -> Duration {
        self.ttl(self.known.may_cache(ino, since), lease_left)
    }

    /// As [`Kernel::attr_ttl`], for an answer that counts as a lookup. To be called before the answer is sent.
    pub fn learn(&self, ino: Ino, since: Epoch, lease_left: Duration) -> (Duration, Learnt) {
        let learnt = self.known.learn(ino, since);
        (self.ttl(learnt.fresh, lease_left), learnt)
    }

    /// The kernel dropped `n` lookups of the inode.
    pub fn forget(&self, ino: Ino, n: u64) {
        self.known.forget(ino, n);
    }

    /// Whether the kernel may have pages of a file that are out of date without noticing by these attributes, which it is
    /// about to be told; see [`Known::has_doubtful_pages`].
    pub fn has_doubtful_pages(&self, attr: &Attr, since: Epoch) -> bool {
        let seen = Seen { size: attr.size, mtime: attr.mtime, ctime: attr.ctime };
        attr.kind == FileKind::Regular && self.known.has_doubtful_pages(attr.ino, seen, since)
    }

    /// Makes the kernel drop the inode's pages. Waits for reads of them that are under way, so no lock may be held.
    pub async fn drop_pages(self: &Arc<Self>, ino: Ino) {
        let notifier = self.notifier.read().clone();
        if let Some(notifier) = notifier {
            let dropping = tokio::task::spawn_blocking(move || notifier.drop_pages(ino));
            if let Ok(Err(e)) = dropping.await {
                tracing::debug!("inode {ino}: no invalidation: {e}"); // the mount is gone, and its pages with it
            }
        }
        self.known.pages_dropped(ino);
    }

    /// How many inodes the kernel has.
    pub fn inodes(&self) -> usize {
        self.known.inodes()
    }

    fn ttl(&self, fresh: bool, lease_left: Duration) -> Duration {
        if fresh { lease_left.min(self.attr_timeout) } else { Duration::ZERO }
    }

    /// Waits until the kernel has digested every answer about the inode that was sent before it was invalidated, so that
    /// its lock may be given away. Nearly always that is at once.
    ///
    /// Bounded: whatever the kernel may still make of such an answer times out with `attr_timeout`.
    pub async fn settle(&self, ino: Ino) {
        self.settle_by(ino, |ino| self.expire(ino)).await;
    }

    async fn settle_by(&self, ino: Ino, expire: impl Fn(Ino) -> bool) {
        let deadline = Instant::now() + self.attr_timeout;
        let mut pause = Duration::from_micros(50);
        while self.unsettled.lock().contains(&ino) && Instant::now() < deadline {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
            if !self.known.has(ino) || expire(ino) {
                break;
            }
        }
        self.unsettled.lock().remove(&ino);
    }

    /// Everything this mount knew is void: the session is lost, or its lease has run out. The kernel's copies time out with
    /// the lease by themselves; this makes it certain and soon. Takes microseconds per inode. Returns those the kernel is
    /// about to have, which are to be settled.
    pub fn invalidate_all(&self) -> Vec<Ino> {
        let absent: Vec<Ino> =
            self.known.invalidate_all().into_iter().filter(|&ino| !self.expire(ino)).collect();
        self.unsettled.lock().extend(&absent);
        absent
    }

    /// `false` when the kernel does not have the inode (yet).
    fn expire(&self, ino: Ino) -> bool {
        let notifier = self.notifier.read();
        let Some(notifier) = notifier.as_ref() else { return true };
        match notifier.expire_attributes(ino) {
            Ok(outcome) => outcome == Outcome::Done,
            Err(e) => {
                tracing::debug!("inode {ino}: no invalidation: {e}"); // the mount is gone, and its cache with it
                true
            }
        }
    }
}

impl Invalidate for Kernel {
    fn attributes(&self, ino: Ino) {
        if self.known.invalidate(ino) && !self.expire(ino) {
            self.unsettled.lock().insert(ino);
        }
    }

    /// Entries are handed out with timeout 0: the kernel looks every name up again.
    fn entries(&self, _dir: Ino) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[test]
    fn nothing_is_cached_beyond_the_lease() {
        let kernel = Kernel::new(Duration::from_secs(60));
        let now = kernel.now();
        assert_eq!(kernel.attr_ttl(5, now, LEASE), LEASE);
        assert_eq!(kernel.attr_ttl(5, now, Duration::ZERO), Duration::ZERO);
        assert_eq!(kernel.attr_ttl(5, now, Duration::from_secs(600)), Duration::from_secs(60));
        kernel.attributes(5);
        assert_eq!(kernel.attr_ttl(5, now, LEASE), Duration::ZERO, "computed before the invalidation");
        assert_eq!(kernel.attr_ttl(5, kernel.now(), LEASE), LEASE);
    }

    #[tokio::test]
    async fn an_answer_on_its_way_is_waited_for() {
        let kernel = Kernel::new(LEASE);
        kernel.learn(5, kernel.now(), LEASE);
        kernel.unsettled.lock().insert(5);
        let tries = std::cell::Cell::new(0);
        let arrives_at_third = |_| {
            tries.set(tries.get() + 1);
            tries.get() == 3
        };
        kernel.settle_by(5, arrives_at_third).await;
        assert_eq!(tries.get(), 3);
        assert!(kernel.unsettled.lock().is_empty());
        kernel.settle_by(5, |_| unreachable!("there is nothing to settle any more")).await;
    }

    #[tokio::test]
    async fn a_forgotten_inode_is_not_waited_for() {
        let kernel = Kernel::new(LEASE);
        kernel.unsettled.lock().insert(6);
        kernel.settle_by(6, |_| false).await;
        assert!(kernel.unsettled.lock().is_empty());
    }

    #[tokio::test]
    async fn settling_is_bounded_by_the_timeout_of_what_is_cached() {
        let kernel = Kernel::new(Duration::from_millis(30));
        kernel.learn(5, kernel.now(), LEASE);
        kernel.unsettled.lock().insert(5);
        let bounded = kernel.settle_by(5, |_| false);
        tokio::time::timeout(Duration::from_secs(20), bounded).await.unwrap();
        assert!(kernel.unsettled.lock().is_empty());
    }
}
