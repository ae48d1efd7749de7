//! The tasks behind a lock client: one asks, one gives back, one asks again, one makes room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::LockError;
use super::inner::{Ask, Giving, Inner, Retry};
use super::link::LinkError;
use crate::locks::clock::{now_ns, ns};
use crate::locks::protocol::{Acquire, BATCH_MAX, LockId, Release, SessionId};

/// Commands of one kind under way at once. While all are, further locks gather for the next one.
const COMMANDS_MAX: usize = 4;
/// Hooks running at once.
const HOOKS_MAX: usize = 256;

/// Sends acquires.
pub(super) async fn ask(inner: Arc<Inner>) {
    let permits = Arc::new(Semaphore::new(COMMANDS_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await.expect("never closed");
        let batch = inner.asks.take(BATCH_MAX).await;
        let (epoch, session) = inner.open_session().await;
        let batch: Vec<Ask> = batch.into_iter().filter(|ask| ask.epoch == epoch).collect();
        if !batch.is_empty() {
            let inner = inner.clone();
            tokio::spawn(async move {
                send_acquire(&inner, epoch, session, &batch).await;
                drop(permit);
            });
        }
    }
}

async fn send_acquire(inner: &Inner, epoch: u64, session: SessionId, batch: &[Ask]) {
    inner.counters.acquire_rpcs.add(1);
    inner.counters.locks_asked.add(batch.len());
    let locks = batch.iter().map(|ask| (ask.id, ask.mode)).collect();
    let answer = inner.link.acquire(Acquire { session, locks }, inner.opts.wait_max).await;
    let now = now_ns();
    match answer {
        Ok(said) if said.locks.len() == batch.len() => {
            for (ask, standing) in batch.iter().zip(said.locks) {
                inner.event_at(epoch, ask.id, |lock| lock.answered(said.stamp, standing, now));
            }
        }
        Err(LinkError::NoSession) => inner.lose(epoch),
        Err(LinkError::Refused(why)) => {
            tracing::warn!(locks = batch.len(), why, "the lock service refuses an acquire");
            inner.turn_away(batch.iter().map(|ask| ask.id), &LockError::Refused(why));
        }
        Ok(_) => unanswered(inner, epoch, batch, now),
        Err(trouble) => {
            tracing::warn!(%trouble, locks = batch.len(), "an acquire was not answered; it will be sent again");
            *inner.trouble.lock() = Some(trouble);
            unanswered(inner, epoch, batch, now);
        }
    }
}

fn unanswered(inner: &Inner, epoch: u64, batch: &[Ask], now: u64) {
    for ask in batch {
        inner.event_at(epoch, ask.id, |lock| lock.unanswered(now));
    }
}

/// Takes RETRY literally: asks again for what has been waited for too long.
pub(super) async fn retry(inner: Arc<Inner>) {
    let age = ns(inner.opts.retry);
    loop {
        let mut batch = inner.retries.take(usize::MAX).await;
        while let Some(first) = batch.first() {
            // Entries are in the order of their times, since all wait equally long.
            let now = now_ns();
            if first.due > now {
                tokio::time::sleep(Duration::from_nanos(first.due - now)).await;
                continue;
            }
            let due = batch.iter().take_while(|retry| retry.due <= now).count();
            let asks = batch.drain(..due).filter_map(|retry| ask_again(&inner, &retry, now - age)).collect();
            inner.asks.push_all(asks);
        }
    }
}

fn ask_again(inner: &Inner, retry: &Retry, before: u64) -> Option<Ask> {
    let mut shard = inner.shards.of(retry.id);
    if shard.epoch != retry.epoch {
        return None;
    }
    let outcome = shard.event(retry.id, |lock| lock.retry(before));
    drop(shard);
    inner.finish_but_ask(retry.id, outcome)
}

/// Runs the hooks of locks that are to be given back.
pub(super) async fn run_hooks(inner: Arc<Inner>) {
    let permits = Arc::new(Semaphore::new(HOOKS_MAX));
    loop {
        for giving in inner.gives.take(BATCH_MAX).await {
            if !giving.give.hook {
                inner.ready.push(giving);
                continue;
            }
            let permit = permits.clone().acquire_owned().await.expect("never closed");
            let inner = inner.clone();
            tokio::spawn(async move {
                run_hook(&inner, giving).await;
                drop(permit);
            });
        }
    }
}

/// A hook that panics has not saved what it was told to save: the session must not go on as if it had.
async fn run_hook(inner: &Arc<Inner>, giving: Giving) {
    let hooks = inner.hooks.clone();
    let (id, keep) = (giving.id, giving.give.keep);
    let ran = tokio::spawn(async move { hooks.before_release(id, keep).await }).await;
    match ran {
        Ok(()) => inner.ready.push(giving),
        Err(error) => {
            tracing::error!(lock = id, %error, "the hook before a release failed; the session is given up");
            inner.lose(giving.epoch);
        }
    }
}

/// Sends releases.
pub(super) async fn give(inner: Arc<Inner>) {
    let permits = Arc::new(Semaphore::new(COMMANDS_MAX));
    loop {
        let permit = permits.clone().acquire_owned().await.expect("never closed");
        let batch = inner.ready.take(BATCH_MAX).await;
        let (epoch, session) = inner.open_session().await;
        let batch: Vec<Giving> = batch.into_iter().filter(|giving| giving.epoch == epoch).collect();
        if !batch.is_empty() {
            let inner = inner.clone();
            tokio::spawn(async move {
                send_release(&inner, epoch, session, &batch).await;
                drop(permit);
            });
        }
    }
}

/// A release that is not answered may still be executed at any later time, when the lock may be ours again. There is no
/// way to tell, so the session is given up. That takes longer than a lease without any answer; the session is as good
/// as expired by then.
async fn send_release(inner: &Inner, epoch: u64, session: SessionId, batch: &[Giving]) {
    inner.counters.release_rpcs.add(1);
    inner.counters.locks_given.add(batch.len());
    let locks = batch.iter().map(|giving| (giving.id, giving.give.keep)).collect();
    match inner.link.release(Release { session, locks }, inner.release_patience()).await {
        Ok(said) if said.locks.len() == batch.len() => {
            let now = now_ns();
            for (giving, standing) in batch.iter().zip(said.locks) {
                inner.event_at(epoch, giving.id, |lock| lock.given(said.stamp, standing, now));
            }
            inner.progress.notify_waiters();
        }
        Err(LinkError::NoSession) => inner.lose(epoch),
        answer => {
            let trouble = answer.err();
            tracing::error!(
                locks = batch.len(),
                ?trouble,
                "a release was not answered; the session is given up"
            );
            *inner.trouble.lock() = trouble;
            inner.lose(epoch);
        }
    }
}

/// Gives back the least recently used idle locks when too many are held.
pub(super) async fn make_room(inner: Arc<Inner>) {
    loop {
        inner.reap.notified().await;
        let progress = inner.progress.notified();
        let surplus = inner.held().saturating_sub(inner.opts.idle_max);
        if surplus == 0 {
            continue;
        }
        // A little more than needed, so that not every further lock starts a search of its own.
        let oldest = oldest_idle(&inner, surplus + inner.opts.idle_max / 8);
        if oldest.is_empty() {
            continue;
        }
        inner.counters.evicted.add(oldest.len());
        for id in oldest {
            let outcome = inner.shards.of(id).event(id, |lock| lock.give_back_idle());
            inner.finish(id, outcome);
        }
        progress.await;
    }
}

fn oldest_idle(inner: &Inner, count: usize) -> Vec<LockId> {
    let mut idle: Vec<(u64, LockId)> = Vec::new();
    for shard in inner.shards.each() {
        idle.extend(shard.locks.iter().filter(|(_, lock)| lock.is_idle()).map(|(&id, lock)| (lock.used, id)));
    }
    if count < idle.len() {
        idle.select_nth_unstable(count);
        idle.truncate(count);
    }
    idle.into_iter().map(|(_, id)| id).collect()
}
