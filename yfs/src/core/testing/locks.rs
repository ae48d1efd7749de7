//! A lock service and its caching clients. Whoever wants a lock that another client holds does that client's revoke
//! work himself, so that a single task can drive everything.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::executor::yield_now;
use crate::core::event::Event;
use crate::core::{FsError, Ino, Locks, Mode};

/// The work a client does before it gives a lock back.
pub type Revoke = Arc<dyn Fn(Ino, Option<Mode>) -> RevokeFuture + Send + Sync>;
/// Its future.
pub type RevokeFuture = Pin<Box<dyn Future<Output = Result<(), FsError>> + Send>>;

/// The service.
#[derive(Default)]
pub struct LockService {
    table: Mutex<Table>,
    changed: Event,
}

#[derive(Default)]
struct Table {
    clients: Vec<Entry>,
    holders: BTreeMap<Ino, BTreeMap<usize, Mode>>,
    /// Locks that are changing hands.
    moving: BTreeSet<Ino>,
    next_id: Ino,
    next_session: u64,
    requests: u64,
}

struct Entry {
    session: u64,
    revoke: Option<Revoke>,
    guards: BTreeMap<Ino, Guards>,
    /// Counts lost sessions: guards of an earlier one count for nothing.
    epoch: u64,
    dead: bool,
}

#[derive(Clone, Copy, Default)]
struct Guards {
    shared: u32,
    exclusive: bool,
}

impl Guards {
    fn fits(self, mode: Mode) -> bool {
        !self.exclusive && (mode == Mode::Shared || self.shared == 0)
    }
}

impl Table {
    fn cached(&self, client: usize, ino: Ino, mode: Mode) -> bool {
        self.holders.get(&ino).and_then(|h| h.get(&client)).is_some_and(|held| *held >= mode)
    }

    /// Whether the client may take a guard now.
    fn free(&self, client: usize, ino: Ino, mode: Mode) -> bool {
        let entry = &self.clients[client];
        !entry.dead
            && self.cached(client, ino, mode)
            && !self.moving.contains(&ino)
            && entry.guards.get(&ino).copied().unwrap_or_default().fits(mode)
    }

    fn enter(&mut self, client: usize, ino: Ino, mode: Mode) {
        let guards = self.clients[client].guards.entry(ino).or_default();
        match mode {
            Mode::Shared => guards.shared += 1,
            Mode::Exclusive => guards.exclusive = true,
        }
    }

    fn leave(&mut self, client: usize, ino: Ino, mode: Mode) {
        let entry = &mut self.clients[client];
        let Some(guards) = entry.guards.get_mut(&ino) else { return };
        match mode {
            Mode::Shared => guards.shared -= 1,
            Mode::Exclusive => guards.exclusive = false,
        }
        if guards.shared == 0 && !guards.exclusive {
            entry.guards.remove(&ino);
        }
    }

    /// Another client whose lock is in the way.
    fn conflict(&self, client: usize, ino: Ino, mode: Mode) -> Option<usize> {
        let holders = self.holders.get(&ino)?;
        let in_the_way = |held: &Mode| mode == Mode::Exclusive || *held == Mode::Exclusive;
        holders.iter().find(|(other, held)| **other != client && in_the_way(held)).map(|(other, _)| *other)
    }
}

enum Next {
    Entered,
    Lost,
    Wait,
    Revoke(usize, Revoke, Option<Mode>),
}

impl LockService {
    /// A service without locks. Fresh ids begin at 2^20.
    pub fn new() -> Arc<LockService> {
        let table = Table { next_id: 1 << 20, next_session: 1, ..Table::default() };
        Arc::new(LockService { table: Mutex::new(table), changed: Event::default() })
    }

    /// A new client with a session.
    pub fn client(self: &Arc<Self>) -> FakeLocks {
        let mut table = self.table.lock();
        let session = table.next_session;
        table.next_session += 1;
        let guards = BTreeMap::new();
        table.clients.push(Entry { session, revoke: None, guards, epoch: 0, dead: false });
        FakeLocks { service: self.clone(), client: table.clients.len() - 1 }
    }

    /// Requests that a real client would have had to send.
    pub fn requests(&self) -> u64 {
        self.table.lock().requests
    }

    fn step(&self, client: usize, ino: Ino, mode: Mode, epoch: u64) -> Next {
        let mut table = self.table.lock();
        let entry = &table.clients[client];
        if entry.dead || entry.epoch != epoch {
            return Next::Lost;
        }
        if table.free(client, ino, mode) {
            table.enter(client, ino, mode);
            return Next::Entered;
        }
        if table.moving.contains(&ino) || table.cached(client, ino, mode) {
            return Next::Wait;
        }
        let Some(other) = table.conflict(client, ino, mode) else {
            table.requests += 1;
            table.holders.entry(ino).or_default().insert(client, mode);
            return self.step_again(table, client, ino, mode);
        };
        if table.clients[other].guards.contains_key(&ino) {
            return Next::Wait;
        }
        let keep = (mode == Mode::Shared).then_some(Mode::Shared);
        let revoke = table.clients[other].revoke.clone().expect("a client that takes locks has its hook set");
        table.moving.insert(ino);
        Next::Revoke(other, revoke, keep)
    }

    fn step_again(
        &self,
        mut table: parking_lot::MutexGuard<'_, Table>,
        client: usize,
        ino: Ino,
        mode: Mode,
    ) -> Next {
        if table.free(client, ino, mode) {
            table.enter(client, ino, mode);
            return Next::Entered;
        }
        Next::Wait
    }

