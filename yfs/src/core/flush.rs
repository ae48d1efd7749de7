//! Flushing: closed generations go to the store one after the other, each data first and then one atomic commit.
//!
//! A flush under way is a shared future: whoever waits for it drives it, and one who goes away does not cancel it, so
//! that a commit is never left half-way and another begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, Either, FutureExt, Shared, ready, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::blocks::{Block, Index};
use super::errors::{FsError, StoreError};
use super::format::BLOCK;
use super::fs::{Fs, Inner};
use super::generation::Closed;
use super::merge;
use super::paths;
use super::traits::{BootId, Clock, Extents, Locks};
use super::types::{Ino, Time};
#[cfg(feature = "planted")]
use lock_rsm::planted::{StackBug, is_in_stack};

/// A flush under way.
pub(super) type Flushing = Shared<BoxFuture<'static, Result<(), FsError>>>;

/// Blocks written with one request, and requests under way at once.
const WRITE_BLOCKS: usize = 16;
const WRITES_IN_FLIGHT: usize = 8;
/// How often the same generation is written again because the server restarted, before the flush fails.
const RESTARTS_MAX: u32 = 16;
/// Closed generations that may wait for a flush.
const CLOSED_MAX: usize = 32;

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Flushes everything that has happened so far (unmount, `sync`).
    pub async fn flush_all(&self) -> Result<(), FsError> {
        let (epoch, target) = {
            let st = self.0.state.lock();
            (st.epoch, if st.open.is_empty() { st.open.number - 1 } else { st.open.number })
        };
        self.flush_to(epoch, target).await
    }

    /// Flushes what is older than [`super::Limits::flush_after`]; call it every few hundred milliseconds.
    pub async fn flush_due(&self, now: Time) -> Result<(), FsError> {
        let due = {
            let st = self.0.state.lock();
            let old = |begun: Time| now.since(begun).is_none_or(|age| age >= self.0.limits.flush_after);
            !st.closed.is_empty() || st.open.begun.is_some_and(|(_, begun)| old(begun))
        };
        if due { self.flush_all().await } else { Ok(()) }
    }

    /// Makes generations up to `target` durable. `Lost` if they were lost with the session.
    pub(super) async fn flush_to(&self, epoch: u64, target: u64) -> Result<(), FsError> {
        loop {
            {
                let mut st = self.0.state.lock();
                if st.epoch != epoch {
                    return Err(FsError::Lost);
                }
                if st.committed >= target {
                    return Ok(());
                }
                if st.open.number <= target {
                    st.close();
                }
                if st.closed.is_empty() {
                    return Ok(());
                }
            }
            match self.join_flush().await {
                // Of our epoch or of the one before, whose flush was still under way: the next look tells.
                Err(FsError::Lost) => {}
                other => other?,
            }
        }
    }

    /// Waits until there is room for more changes. `grows`: the changes need space in the store.
    pub(super) async fn make_room(&self, grows: bool) -> Result<(), FsError> {
        loop {
            let (epoch, target) = {
                let mut st = self.0.state.lock();
                if grows && st.full {
                    return Err(FsError::NoSpace);
                }
                if st.closed.len() < CLOSED_MAX && st.dirty_bytes() < self.0.limits.dirty_bytes_max {
                    return Ok(());
                }
                if st.closed.is_empty() {
                    st.close();
                }
                let Some(oldest) = st.closed.front() else { return Ok(()) };
                (st.epoch, oldest.number)
            };
            match self.flush_to(epoch, target).await {
                Ok(()) | Err(FsError::Lost) => {}
                Err(FsError::NoSpace) if !grows => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Flushes closed generations as they come. Part of [`Fs::background`].
    pub(super) async fn keep_flushing(&self) {
        loop {
            let ticket = self.0.to_flush.ticket();
            let some = !self.0.state.lock().closed.is_empty();
            if some && let Err(e) = self.join_flush().await {
                tracing::debug!("background flush: {e}");
            }
            self.0.to_flush.wait(ticket).await;
        }
    }

    async fn join_flush(&self) -> Result<(), FsError> {
        let flush = {
            let mut flushing = self.0.flushing.lock();
            let start = || run(self.clone()).boxed().shared();
            flushing.get_or_insert_with(start).clone()
        };
        flush.await
    }
}

/// Commits closed generations, oldest first, until there are none or one fails.
async fn run<L: Locks, E: Extents, C: Clock>(fs: Fs<L, E, C>) -> Result<(), FsError> {
    let result = run_all(&fs).await;
    // From here on who joins starts anew; who joined before looks again whether its generation was among these.
    *fs.0.flushing.lock() = None;
    result
}

async fn run_all<L: Locks, E: Extents, C: Clock>(fs: &Fs<L, E, C>) -> Result<(), FsError> {
    let mut ahead = None;
    loop {
        let (epoch, closed, next) = {
            let st = fs.0.state.lock();
            (st.epoch, st.closed.front().cloned(), st.closed.get(1).cloned())
        };
        let Some(closed) = closed else { return Ok(()) };
        let next = next.filter(|next| !merge::must_wait(&closed, next));
        let result = fs.store_generation(&closed, next, &mut ahead).await;
        let mut st = fs.0.state.lock();
        if st.epoch != epoch {
            return Err(FsError::Lost);
        }
        st.full = matches!(result, Err(StoreError::NoSpace));
        match result {
            Ok(()) => {
                st.committed(closed.number);
                st.trim(&fs.0.limits);
            }
            Err(StoreError::NoSpace) if st.merge() => ahead = None,
            Err(StoreError::Fenced(_)) => {
                drop(st);
                fs.lose(epoch);
                return Err(FsError::Lost);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// The outcome of writing a generation's data.
type Objects = Result<Vec<(Ino, BootId)>, StoreError>;

/// The data of a generation on its way while the one before is being committed.
struct Ahead {
    number: u64,
    objects: BoxFuture<'static, Objects>,
}

impl<L: Locks, E: Extents, C: Clock> Fs<L, E, C> {
    /// Data first, then the commit; again if the server restarted in between. While the server syncs, the data of the
    /// `next` generation sets out.
    async fn store_generation(
        &self,
        closed: &Closed,
        next: Option<Arc<Closed>>,
        ahead: &mut Option<Ahead>,
    ) -> Result<(), StoreError> {
        if closed.ops.is_empty() && closed.data.is_empty() {
            return Ok(());
        }
        #[cfg(feature = "planted")]
        if is_in_stack(StackBug::MetadataBeforeData) {
            return self.store_wrongly(closed).await;
        }
        for _ in 0..RESTARTS_MAX {
            let objects = match ahead.take().filter(|a| a.number == closed.number) {
                Some(written) => written.objects.await,
                None => self.0.write_data(closed).await,
            };
            let result = match objects {
                Ok(objects) => {
                    *ahead = next.clone().filter(|n| !n.data.is_empty()).map(|n| self.write_ahead(n));
                    let commit = self.0.store.commit(closed.session, closed.ops.clone(), objects);
                    beside(commit, ahead).await
                }
                Err(e) => Err(e),
            };
            match result {
                #[cfg(feature = "planted")]
                Err(StoreError::Restarted) if is_in_stack(StackBug::LoseGeneration) => return Ok(()),
                Err(StoreError::Restarted) => {
                    *ahead = None;
                    tracing::info!("the extent server restarted: writing data again");
                }
                other => return other,
            }
        }
        Err(StoreError::Unreachable("it restarts again and again".into()))
    }

    #[cfg(feature = "planted")]
    async fn store_wrongly(&self, closed: &Closed) -> Result<(), StoreError> {
        self.0.store.commit(closed.session, closed.ops.clone(), Vec::new()).await?;
        let objects = self.0.write_data(closed).await?;
        self.0.store.commit(closed.session, Vec::new(), objects).await
    }

    fn write_ahead(&self, closed: Arc<Closed>) -> Ahead {
        let (number, fs) = (closed.number, self.clone());
        Ahead { number, objects: async move { fs.0.write_data(&closed).await }.boxed() }
    }
}

/// Drives the write-ahead while the commit is under way, and keeps what is not done of it.
async fn beside(
    commit: impl Future<Output = Result<(), StoreError>>,
    ahead: &mut Option<Ahead>,
) -> Result<(), StoreError> {
    let commit = std::pin::pin!(commit);
    let Some(writing) = ahead else { return commit.await };
    match select(commit, &mut writing.objects).await {
        Either::Left((committed, _)) => committed,
        Either::Right((objects, commit)) => {
            writing.objects = ready(objects).boxed();
            commit.await
        }
    }
}

impl<L: Locks, E: Extents, C: Clock> Inner<L, E, C> {
    /// Writes a generation's data, several requests at once.
    async fn write_data(&self, closed: &Closed) -> Objects {
        let mut requests: Vec<(Ino, &[(Index, Block)])> = Vec::new();
        for (object, blocks) in closed.data.iter().rev() {
            requests.extend(blocks.chunks(WRITE_BLOCKS).rev().map(|chunk| (*object, chunk)));
        }
        let mut under_way = FuturesUnordered::new();
        for _ in 0..WRITES_IN_FLIGHT {
            under_way.extend(requests.pop().map(|(o, chunk)| self.write_chunk(closed.session, o, chunk)));
        }
        let mut boots = BTreeMap::new();
        while let Some(done) = under_way.next().await {
            let (object, boot) = done?;
            if *boots.entry(object).or_insert(boot) != boot {
                return Err(StoreError::Restarted);
            }
            under_way.extend(requests.pop().map(|(o, chunk)| self.write_chunk(closed.session, o, chunk)));
        }
        Ok(boots.into_iter().collect())
    }

    async fn write_chunk(
        &self,
        session: u64,
        object: Ino,
        blocks: &[(Index, Block)],
    ) -> Result<(Ino, BootId), StoreError> {
        let (ranges, data) = lay_out(blocks);
        Ok((object, self.store.write(session, object, ranges, data).await?))
    }
}

/// The ranges of some blocks (neighbours in one range) and their bytes, each block filled up with zeros.
fn lay_out(blocks: &[(Index, Block)]) -> (Vec<(u64, u32)>, Bytes) {
    let mut ranges: Vec<(u64, u32)> = Vec::new();
    let mut data = BytesMut::with_capacity(blocks.len() * BLOCK as usize);
    for (index, block) in blocks {
        let offset = index * BLOCK;
        match ranges.last_mut() {
            Some((start, len)) if *start + u64::from(*len) == offset => *len += BLOCK as u32,
            _ => ranges.push((offset, BLOCK as u32)),
        }
        data.extend_from_slice(block);
        data.resize(ranges.iter().map(|r| r.1 as usize).sum(), 0);
    }
    (ranges, data.freeze())
}

impl<L, E, C> Fs<L, E, C> {
    /// Forgets everything of an epoch whose session is gone, and remembers whom to tell (P4).
    pub(super) fn lose(&self, epoch: u64)
    where
        L: Locks,
        E: Extents,
        C: Clock,
    {
        {
            let mut st = self.0.state.lock();
            if st.epoch != epoch {
                return;
            }
            st.close();
            let closed: Vec<Arc<Closed>> = st.closed.drain(..).collect();
            let lost: BTreeSet<Ino> = closed.iter().flat_map(|c| c.inodes.iter().copied()).collect();
            let paths = paths::paths(&st, &lost.iter().copied().take(LOG_MAX).collect());
            st.reset();
            #[cfg(feature = "planted")]
            let lost = if is_in_stack(StackBug::LoseSilently) { BTreeSet::new() } else { lost };
            for &ino in &lost {
                let open = st.files.get(&ino).is_some_and(|file| file.count > 0);
                st.reports.lose(ino, FsError::Lost, open);
            }
            drop(st);
            log_lost(&lost, &paths);
        }
        self.0.fetched.signal();
        self.0.to_refill.signal();
        self.0.invalidate.everything();
    }
}

/// Inodes named in the log when changes are lost.
const LOG_MAX: usize = 20;

fn log_lost(lost: &BTreeSet<Ino>, paths: &BTreeMap<Ino, String>) {
    if lost.is_empty() {
        return;
    }
    let name = |ino: &Ino| paths.get(ino).cloned().unwrap_or_else(|| format!("inode {ino}"));
    let shown: Vec<String> = lost.iter().take(LOG_MAX).map(name).collect();
    tracing::warn!(
        "the session was lost; unflushed changes of {} files and directories are gone: {}{}",
        lost.len(),
        shown.join(", "),
        if lost.len() > LOG_MAX { ", …" } else { "" }
    );
}
