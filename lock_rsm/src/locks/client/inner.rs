//! What all parts of a lock client share, and the events that come from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::link::{Link, LinkError};
use super::shards::{Outcome, Shards, Wake};
use super::state::{Effects, Give, LockState};
use super::stats::{Counters, LockStats};
use super::work::Work;
use super::{LockClientOptions, LockError, LockHooks};
use crate::locks::clock::{now_ns, ns};
use crate::locks::protocol::{Grant, LockId, Mode, Revoke, SessionId};

/// A lock to be asked for.
pub(super) struct Ask {
    pub(super) epoch: u64,
    pub(super) id: LockId,
    pub(super) mode: Mode,
}

/// A lock to be given back.
pub(super) struct Giving {
    pub(super) epoch: u64,
    pub(super) id: LockId,
    pub(super) give: Give,
}

/// A lock to be looked at again at `due`.
pub(super) struct Retry {
    pub(super) epoch: u64,
    pub(super) id: LockId,
    pub(super) due: u64,
}

/// Which session is open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    /// Counts the sessions lost.
    pub(super) epoch: u64,
    /// None while a new one is being opened.
    pub(super) session: Option<SessionId>,
}

/// The heart of a lock client.
///
/// Lock order: `session` before a shard; nothing is taken inside of a shard. No lock is held across an await.
pub(super) struct Inner {
    pub(super) opts: LockClientOptions,
    pub(super) link: Arc<dyn Link>,
    pub(super) hooks: Arc<dyn LockHooks>,
    pub(super) runtime: Handle,
    pub(super) shards: Shards,
    pub(super) session: watch::Sender<Current>,
    /// The same as in `session`, for a quick look.
    epoch: AtomicU64,
    /// When the lease ends, on the clock of [`now_ns`]; 0 without a session.
    lease_until: AtomicU64,
    /// Told when the lease is renewed, and when the session is lost.
    pub(super) lease_changed: Notify,
    /// Told when a lost session has been cleared away.
    pub(super) reopen: Notify,
    /// Told when the lease has run out: no time to pause before the next keepalive.
    pub(super) hurry: Notify,
    pub(super) asks: Work<Ask>,
    pub(super) gives: Work<Giving>,
    /// Locks whose hook has run.
    pub(super) ready: Work<Giving>,
    pub(super) retries: Work<Retry>,
    /// Locks held.
    held: AtomicIsize,
    pub(super) reap: Notify,
    /// Told after every release and, while closing, whenever a guard goes.
    pub(super) progress: Notify,
    pub(super) closing: AtomicBool,
    pub(super) counters: Counters,
    /// The last thing that went wrong on the way to the service.
    pub(super) trouble: Mutex<Option<LinkError>>,
}

