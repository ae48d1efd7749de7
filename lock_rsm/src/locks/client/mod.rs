//! The caching lock client.
//!
//! A lock, once acquired, stays with the client until another client wants it: most acquisitions cost a short critical
//! section ([`LockClient::try_acquire`]) and no message. The state of each lock is in [`state`], pure; the tasks around
//! it ask for locks in batches, give them back in batches, and keep the session alive.

mod guard;
mod inner;
mod link;
mod rsm_link;

mod session;
mod shards;
mod state;
mod stats;
mod tasks;
#[cfg(test)]
mod tests;
mod work;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rpc::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

pub use guard::LockGuard;
pub use stats::LockStats;

use super::clock::now_ns;
use super::protocol::{Allocate, BATCH_MAX, EndSession, LockId, Mode, NAME_MAX, SessionId};
use guard::in_order;
use inner::Inner;
use link::{Link, LinkError};

/// How a lock client behaves.
#[derive(Debug, Clone)]
pub struct LockClientOptions {
    /// What to call this client in the logs of the service; at most 255 bytes are used.
    pub name: String,
    /// Above so many held locks, idle ones are given back, the least recently used first.
    pub idle_max: usize,
    /// How long to wait for a grant before asking again.
    pub retry: Duration,
    /// How long an acquisition may take before it fails.
    pub wait_max: Duration,
    /// How long [`LockClient::connect`] tries before it fails.
    pub connect_max: Duration,
    /// Whether locks stay with the client after use. Off only to compare, and only where no hook relies on keeping a lock
    /// (the file system does, while it has files open).
    pub cache: bool,
}

impl Default for LockClientOptions {
    fn default() -> Self {
        LockClientOptions {
            name: format!("process {}", std::process::id()),
            idle_max: 100_000,
            retry: Duration::from_secs(2),
            wait_max: Duration::from_secs(60),
            connect_max: Duration::from_secs(15),
            cache: true,
        }
    }
}

