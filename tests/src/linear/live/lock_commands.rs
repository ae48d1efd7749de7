//! Clients that send the lock service its commands, one lock at a time, without a cache.

use super::load::{Load, LoadError, PATIENCE, outcome, side_by_side, timeout};
use crate::linear::models::{Allocation, Ids, LockOp, LockTable};
use crate::linear::{AnyHistory, Recorder};
use crate::rng::Rng;
use lock_rsm::locks::protocol::{
    ACQUIRE, ALLOCATE, Acquire, Allocate, Allocated, CLOSE_SESSION, EndSession, Ended, FIRST_ALLOCATED,
    OPEN_SESSION, OpenSession, RELEASE, Release, Standing, Standings,
};
use lock_rsm::locks::{Mode, SessionId};
use lock_rsm::rsm::RsmClient;
use std::collections::BTreeSet;

const CLIENTS: u64 = 4;
const LOCKS: u64 = 4;
/// No session may expire here: its end would not be recorded.
const LEASE_MS: u32 = 3_000_000;
/// A client ends its session and opens another after so many commands.
const COMMANDS_MAX: usize = 200;

/// The ids that this service gives out, when nobody else asks for any.
const IDS: Ids = Ids { first: FIRST_ALLOCATED, gaps: false };

#[derive(Clone, Default)]
struct Recorders {
    locks: Recorder<LockTable>,
    ids: Recorder<Ids>,
}

pub(super) async fn run(load: &Load) -> Result<Vec<AnyHistory>, LoadError> {
    let recorders = Recorders::default();
    let clients = (0..CLIENTS).map(|i| {
        let process = load.first_process + i;
        let (load, recorders) = (load.clone(), recorders.clone());
        async move {
            let mut client =
                Client { process, rng: load.rng(process), rsm: load.connect(process).await?, recorders };
            while load.goes_on() {
                client.session(&load).await?;
            }
            Ok(())
        }
    });
    side_by_side(clients).await?;
    Ok(vec![
        AnyHistory::LockTable(LockTable, recorders.locks.history()),
        AnyHistory::Ids(IDS, recorders.ids.history()),
    ])
}

struct Client {
    process: u64,
    rng: Rng,
    rsm: RsmClient,
    recorders: Recorders,
}

impl Client {
    /// Works within one session, and ends it.
    async fn session(&mut self, load: &Load) -> Result<(), LoadError> {
        let session = self.open().await?;
        let mut asked = BTreeSet::new();
        for _ in 0..COMMANDS_MAX {
            if !load.goes_on() {
                break;
            }
            if self.rng.chance(10) {
                self.allocate(session).await?;
            } else {
                let lock = Load::name(LOCKS, 500, &mut self.rng);
                asked.insert(lock);
                self.command(lock, session).await?;
            }
            load.breathe(&mut self.rng).await;
        }
        self.close(session, &asked).await
    }

    async fn open(&mut self) -> Result<SessionId, LoadError> {
        let name = format!("client {}", self.process);
        let args = OpenSession { name, nonce: self.rng.next_u64(), lease_ms: LEASE_MS };
        let opened = self.rsm.invoke(OPEN_SESSION, &args, PATIENCE).await;
        opened.map_err(|error| LoadError::Rsm { process: self.process, error })
    }

    async fn command(&mut self, lock: u64, session: SessionId) -> Result<(), LoadError> {
        let mode = if self.rng.chance(50) { Mode::Shared } else { Mode::Exclusive };
        let timeout = timeout(&mut self.rng);
        let (op, pending, answer) = match self.rng.below(100) {
            0..55 => {
                let op = LockOp::Acquire { lock, session, mode };
                let pending = self.recorders.locks.invoke(self.process, op);
                let args = Acquire { session, locks: vec![(lock, mode)] };
                (op, pending, self.rsm.invoke::<_, Standings>(ACQUIRE, &args, timeout).await)
            }
            kind => {
                let keep = (kind >= 92).then_some(Mode::Shared);
                let op = LockOp::Release { lock, session, keep };
                let pending = self.recorders.locks.invoke(self.process, op);
                let args = Release { session, locks: vec![(lock, keep)] };
                (op, pending, self.rsm.invoke::<_, Standings>(RELEASE, &args, timeout).await)
            }
        };
        match outcome(self.process, timeout, answer)? {
            Some(standings) => {
                let first =
                    standings.locks.first().unwrap_or_else(|| panic!("{op:?} was answered without a lock"));
                pending.answer(*first);
            }
            None => pending.unknown(),
        }
        Ok(())
    }

    async fn allocate(&mut self, session: SessionId) -> Result<(), LoadError> {
        let count = 1 + self.rng.below(5) as u32;
        let timeout = timeout(&mut self.rng);
        let pending = self.recorders.ids.invoke(self.process, Allocation { count: count.into() });
        let answer: Result<Allocated, _> =
            self.rsm.invoke(ALLOCATE, &Allocate { session, count }, timeout).await;
        match outcome(self.process, timeout, answer)? {
            Some(new) => pending.answer(new.first),
            None => pending.unknown(),
        }
        Ok(())
    }

    /// Ends the session, and with it everything it holds and waits for, all at once.
    async fn close(&mut self, session: SessionId, asked: &BTreeSet<u64>) -> Result<(), LoadError> {
        let ends = asked.iter().map(|&lock| {
            let op = LockOp::End { lock, session };
            self.recorders.locks.invoke(self.process, op)
        });
        let ends: Vec<_> = ends.collect();
        let ended: Result<Ended, _> = self.rsm.invoke(CLOSE_SESSION, &EndSession { session }, PATIENCE).await;
        ended.map_err(|error| LoadError::Rsm { process: self.process, error })?;
        ends.into_iter().for_each(|end| end.answer(Standing::default()));
        Ok(())
    }
}