impl Inner {
    pub(super) fn new(opts: LockClientOptions, link: Arc<dyn Link>, hooks: Arc<dyn LockHooks>) -> Inner {
        Inner {
            opts,
            link,
            hooks,
            runtime: Handle::current(),
            shards: Shards::new(),
            session: watch::Sender::new(Current { epoch: 0, session: None }),
            epoch: AtomicU64::new(0),
            lease_until: AtomicU64::new(0),
            lease_changed: Notify::new(),
            reopen: Notify::new(),
            hurry: Notify::new(),
            asks: Work::new(),
            gives: Work::new(),
            ready: Work::new(),
            retries: Work::new(),
            held: AtomicIsize::new(0),
            reap: Notify::new(),
            progress: Notify::new(),
            closing: AtomicBool::new(false),
            counters: Counters::default(),
            trouble: Mutex::new(None),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn lease_until(&self) -> u64 {
        self.lease_until.load(Ordering::Acquire)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn held(&self) -> usize {
        usize::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn stats(&self) -> LockStats {
        let hits = self.shards.each().map(|shard| shard.hits).sum();
        self.counters.read(hits, self.held() as u64)
    }

    /// Waits for an open session.
    pub(super) async fn open_session(&self) -> (u64, SessionId) {
        let mut watch = self.session.subscribe();
        let current = *watch.wait_for(|current| current.session.is_some()).await.expect("we hold the sender");
        (current.epoch, current.session.expect("waited for"))
    }

    /// Applies an event to a lock, unless the session it belongs to is lost.
    pub(super) fn event_at(
        &self,
        epoch: u64,
        id: LockId,
        event: impl FnOnce(&mut LockState<Wake>) -> Effects<Wake>,
    ) {
        let mut shard = self.shards.of(id);
        if shard.epoch == epoch {
            let outcome = shard.event(id, event);
            drop(shard);
            self.finish(id, outcome);
            self.progressed();
        }
    }

    /// Something happened that a closing client may have waited for.
    pub(super) fn progressed(&self) {
        if self.is_closing() {
            self.progress.notify_waiters();
        }
    }

    /// Does what an event left to do.
    pub(super) fn finish(&self, id: LockId, outcome: Outcome) {
        if let Some(ask) = self.finish_but_ask(id, outcome) {
            self.asks.push(ask);
        }
    }

    /// The same, but the question is left to the caller, who has more of them for one batch.
    pub(super) fn finish_but_ask(&self, id: LockId, outcome: Outcome) -> Option<Ask> {
        let Outcome { epoch, effects, held } = outcome;
        if held != 0 {
            let now_held = self.held.fetch_add(held, Ordering::Relaxed) + held;
            if held > 0 && now_held > self.opts.idle_max as isize {
                self.reap.notify_one();
            }
        }
        if let Some(give) = effects.give {
            self.gives.push(Giving { epoch, id, give });
        }
        if effects.retry_later {
            self.retries.push(Retry { epoch, id, due: now_ns() + ns(self.opts.retry) });
        }
        effects.ask.map(|mode| Ask { epoch, id, mode })
    }

    /// A guard lets go of a lock.
    pub(super) fn leave(&self, id: LockId, mode: Mode) {
        let outcome = self.shards.of(id).event(id, |lock| lock.leave(mode, self.opts.cache));
        self.finish(id, outcome);
        self.progressed();
    }

    /// The epoch of a session that a push is about, if it is the open one.
    fn epoch_of(&self, session: SessionId) -> Option<u64> {
        let current = *self.session.borrow();
        (current.session == Some(session)).then_some(current.epoch)
    }

    /// Others want locks that we hold.
    pub(super) fn pushed_revoke(&self, revoke: &Revoke) {
        let Some(epoch) = self.epoch_of(revoke.session) else { return };
        self.counters.revokes.add(revoke.locks.len());
        for &(id, wanted) in &revoke.locks {
            self.event_at(epoch, id, |lock| lock.revoked(revoke.stamp, wanted));
        }
    }

    /// Locks that we waited for are ours.
    pub(super) fn pushed_grant(&self, grant: &Grant) {
        let Some(epoch) = self.epoch_of(grant.session) else { return };
        self.counters.grants.add(grant.locks.len());
        for &(id, mode) in &grant.locks {
            self.event_at(epoch, id, |lock| lock.granted(grant.stamp, mode));
        }
    }

    /// A keepalive sent at `sent` was answered, if the session is still the same.
    pub(super) fn renew(&self, epoch: u64, sent: u64, lease_ms: u32) {
        self.session.send_if_modified(|current| {
            if current.epoch == epoch {
                self.lease_until.store(sent + u64::from(lease_ms) * 1_000_000, Ordering::Release);
            }
            false
        });
        self.lease_changed.notify_waiters();
    }

    /// The session is open.
    pub(super) fn opened(&self, epoch: u64, session: SessionId) {
        self.session.send_if_modified(|current| {
            let fits = current.epoch == epoch;
            if fits {
                current.session = Some(session);
            }
            fits
        });
    }

    /// The session of `epoch` is void: everything under it is dropped, the owner is told, waiting operations start over.
    pub(super) fn lose(&self, epoch: u64) {
        let mut old = None;
        self.session.send_if_modified(|current| {
            if current.epoch == epoch && current.session.is_some() {
                old = current.session.take();
                current.epoch += 1;
                self.lease_until.store(0, Ordering::Release);
                self.epoch.store(current.epoch, Ordering::Release);
            }
            old.is_some()
        });
        let Some(old) = old else { return };
        tracing::warn!(session = old, client = %self.opts.name, "lock session lost; all its locks are gone");
        self.clear(epoch + 1);
        self.hooks.session_lost(old);
        self.lease_changed.notify_waiters();
        self.progress.notify_waiters();
        self.reopen.notify_one();
    }

    fn clear(&self, epoch: u64) {
        for mut shard in self.shards.each() {
            shard.epoch = epoch;
            let ids: Vec<LockId> = shard.locks.keys().copied().collect();
            let outcomes: Vec<_> = ids.into_iter().map(|id| (id, shard.event(id, LockState::lost))).collect();
            drop(shard);
            for (id, outcome) in outcomes {
                self.finish(id, outcome);
            }
        }
    }

    /// Turns away every operation that waits for a lock.
    pub(super) fn turn_away(&self, ids: impl Iterator<Item = LockId>, why: &LockError) {
        for id in ids {
            let mut shard = self.shards.of(id);
            let outcome = shard.event(id, |lock| {
                let (away, effects) = lock.refused();
                for wake in away {
                    let _ = wake.send(Err(why.clone()));
                }
                effects
            });
            drop(shard);
            self.finish(id, outcome);
            self.progressed();
        }
    }
}