/// Why there is no lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It was not granted in time.
    #[error("lock {lock} was not granted within {waited:?}")]
    Timeout {
        /// The first lock that was still missing.
        lock: LockId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It was closed, but a lock could not be given back in time; the session's end gave it back.
    #[error("lock {lock} was still in use {waited:?} after the lock client was told to close")]
    Kept {
        /// One that was left.
        lock: LockId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Something given as an address is none.
    #[error("{0}")]
    BadAddress(String),
    /// The service does not answer.
    #[error("the lock service at {servers} cannot be used: {cause}; are its lock_server processes running?")]
    Unreachable {
        /// The addresses tried.
        servers: String,
        /// What went wrong last.
        cause: String,
    },
    /// The service has no room for more.
    #[error("the lock service refuses: {0}")]
    Refused(&'static str),
    /// The client has been closed.
    #[error("the lock client is closed")]
    Closed,
}

/// What the owner of the data that the locks protect is told.
pub trait LockHooks: Send + Sync + 'static {
    /// `lock` is about to be given back (`keep` is none) or downgraded (`keep` is shared), and no guard on it exists. The
    /// release waits for this, and so do all who want the lock. Must not acquire locks.
    fn before_release(&self, lock: LockId, keep: Option<Mode>) -> BoxFuture<'static, ()>;

    /// The session was lost: all its locks are gone, and everything cached under them is void. Guards from before say so
    /// ([`LockGuard::is_void`]); until they are dropped they still keep operations of this process apart. A new session is
    /// opened after this returns.
    fn session_lost(&self, old: SessionId);

    /// The lease has run out, and nothing was heard. The session may live on, and its locks with it, but from here on
    /// nothing cached may be served until the service is heard again. This client gives out no guards meanwhile; whatever
    /// else serves from what the locks protect (the kernel) must be told. Must not block.
    fn lease_ran_out(&self, _session: SessionId) {}
}

/// Hooks of a client whose locks protect nothing cached.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl LockHooks for NoHooks {
    fn before_release(&self, _: LockId, _: Option<Mode>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn session_lost(&self, _: SessionId) {}
}

/// A client of the lock service, with one session at a time. Clones are the same client.
///
/// When the last clone is dropped without [`LockClient::close`], its locks stay taken until the session expires.
#[derive(Clone)]
pub struct LockClient {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
}

/// Ends the tasks with the last clone of the client.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl LockClient {
    /// Connects to the lock service of which some replicas are at `addrs`, and opens a session.
    pub async fn connect(
        addrs: &[String],
        opts: LockClientOptions,
        hooks: Arc<dyn LockHooks>,
    ) -> Result<LockClient, LockError> {
        rsm_link::connect(addrs, opts, hooks).await
    }

    /// Starts a client on a way to the service, without waiting for the session.
    fn start(mut opts: LockClientOptions, link: Arc<dyn Link>, hooks: Arc<dyn LockHooks>) -> LockClient {
        let mut end = opts.name.len().min(NAME_MAX);
        while !opts.name.is_char_boundary(end) {
            end -= 1;
        }
        opts.name.truncate(end);
        let inner = Arc::new(Inner::new(opts, link, hooks));
        let tasks = vec![
            tokio::spawn(tasks::ask(inner.clone())).abort_handle(),
            tokio::spawn(tasks::retry(inner.clone())).abort_handle(),
            tokio::spawn(tasks::run_hooks(inner.clone())).abort_handle(),
            tokio::spawn(tasks::give(inner.clone())).abort_handle(),
            tokio::spawn(tasks::make_room(inner.clone())).abort_handle(),
            tokio::spawn(session::keep_open(inner.clone())).abort_handle(),
            tokio::spawn(session::watch_lease(inner.clone())).abort_handle(),
        ];
        LockClient { inner, tasks: Arc::new(Tasks(tasks)) }
    }

    /// Waits for the first session.
    async fn opened(self, servers: &[String]) -> Result<LockClient, LockError> {
        let opened = tokio::time::timeout(self.inner.opts.connect_max, self.inner.open_session()).await;
        match opened {
            Ok(_) => Ok(self),
            Err(_) => Err(self.inner.unreachable(servers.join(","))),
        }
    }

    /// Takes the locks if every one is cached in a sufficient mode and free of conflict with other operations of this
    /// process, and the lease has not run out. Never waits; costs one short critical section for each lock.
    pub fn try_acquire(&self, wants: &[(LockId, Mode)]) -> Option<LockGuard> {
        self.inner.clone().try_acquire(wants)
    }

    /// Takes the locks, in ascending order of their ids, each in the stronger mode if it is named twice. The missing ones
    /// are asked for together; one that is granted early may go to others again until those before it are taken, so
    /// clients that wait for each other's locks cannot get stuck. Dropping the future leaves nothing taken.
    pub async fn acquire(&self, wants: &[(LockId, Mode)]) -> Result<LockGuard, LockError> {
        if let Some(guard) = self.try_acquire(wants) {
            return Ok(guard);
        }
        let inner = &self.inner;
        inner.counters.waits.add(1);
        let missing = AtomicU64::new(0);
        let work = inner.acquire(in_order(wants).into_owned(), &missing);
        let waited = inner.opts.wait_max;
        match inner.within(waited, work).await {
            Some(result) => result,
            None => Err(LockError::Timeout { lock: missing.load(Ordering::Relaxed), waited }),
        }
    }

    /// `n` lock ids that were never used before, held exclusive and cached.
    pub async fn allocate(&self, n: u32) -> Result<Range<LockId>, LockError> {
        if n as usize > BATCH_MAX {
            return Err(LockError::Refused("more ids at once than it gives"));
        }
        match self.inner.within(self.inner.opts.wait_max, self.inner.allocate(n)).await {
            Some(result) => result,
            None => Err(self.inner.unreachable("the known addresses".to_owned())),
        }
    }

    /// The open session; 0 while a lost one is being replaced.
    pub fn session(&self) -> SessionId {
        self.inner.session.borrow().session.unwrap_or(0)
    }

    /// How long the session surely lives on, if nothing more is heard from the service.
    pub fn lease_left(&self) -> Duration {
        Duration::from_nanos(self.inner.lease_until().saturating_sub(now_ns()))
    }

    /// Gives up a session that is known to be worthless, for instance because an extent server says that it is fenced:
    /// as if the lock service had expired it.
    pub fn abandon(&self, session: SessionId) {
        let current = *self.inner.session.borrow();
        if current.session == Some(session) {
            self.inner.lose(current.epoch);
        }
    }

    /// What the client has done so far.
    pub fn stats(&self) -> LockStats {
        self.inner.stats()
    }

    /// Gives back all locks, each after its hook has run, and ends the session. Operations that still wait are turned
    /// away; guards are waited for, up to `wait_max`.
    pub async fn close(self) -> Result<(), LockError> {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::Release);
        let patience = inner.opts.wait_max;
        let drained = tokio::time::timeout(patience, inner.drain()).await;
        let left = inner.some_held().unwrap_or(0);
        let Some(session) = inner.session.borrow().session else { return Ok(()) };
        let ended = async {
            while inner.link.close_session(EndSession { session }, patience).await?.more {}
            Ok::<_, LinkError>(())
        };
        match ended.await {
            Ok(()) | Err(LinkError::NoSession) => {}
            Err(trouble) => {
                *inner.trouble.lock() = Some(trouble);
                return Err(inner.unreachable("the known addresses".to_owned()));
            }
        }
        drop(self.tasks);
        drained.map_err(|_| LockError::Kept { lock: left, waited: patience })
    }
}

