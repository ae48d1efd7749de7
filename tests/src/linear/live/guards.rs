//! Users of the caching lock client.

use super::load::{Load, LoadError, PATIENCE, side_by_side};
use crate::linear::models::{GuardOp, Guards};
use crate::linear::{AnyHistory, Clock, Recorder};
use crate::rng::Rng;
use lock_rsm::locks::{LockClient, LockClientOptions, LockGuard, Mode, NoHooks};
use std::sync::Arc;
use std::time::Duration;

/// Lock clients in one process, and tasks that share each.
const CLIENTS: u64 = 2;
const TASKS: u64 = 4;
const LOCKS: u64 = 8;
/// A guard's number is made of its process, times this, and a count.
const GUARDS_MAX: u64 = 1_000_000;

pub(super) async fn run(load: &Load) -> Result<Vec<AnyHistory>, LoadError> {
    let recorder = Recorder::new();
    let mut users = Vec::new();
    for i in 0..CLIENTS {
        let process = load.first_process + i * TASKS;
        let client = connect(load, process).await?;
        users.extend((0..TASKS).map(|task| User {
            process: process + task,
            rng: load.rng(process + task),
            load: load.clone(),
            recorder: recorder.clone(),
            client: client.clone(),
            guards: 0,
        }));
    }
    let process = load.first_process + CLIENTS * TASKS;
    let rng = load.rng(process);
    let client = connect(load, process).await?;
    let doomed = User { process, rng, load: load.clone(), recorder: recorder.clone(), client, guards: 0 };
    let work = users.into_iter().map(|user| (user, false)).chain([(doomed, true)]);
    side_by_side(
        work.map(|(user, dies)| async move { if dies { user.die_often().await } else { user.work().await } }),
    )
    .await?;
    Ok(vec![AnyHistory::Guards(Guards, recorder.history())])
}

async fn connect(load: &Load, process: u64) -> Result<LockClient, LoadError> {
    let name = format!("user {process}");
    // A grant that was pushed by a master that died is asked for soon.
    let retry = Duration::from_millis(500);
    let options = LockClientOptions {
        name,
        connect_max: PATIENCE,
        wait_max: PATIENCE,
        retry,
        ..LockClientOptions::default()
    };
    let connected = LockClient::connect(&load.replicas, options, Arc::new(NoHooks)).await;
    connected.map_err(|error| LoadError::Lock { process, error })
}

struct User {
    process: u64,
    rng: Rng,
    load: Load,
    recorder: Recorder<Guards>,
    client: LockClient,
    guards: u64,
}

/// A guard that is held, and what was recorded about it.
struct Held {
    guard: LockGuard,
    /// Each lock with the number of its guard.
    locks: Vec<(u64, u64)>,
    /// When the lease was last seen to hold; at first, when the guard was asked for.
    protected: u64,
}

impl User {
    async fn work(mut self) -> Result<(), LoadError> {
        while self.load.goes_on() {
            if let Some(mut held) = self.acquire().await? {
                for _ in 0..1 + self.rng.below(3) {
                    let time = Duration::from_micros(self.rng.below(2000) as u64);
                    tokio::time::sleep(time).await;
                    self.look(&mut held);
                }
                self.release(held);
            }
            self.load.breathe(&mut self.rng).await;
        }
        Ok(())
    }

    /// Takes a lock and dies with it, again and again: the client is dropped and its session expires.
    async fn die_often(mut self) -> Result<(), LoadError> {
        while self.load.goes_on() {
            let Some(mut held) = self.acquire().await? else { continue };
            self.look(&mut held);
            if !self.load.cheat {
                self.record_end(&held);
            }
            let next = connect(&self.load, self.process).await?;
            self.client = next; // the session of the one before is kept alive no more
            let alive = Duration::from_millis(500 + self.rng.below(1500) as u64);
            tokio::time::sleep(alive).await;
            if self.load.cheat {
                self.release(held);
            }
        }
        Ok(())
    }

    /// Takes one lock or two. Now and then it does not wait long; a future that is dropped takes nothing.
    async fn acquire(&mut self) -> Result<Option<Held>, LoadError> {
        let mut wants = vec![(Load::name(LOCKS, 4000, &mut self.rng), self.mode())];
        if self.rng.chance(15) {
            wants.push((Load::name(LOCKS, 4000, &mut self.rng), self.mode()));
        }
        wants.sort();
        wants.dedup_by_key(|(lock, _)| *lock);
        let asked = Clock.now();
        let mut locks = Vec::new();
        let mut pending = Vec::new();
        for &(lock, mode) in &wants {
            self.guards += 1;
            let guard = self.process * GUARDS_MAX + self.guards;
            locks.push((lock, guard));
            pending.push(self.recorder.invoke_at(
                self.process,
                asked,
                GuardOp::Acquire { lock, mode, guard },
            ));
        }
        let patience = if self.rng.chance(3) { Duration::from_millis(20) } else { 2 * PATIENCE };
        match tokio::time::timeout(patience, self.client.acquire(&wants)).await {
            Ok(Ok(guard)) => {
                pending.into_iter().for_each(|pending| pending.answer(()));
                let mut held = Held { guard, locks, protected: asked };
                self.look(&mut held);
                Ok(Some(held))
            }
            Ok(Err(error)) => Err(LoadError::Lock { process: self.process, error }),
            Err(_) => {
                pending.into_iter().for_each(|pending| pending.never());
                Ok(None)
            }
        }
    }

    fn mode(&mut self) -> Mode {
        if self.rng.chance(40) { Mode::Shared } else { Mode::Exclusive }
    }

    /// Notes that the guard protects, if it does: the lease holds after the clock was read, and it is still the lease of
    /// the session that the guard is from.
    fn look(&self, held: &mut Held) {
        let now = Clock.now();
        if !self.client.lease_left().is_zero() && !held.guard.is_void() {
            held.protected = now;
        }
    }

    /// Drops a guard. If the lease is not seen to hold at this moment, somebody else may have had the lock since it was.
    fn release(&self, held: Held) {
        let now = Clock.now();
        let protects = self.load.cheat || !self.client.lease_left().is_zero() && !held.guard.is_void();
        if !protects {
            self.record_end(&held);
            return;
        }
        let ends: Vec<_> = held
            .locks
            .iter()
            .map(|&(lock, guard)| {
                let op = GuardOp::Release { lock, guard };
                self.recorder.invoke_at(self.process, now, op)
            })
            .collect();
        drop(held.guard);
        ends.into_iter().for_each(|end| end.answer(()));
    }

    /// Records that the guard protects no longer than it was seen to.
    fn record_end(&self, held: &Held) {
        for &(lock, guard) in &held.locks {
            let op = GuardOp::Release { lock, guard };
            self.recorder.invoke_at(self.process, held.protected, op).unknown();
        }
    }
}
