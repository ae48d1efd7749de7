//! Giving locks back, losing them, and the work nobody waits for.

use futures_util::future::join3;

use super::cache::{Openers, Presence, Wish};
use super::errors::{FsError, Step};
use super::format;
use super::fs::Fs;
use super::traits::{Clock, Extents, Locks};
use super::types::{Ino, Mode};
#[cfg(feature = "planted")]
use lock_rsm::planted::{StackBug, is_in_stack};

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// A lock is to be given back (`keep` = `None`) or downgraded (`Some(Shared)`): flushes what depends on it, drops
    /// what may not be kept, tells the kernel. On an error nothing was dropped and the lock must not be released:
    /// call again after a pause.
    pub async fn revoke(&self, ino: Ino, keep: Option<Mode>) -> Result<(), FsError> {
        let epoch = self.0.state.lock().epoch;
        match self.settle(epoch, ino, keep).await {
            // The session is gone, and the lock and all that was cached with it.
            Err(FsError::Lost) => return Ok(()),
            other => other?,
        }
        {
            let mut st = self.0.state.lock();
            if st.epoch != epoch {
                return Ok(());
            }
            if keep.is_some() {
                // Others may now open it, and give up their lock, without our knowing.
                st.inode(ino).openers = Openers::Unknown;
                return Ok(());
            }
            st.forget(ino);
        }
        #[cfg(feature = "planted")]
        if is_in_stack(StackBug::KeepKernelCache) {
            return Ok(());
        }
        self.0.invalidate.attributes(ino);
        self.0.invalidate.entries(ino);
        Ok(())
    }

    /// Makes everything durable that others must find once they have the lock.
    async fn settle(&self, epoch: u64, ino: Ino, keep: Option<Mode>) -> Result<(), FsError> {
        if keep.is_none() {
            self.record_opener(epoch, ino).await?;
            self.move_anchor(epoch, ino).await?;
        }
        #[cfg(feature = "planted")]
        if is_in_stack(StackBug::ReleaseBeforeFlush) {
            return Ok(());
        }
        let dirty = self.0.state.lock().dirty(ino);
        match dirty {
            Some(generation) => self.flush_to(epoch, generation).await,
            None => Ok(()),
        }
    }

    /// Whoever removes the last name of an inode that we have open must find that out without our lock.
    async fn record_opener(&self, epoch: u64, ino: Ino) -> Result<(), FsError> {
        let open = |f: &super::cache::OpenFile| f.count > 0 && !f.recorded;
        if !self.0.state.lock().files.get(&ino).is_some_and(open) {
            return Ok(());
        }
        if !self.is_there(ino).await? {
            return Ok(());
        }
        self.ensure_anchor(epoch).await?;
        let mut tx = self.begin_epoch(epoch).map_err(|_: Step| FsError::Lost)?;
        let session = tx.session();
        let Some(file) = tx.files.get_mut(&ino).filter(|f| open(f)) else { return Ok(()) };
        file.recorded = true;
        tx.set_mark(ino, format::opened_key(ino), false, Some(format::mark()));
        tx.set_mark(ino, format::opener_key(ino, session), false, Some(format::mark()));
        Ok(())
    }

    /// Whether an inode whose lock we have still exists: one that was open when its session was lost may have been
    /// removed by others.
    async fn is_there(&self, ino: Ino) -> Result<bool, FsError> {
        let known = self.0.state.lock().inodes.get(&ino).map_or(Presence::Unknown, |inode| inode.record);
        match known {
            Presence::There(_) => Ok(true),
            Presence::Gone => Ok(false),
            Presence::Unknown => {
                Ok(self.0.store.get(vec![format::attr_key(ino)]).await?.iter().any(Option::is_some))
            }
        }
    }

    /// The session is about to have opener keys: gives it an anchor, by which others can tell that it lives.
    async fn ensure_anchor(&self, epoch: u64) -> Result<(), FsError> {
        if self.0.state.lock().anchor.is_none() {
            self.new_anchor(epoch).await?;
        }
        Ok(())
    }

    /// Someone asks for our anchor's lock to see whether we live: we name another one before we let go.
    async fn move_anchor(&self, epoch: u64, ino: Ino) -> Result<(), FsError> {
        let is_anchor = self.0.state.lock().anchor == Some(ino);
        if !is_anchor {
            return Ok(());
        }
        let generation = self.new_anchor(epoch).await?;
        self.flush_to(epoch, generation).await
    }

    async fn new_anchor(&self, epoch: u64) -> Result<u64, FsError> {
        // Guarded while it is named: from then on a revoke of it finds that it is our anchor.
        let (anchor, _guard) = loop {
            let fresh = self.take_fresh(epoch).await?;
            if let Some(guard) = self.try_lock(epoch, (fresh, Mode::Exclusive)) {
                break (fresh, guard);
            }
        };
        let mut tx = self.begin_epoch(epoch).map_err(|_: Step| FsError::Lost)?;
        tx.anchor = Some(anchor);
        let key = format::session_key(tx.session());
        tx.set_mark(anchor, key, true, Some(format::encode_anchor(anchor)));
        Ok(tx.open.number)
    }

    /// The end of a mount, after its last [`Fs::release`]: takes the session's anchor out of the store (from then on its
    /// opener keys count for nothing) and flushes everything.
    pub async fn shutdown(&self) -> Result<(), FsError> {
        let epoch = self.0.state.lock().epoch;
        let anchor = self.0.state.lock().anchor;
        if let Some(anchor) = anchor
            && let Ok(mut tx) = self.begin_epoch(epoch)
        {
            tx.anchor = None;
            let key = format::session_key(tx.session());
            tx.set_mark(anchor, key, true, None);
        }
        self.flush_all().await
    }

    /// The session and all its locks are gone: forgets everything, remembers which files lost changes.
    pub fn session_lost(&self) {
        let epoch = self.0.state.lock().epoch;
        self.lose(epoch);
    }

    /// Work nobody waits for: early flushes, fresh inode numbers, read-ahead. Never returns; run it in one task.
    /// Nothing depends on it but speed.
    pub async fn background(&self) {
        join3(self.keep_flushing(), self.keep_fresh(), self.keep_reading()).await;
    }

    async fn keep_fresh(&self) {
        loop {
            let ticket = self.0.to_refill.ticket();
            if let Err(e) = self.refill(self.0.limits.allocate_batch as usize / 2).await {
                tracing::debug!("asking for inode numbers ahead: {e}");
            }
            self.0.to_refill.wait(ticket).await;
        }
    }

    async fn keep_reading(&self) {
        loop {
            let ticket = self.0.to_fetch.ticket();
            loop {
                let wish = self.0.state.lock().wishes.pop_front();
                let Some(wish) = wish else { break };
                if let Err(Step::Fail(e)) = self.fulfil(wish).await {
                    tracing::debug!("reading ahead in inode {}: {e}", wish.ino);
                }
            }
            self.0.to_fetch.wait(ticket).await;
        }
    }

    async fn fulfil(&self, wish: Wish) -> Result<(), Step> {
        let epoch = self.0.state.lock().epoch;
        let Some(held) = self.try_lock(epoch, (wish.ino, Mode::Shared)) else { return Ok(()) };
        let record = self.record(&held, wish.ino).await?;
        let end = record.attr.size.min(wish.from + wish.len);
        let want = super::blocks::touched(wish.from, end.saturating_sub(wish.from));
        self.blocks(&held, &record, want, 0).await?;
        Ok(())
    }

    /// An inode number nobody uses, whose lock we hold.
    pub(super) async fn take_fresh(&self, epoch: u64) -> Result<Ino, FsError> {
        loop {
            {
                let mut st = self.0.state.lock();
                if st.epoch != epoch {
                    return Err(FsError::Lost);
                }
                let fresh = st.fresh.pop_front();
                let low = st.fresh.len() < self.0.limits.allocate_batch as usize / 2;
                drop(st);
                if low {
                    self.0.to_refill.signal();
                }
                if let Some(ino) = fresh {
                    return Ok(ino);
                }
            }
            self.refill(1).await?;
        }
    }

    /// Asks for fresh inode numbers if there are fewer than `low`.
    async fn refill(&self, low: usize) -> Result<(), FsError> {
        let _turn = self.0.refill.lock().await;
        let epoch = {
            let st = self.0.state.lock();
            if st.fresh.len() >= low {
                return Ok(());
            }
            st.epoch
        };
        let fresh = self.0.locks.allocate(self.0.limits.allocate_batch.max(1)).await?;
        let mut st = self.0.state.lock();
        if st.epoch == epoch {
            st.fresh.extend(fresh);
        }
        Ok(())
    }
}