impl Inner {
    fn try_acquire(self: Arc<Self>, wants: &[(LockId, Mode)]) -> Option<LockGuard> {
        let now = now_ns();
        let is_over = now >= self.lease_until();
        #[cfg(feature = "planted")]
        let is_over = is_over && !crate::planted::is_in_stack(crate::planted::StackBug::ServeAfterLease);
        if is_over || self.is_closing() {
            return None;
        }
        let mut guard: Option<LockGuard> = None;
        for &(id, mode) in in_order(wants).iter() {
            let mut shard = self.shards.of(id);
            if !shard.try_enter(id, mode, now) {
                drop(shard); // before the guard, which goes back to its own shards
                return None;
            }
            let epoch = shard.epoch;
            shard.hits += u64::from(guard.is_none());
            drop(shard);
            let guard = guard.get_or_insert_with(|| LockGuard::new(self.clone(), epoch));
            guard.add(id, mode);
            if guard.epoch() != epoch {
                return None;
            }
        }
        let epoch = self.epoch();
        Some(guard.unwrap_or_else(|| LockGuard::new(self, epoch)))
    }

    async fn acquire(
        self: &Arc<Self>,
        wants: Vec<(LockId, Mode)>,
        missing: &AtomicU64,
    ) -> Result<LockGuard, LockError> {
        loop {
            if self.is_closing() {
                return Err(LockError::Closed);
            }
            if wants.len() > 1 {
                self.ask_ahead(&wants);
            }
            if let Some(guard) = self.take_in_order(&wants, missing).await? {
                return Ok(guard);
            }
        }
    }

    /// None if the session was lost on the way.
    async fn take_in_order(
        self: &Arc<Self>,
        wants: &[(LockId, Mode)],
        missing: &AtomicU64,
    ) -> Result<Option<LockGuard>, LockError> {
        let mut guard = LockGuard::new(self.clone(), self.epoch());
        for &(id, mode) in wants {
            missing.store(id, Ordering::Relaxed);
            let epoch = self.enter(id, mode).await?;
            guard.add(id, mode);
            if epoch != guard.epoch() {
                return Ok(None);
            }
        }
        Ok(self.lease_holds(guard.epoch()).await.then_some(guard))
    }

    /// Asks for all missing locks in one batch. What comes before its turn is merely cached.
    fn ask_ahead(&self, wants: &[(LockId, Mode)]) {
        let asks = wants.iter().filter_map(|&(id, mode)| {
            let outcome = self.shards.of(id).event(id, |lock| lock.want(mode));
            self.finish_but_ask(id, outcome)
        });
        self.asks.push_all(asks.collect());
    }

    /// Waits for one lock; the epoch under which it is held.
    async fn enter(self: &Arc<Self>, id: LockId, mode: Mode) -> Result<u64, LockError> {
        let mut ticket = {
            let mut shard = self.shards.of(id);
            if shard.try_enter(id, mode, now_ns()) {
                return Ok(shard.epoch);
            }
            let number = shard.ticket();
            let (wake, woken) = oneshot::channel();
            let outcome = shard.event(id, |lock| lock.enqueue(number, mode, wake));
            drop(shard);
            self.finish(id, outcome);
            Ticket { inner: self, id, mode, number, woken, settled: false }
        };
        let result = (&mut ticket.woken).await;
        ticket.settled = true;
        result.unwrap_or(Err(LockError::Closed))
    }