    async fn take(self: &Arc<Self>, client: usize, ino: Ino, mode: Mode, epoch: u64) -> Result<(), FsError> {
        loop {
            let ticket = self.changed.ticket();
            match self.step(client, ino, mode, epoch) {
                Next::Entered => return Ok(()),
                Next::Lost => return Err(FsError::Lost),
                Next::Wait => self.changed.wait(ticket).await,
                Next::Revoke(other, revoke, keep) => {
                    let moving = Moving { service: self.clone(), ino };
                    if revoke(ino, keep).await.is_ok() {
                        self.give(other, ino, keep);
                    } else {
                        yield_now().await;
                    }
                    drop(moving);
                }
            }
        }
    }

    fn give(&self, client: usize, ino: Ino, keep: Option<Mode>) {
        let mut table = self.table.lock();
        let Some(holders) = table.holders.get_mut(&ino) else { return };
        match (keep, holders.get_mut(&client)) {
            (Some(mode), Some(held)) => *held = mode,
            (None, Some(_)) => drop(holders.remove(&client)),
            (_, None) => {}
        }
    }

    /// The client's session ends: its locks are free. A `dead` client never comes back; otherwise it has a new session.
    fn end(&self, client: usize, dead: bool) {
        let mut table = self.table.lock();
        for holders in table.holders.values_mut() {
            holders.remove(&client);
        }
        let session = table.next_session;
        table.next_session += 1;
        let entry = &mut table.clients[client];
        entry.guards.clear();
        entry.epoch += 1;
        entry.dead = dead;
        entry.session = session;
        drop(table);
        self.changed.signal();
    }
}

struct Moving {
    service: Arc<LockService>,
    ino: Ino,
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.service.table.lock().moving.remove(&self.ino);
        self.service.changed.signal();
    }
}

/// One client's locks.
#[derive(Clone)]
pub struct FakeLocks {
    service: Arc<LockService>,
    client: usize,
}

/// A guard.
pub struct FakeGuard {
    locks: FakeLocks,
    epoch: u64,
    held: Vec<(Ino, Mode)>,
}

impl Drop for FakeGuard {
    fn drop(&mut self) {
        let mut table = self.locks.service.table.lock();
        if table.clients[self.locks.client].epoch == self.epoch {
            for (ino, mode) in &self.held {
                table.leave(self.locks.client, *ino, *mode);
            }
        }
        drop(table);
        self.locks.service.changed.signal();
    }
}

impl FakeLocks {
    /// Sets the work to be done before a lock is given back.
    pub fn on_revoke(&self, revoke: Revoke) {
        self.service.table.lock().clients[self.client].revoke = Some(revoke);
    }

    /// The client crashed: its locks are free.
    pub fn crash(&self) {
        self.service.end(self.client, true);
    }

    /// The session expired. `told` must tell the file system; then there is a new session.
    pub fn expire(&self, told: impl FnOnce()) {
        told();
        self.service.end(self.client, false);
    }

    /// Gives back all locks that no guard is on, as a client does that has too many.
    pub async fn give_back_all(&self) -> Result<(), FsError> {
        let held: Vec<Ino> = {
            let table = self.service.table.lock();
            table.holders.iter().filter(|(_, h)| h.contains_key(&self.client)).map(|(ino, _)| *ino).collect()
        };
        for ino in held {
            let revoke = {
                let mut table = self.service.table.lock();
                let entry = &table.clients[self.client];
                if entry.guards.contains_key(&ino) || table.moving.contains(&ino) {
                    continue;
                }
                let revoke = entry.revoke.clone();
                table.moving.insert(ino);
                revoke.expect("a client that takes locks has its hook set")
            };
            let moving = Moving { service: self.service.clone(), ino };
            revoke(ino, None).await?;
            self.service.give(self.client, ino, None);
            drop(moving);
        }
        Ok(())
    }

    fn epoch(&self) -> u64 {
        self.service.table.lock().clients[self.client].epoch
    }
}

impl Locks for FakeLocks {
    type Guard = FakeGuard;

    fn try_acquire(&self, wants: &[(Ino, Mode)]) -> Option<FakeGuard> {
        let mut table = self.service.table.lock();
        if !wants.iter().all(|(ino, mode)| table.free(self.client, *ino, *mode)) {
            return None;
        }
        for (ino, mode) in wants {
            table.enter(self.client, *ino, *mode);
        }
        let epoch = table.clients[self.client].epoch;
        Some(FakeGuard { locks: self.clone(), epoch, held: wants.to_vec() })
    }

    async fn acquire(&self, wants: &[(Ino, Mode)]) -> Result<FakeGuard, FsError> {
        assert!(wants.is_sorted_by(|a, b| a.0 < b.0), "locks are asked for in ascending order, each once");
        let mut guard = FakeGuard { locks: self.clone(), epoch: self.epoch(), held: Vec::new() };
        for (ino, mode) in wants {
            self.service.take(self.client, *ino, *mode, guard.epoch).await?;
            guard.held.push((*ino, *mode));
        }
        Ok(guard)
    }

    async fn allocate(&self, n: u32) -> Result<Range<Ino>, FsError> {
        yield_now().await;
        let mut table = self.service.table.lock();
        if table.clients[self.client].dead {
            return Err(FsError::Lost);
        }
        let first = table.next_id;
        table.next_id += u64::from(n);
        for ino in first..first + u64::from(n) {
            table.holders.entry(ino).or_default().insert(self.client, Mode::Exclusive);
        }
        Ok(first..first + u64::from(n))
    }

    fn session(&self) -> u64 {
        self.service.table.lock().clients[self.client].session
    }

    fn lease_left(&self) -> Duration {
        Duration::from_secs(10)
    }
}