    /// Waits until the lease is good again; false if the session was lost.
    async fn lease_holds(&self, epoch: u64) -> bool {
        loop {
            let changed = self.lease_changed.notified();
            if self.epoch() != epoch {
                return false;
            }
            if now_ns() < self.lease_until() {
                return true;
            }
            changed.await;
        }
    }

    async fn allocate(&self, n: u32) -> Result<Range<LockId>, LockError> {
        loop {
            if self.is_closing() {
                return Err(LockError::Closed);
            }
            let (epoch, session) = self.open_session().await;
            self.counters.allocate_rpcs.add(1);
            match self.link.allocate(Allocate { session, count: n }, self.opts.wait_max).await {
                Ok(new) => {
                    let ids = new.first..new.first + u64::from(new.count);
                    for id in ids.clone() {
                        self.event_at(epoch, id, |lock| lock.granted(new.stamp, Mode::Exclusive));
                    }
                    return Ok(ids);
                }
                Err(LinkError::NoSession) => self.lose(epoch),
                Err(LinkError::Refused(why)) => return Err(LockError::Refused(why)),
                Err(trouble) => *self.trouble.lock() = Some(trouble),
            }
        }
    }

    /// Runs `work`, for at most `limit`. Works on threads that are not the runtime's, too.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let timer = {
            let _runtime = self.runtime.enter();
            tokio::time::sleep(limit)
        };
        tokio::select! {
            biased;
            result = work => Some(result),
            () = timer => None,
        }
    }

    /// Turns away who waits, then gives back everything as it becomes idle.
    async fn drain(&self) {
        for mut shard in self.shards.each() {
            for lock in shard.locks.values_mut() {
                for wake in lock.turn_away() {
                    let _ = wake.send(Err(LockError::Closed));
                }
            }
        }
        loop {
            let progress = self.progress.notified();
            if self.session.borrow().session.is_none() || !self.give_back_everything() {
                return;
            }
            progress.await;
        }
    }

    /// Starts to give back whatever is idle; whether anything is still held.
    fn give_back_everything(&self) -> bool {
        let mut left = false;
        for mut shard in self.shards.each() {
            let held: Vec<LockId> =
                shard.locks.iter().filter(|(_, lock)| lock.held().is_some()).map(|(&id, _)| id).collect();
            left |= !held.is_empty();
            let outcomes: Vec<_> =
                held.into_iter().map(|id| (id, shard.event(id, |lock| lock.give_back_for_good()))).collect();
            drop(shard);
            for (id, outcome) in outcomes {
                self.finish(id, outcome);
            }
        }
        left
    }

    fn some_held(&self) -> Option<LockId> {
        let held = |shard: parking_lot::MutexGuard<'_, shards::Shard>| {
            shard.locks.iter().find(|(_, lock)| lock.held().is_some()).map(|(&id, _)| id)
        };
        self.shards.each().find_map(held)
    }

    fn unreachable(&self, servers: String) -> LockError {
        let trouble = self.trouble.lock().clone();
        let cause = trouble.map_or_else(|| "no answer yet".to_owned(), |trouble| trouble.to_string());
        LockError::Unreachable { servers, cause }
    }

    /// Longer than the session can live without an answer.
    fn release_patience(&self) -> Duration {
        let lease = Duration::from_nanos(self.lease_until().saturating_sub(now_ns()));
        Duration::from_secs(60).max(lease * 3)
    }
}

/// A place in a lock's local queue; given up when dropped.
struct Ticket<'a> {
    inner: &'a Arc<Inner>,
    id: LockId,
    mode: Mode,
    number: u64,
    woken: oneshot::Receiver<Result<u64, LockError>>,
    /// The answer has been taken.
    settled: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut shard = self.inner.shards.of(self.id);
        // Answers are given under the shard's mutex: from here on it is there or will never come.
        let outcome = match self.woken.try_recv() {
            Ok(Ok(_)) => shard.event(self.id, |lock| lock.leave(self.mode, self.inner.opts.cache)),
            Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => return,
            Err(oneshot::error::TryRecvError::Empty) => {
                shard.event(self.id, |lock| lock.cancel(self.number).unwrap_or_default())
            }
        };
        drop(shard);
        self.inner.finish(self.id, outcome);
    }
}
