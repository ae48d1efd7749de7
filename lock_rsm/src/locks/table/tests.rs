//! The lock table by example, and against a naive model under random commands.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::locks::protocol::{Acquire, Mode::*, Release};

/// A table with a clock of stamps and a few sessions; session `n` belongs to client `n`.
struct Bench {
    table: LockTable,
    seq: u64,
    ids: Vec<SessionId>,
    notices: Notices,
}

impl Bench {
    fn new(sessions: usize) -> Bench {
        let mut bench =
            Bench { table: LockTable::default(), seq: 0, ids: Vec::new(), notices: Notices::default() };
        for client in 0..sessions {
            bench.open(client);
        }
        bench
    }

    fn tick(&mut self) -> Stamp {
        self.seq += 1;
        self.notices = Notices::default();
        (1, self.seq)
    }

    fn open(&mut self, client: usize) {
        let stamp = self.tick();
        let args = OpenSession { name: format!("client {client}"), nonce: 7, lease_ms: 10_000 };
        let id = self.table.open_session(stamp, client as u64, &args).unwrap();
        if client < self.ids.len() { self.ids[client] = id } else { self.ids.push(id) }
    }

    fn acquire(&mut self, who: usize, id: LockId, mode: Mode) -> Standing {
        let stamp = self.tick();
        let args = Acquire { session: self.ids[who], locks: vec![(id, mode)] };
        self.table.acquire(stamp, who as u64, &args, &mut self.notices).unwrap()[0]
    }

    fn release(&mut self, who: usize, id: LockId, keep: Option<Mode>) -> Standing {
        let stamp = self.tick();
        let args = Release { session: self.ids[who], locks: vec![(id, keep)] };
        self.table.release(stamp, who as u64, &args, &mut self.notices).unwrap()[0]
    }

    fn end(&mut self, who: usize) {
        let stamp = self.tick();
        assert!(!self.table.end_session(stamp, Some(who as u64), self.ids[who], &mut self.notices));
    }

    /// (session index, lock, mode) of every grant of the last command.
    fn grants(&self) -> Vec<(usize, LockId, Mode)> {
        let flat =
            self.notices.grants().flat_map(|g| g.locks.into_iter().map(move |(l, m)| (g.session, l, m)));
        self.named(flat)
    }

    fn revokes(&self) -> Vec<(usize, LockId, Mode)> {
        let flat =
            self.notices.revokes().flat_map(|r| r.locks.into_iter().map(move |(l, m)| (r.session, l, m)));
        self.named(flat)
    }

    fn named(&self, flat: impl Iterator<Item = (SessionId, LockId, Mode)>) -> Vec<(usize, LockId, Mode)> {
        let index = |id| self.ids.iter().position(|&known| known == id).unwrap();
        let mut all: Vec<_> = flat.map(|(session, lock, mode)| (index(session), lock, mode)).collect();
        all.sort();
        all
    }
}

const RETRY_X: Standing = Standing { held: None, waiting: Some(Exclusive) };
const RETRY_S: Standing = Standing { held: None, waiting: Some(Shared) };
const HELD_X: Standing = Standing { held: Some(Exclusive), waiting: None };
const HELD_S: Standing = Standing { held: Some(Shared), waiting: None };

#[test]
fn a_free_lock_is_granted_and_a_held_one_is_revoked() {
    let mut b = Bench::new(2);
    assert_eq!(b.acquire(0, 1, Exclusive), HELD_X);
    assert!(b.notices.is_empty());
    assert_eq!(b.acquire(1, 1, Exclusive), RETRY_X);
    assert_eq!(b.revokes(), [(0, 1, Exclusive)]);
    assert_eq!(b.release(0, 1, None), Standing::default());
    assert_eq!(b.grants(), [(1, 1, Exclusive)]);
    assert_eq!(b.notices.grants().next().unwrap().stamp, (1, b.seq));
}

#[test]
fn an_acquire_sent_again_says_granted_or_revokes_again() {
    let mut b = Bench::new(3);
    b.acquire(0, 1, Exclusive);
    assert_eq!(b.acquire(0, 1, Exclusive), HELD_X);
    assert_eq!(b.acquire(0, 1, Shared), HELD_X);
    b.acquire(1, 1, Exclusive);
    b.acquire(2, 1, Exclusive);
    assert!(b.revokes().is_empty(), "the holder was told when the first one queued");
    assert_eq!(b.acquire(2, 1, Exclusive), RETRY_X);
    assert_eq!(b.revokes(), [(0, 1, Exclusive)]);
    b.release(0, 1, None);
    assert_eq!(b.grants(), [(1, 1, Exclusive)], "asking again costs no place and wins none");
}

#[test]
fn a_shared_request_does_not_overtake_and_neighbours_enter_together() {
    let mut b = Bench::new(5);
    b.acquire(0, 1, Shared);
    assert_eq!(b.acquire(1, 1, Exclusive), RETRY_X);
    assert_eq!(b.acquire(2, 1, Shared), RETRY_S);
    assert_eq!(b.acquire(3, 1, Shared), RETRY_S);
    assert_eq!(b.acquire(4, 1, Exclusive), RETRY_X);
    b.release(0, 1, None);
    assert_eq!(b.grants(), [(1, 1, Exclusive)]);
    assert_eq!(b.revokes(), [(1, 1, Shared)], "the new holder hears at once that a reader waits");
    b.release(1, 1, None);
    assert_eq!(b.grants(), [(2, 1, Shared), (3, 1, Shared)]);
    assert_eq!(b.revokes(), [(2, 1, Exclusive), (3, 1, Exclusive)]);
}

#[test]
fn a_downgrade_lets_readers_in() {
    let mut b = Bench::new(3);
    b.acquire(0, 1, Exclusive);
    b.acquire(1, 1, Shared);
    assert_eq!(b.revokes(), [(0, 1, Shared)]);
    b.acquire(2, 1, Exclusive);
    assert_eq!(b.release(0, 1, Some(Shared)), HELD_S);
    assert_eq!(b.grants(), [(1, 1, Shared)]);
    assert_eq!(b.revokes(), [(0, 1, Exclusive), (1, 1, Exclusive)]);
}

#[test]
fn the_only_holder_is_upgraded_at_once_even_past_a_queue() {
    let mut b = Bench::new(2);
    b.acquire(0, 1, Shared);
    assert_eq!(b.acquire(0, 1, Exclusive), HELD_X);
    b.release(0, 1, Some(Shared));
    b.acquire(1, 1, Exclusive);
    assert_eq!(b.acquire(0, 1, Exclusive), HELD_X);
    assert_eq!(
        b.revokes(),
        [(0, 1, Exclusive)],
        "told again, since its standing is newer than the last revoke"
    );
}

#[test]
fn two_upgraders_do_not_wait_for_each_other() {
    let mut b = Bench::new(2);
    b.acquire(0, 1, Shared);
    b.acquire(1, 1, Shared);
    assert_eq!(b.acquire(0, 1, Exclusive), Standing { held: Some(Shared), waiting: Some(Exclusive) });
    assert_eq!(b.revokes(), [(1, 1, Exclusive)]);
    assert_eq!(b.acquire(1, 1, Exclusive), Standing { held: Some(Shared), waiting: Some(Exclusive) });
    assert!(b.revokes().is_empty(), "the first in the queue is not asked to give up");
    assert_eq!(b.release(1, 1, None), RETRY_X, "giving up the lock keeps the place");
    assert_eq!(b.grants(), [(0, 1, Exclusive)]);
    assert_eq!(b.revokes(), [(0, 1, Exclusive)]);
    b.release(0, 1, None);
    assert_eq!(b.grants(), [(1, 1, Exclusive)]);
}

#[test]
fn the_end_of_a_session_frees_what_it_held_and_its_places() {
    let mut b = Bench::new(3);
    b.acquire(0, 1, Exclusive);
    b.acquire(0, 2, Shared);
    b.acquire(1, 2, Exclusive);
    b.acquire(2, 2, Shared);
    b.end(1);
    assert_eq!(b.grants(), [(2, 2, Shared)], "the reader waited only for the writer before it");
    b.acquire(2, 1, Exclusive);
    b.end(0);
    assert_eq!(b.grants(), [(2, 1, Exclusive)]);
    let args = Acquire { session: b.ids[0], locks: vec![(9, Shared)] };
    assert_eq!(b.table.acquire((1, 99), 0, &args, &mut Notices::default()), Err(Refusal::NoSession));
}

#[test]
fn another_clients_session_is_refused() {
    let mut b = Bench::new(2);
    let args = Acquire { session: b.ids[0], locks: vec![(1, Shared)] };
    assert_eq!(b.table.acquire((1, 99), 1, &args, &mut Notices::default()), Err(Refusal::NoSession));
    b.table.end_session((1, 100), Some(1), b.ids[0], &mut Notices::default());
    assert_eq!(b.acquire(0, 1, Shared), HELD_S, "only its own client or the master ends a session");
}

#[test]
fn allocated_ids_are_fresh_and_held() {
    let mut b = Bench::new(2);
    b.acquire(1, FIRST_ALLOCATED + 1, Shared);
    let args = Allocate { session: b.ids[0], count: 3 };
    let first = b.table.allocate((1, 50), 0, &args).unwrap();
    assert_eq!(first, FIRST_ALLOCATED + 2, "an id somebody named already is not fresh");
    assert_eq!(b.table.standing(b.ids[0], first + 2), HELD_X);
    assert_eq!(b.table.allocate((1, 51), 0, &args).unwrap(), first + 3);
    assert_eq!(b.acquire(1, first, Shared), RETRY_S);
    let too_many = Allocate { session: b.ids[0], count: BATCH_MAX as u32 + 1 };
    assert_eq!(b.table.allocate((1, 99), 0, &too_many), Err(Refusal::TooLong));
}

#[test]
fn a_full_queue_answers_retry_without_a_place() {
    let mut b = Bench::new(WAITERS_MAX + 2);
    b.acquire(0, 1, Exclusive);
    for who in 1..=WAITERS_MAX {
        assert_eq!(b.acquire(who, 1, Exclusive), RETRY_X);
    }
    assert_eq!(b.acquire(WAITERS_MAX + 1, 1, Exclusive), Standing::default());
    b.release(0, 1, None);
    assert_eq!(b.grants(), [(1, 1, Exclusive)]);
    assert_eq!(b.acquire(WAITERS_MAX + 1, 1, Exclusive), RETRY_X);
}

#[test]
fn a_large_session_ends_in_several_commands() {
    let mut b = Bench::new(2);
    for _ in 0..9 {
        let args = Allocate { session: b.ids[0], count: BATCH_MAX as u32 };
        b.table.allocate((1, 50), 0, &args).unwrap();
    }
    let last = FIRST_ALLOCATED + 9 * BATCH_MAX as u64 - 1;
    b.acquire(1, last, Exclusive);
    let mut notices = Notices::default();
    assert!(b.table.end_session((1, 60), None, b.ids[0], &mut notices));
    assert_eq!(b.table.lease_ms(b.ids[0]), None, "refused from the first command on");
    let copy = LockTable::unmarshal(&b.table.marshal()).unwrap();
    assert_eq!(copy, b.table);
    assert!(!b.table.end_session((1, 61), None, b.ids[0], &mut notices));
    assert_eq!(b.table.standing(b.ids[1], last), HELD_X);
    assert_eq!(b.table.load(), 1);
}

#[test]
fn a_new_master_tells_every_holder_in_the_way() {
    let mut b = Bench::new(4);
    b.acquire(0, 1, Shared);
    b.acquire(1, 1, Shared);
    b.acquire(2, 1, Exclusive);
    b.acquire(3, 1, Exclusive);
    b.acquire(0, 2, Exclusive);
    b.notices = Notices::default();
    b.table.outstanding(&mut b.notices);
    assert_eq!(b.revokes(), [(0, 1, Exclusive), (1, 1, Exclusive)]);
}

#[test]
fn session_ids_differ_between_services_and_are_never_zero() {
    let ids = |nonce| {
        let mut table = LockTable::default();
        let args = OpenSession { name: String::new(), nonce, lease_ms: 1 };
        [(); 3].map(|()| table.open_session((1, 1), 1, &args).unwrap())
    };
    let all: std::collections::BTreeSet<_> = ids(7).into_iter().chain(ids(8)).collect();
    assert_eq!(all.len(), 6);
    assert!(!all.contains(&0));
}

#[test]
fn damaged_bytes_are_refused() {
    let mut b = Bench::new(3);
    b.acquire(0, 1, Exclusive);
    b.acquire(1, 1, Shared);
    b.acquire(2, 7, Shared);
    let bytes = b.table.marshal();
    for cut in 0..bytes.len() {
        assert!(LockTable::unmarshal(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(LockTable::unmarshal(&longer), Err(TableError::Length));
    let mut newer = bytes;
    newer[0] = 9;
    assert_eq!(LockTable::unmarshal(&newer), Err(TableError::Version(9)));
}

#[test]
fn a_million_held_locks_marshal_small_and_quickly() {
    let mut b = Bench::new(1);
    while b.table.load() < 1_000_000 {
        let args = Allocate { session: b.ids[0], count: BATCH_MAX as u32 };
        b.table.allocate((1, 50), 0, &args).unwrap();
    }
    assert_eq!(size_of::<Lock>(), 16);
    assert!(b.table.marshal().len() < 4 * b.table.load());
}

/// The rules in the plainest words: per lock a list of holders and a list of waiters.
#[derive(Default)]
struct Model {
    locks: BTreeMap<LockId, (Holders, Vec<(usize, Mode)>)>,
}

type Holders = BTreeMap<usize, Mode>;

impl Model {
    fn free_for(holders: &Holders, who: usize, mode: Mode) -> bool {
        holders.iter().all(|(&other, &held)| other == who || (mode == Shared && held == Shared))
    }

    fn acquire(&mut self, who: usize, id: LockId, mode: Mode) {
        let (holders, queue) = self.locks.entry(id).or_default();
        if holders.get(&who) >= Some(&mode) {
            return;
        }
        if let Some(waiter) = queue.iter_mut().find(|w| w.0 == who) {
            waiter.1 = waiter.1.max(mode);
        } else if Self::free_for(holders, who, mode) && (queue.is_empty() || holders.contains_key(&who)) {
            holders.insert(who, mode);
        } else {
            queue.push((who, mode));
        }
    }

    fn release(&mut self, who: usize, id: LockId, keep: Option<Mode>) -> Vec<(usize, LockId, Mode)> {
        let (holders, _) = self.locks.entry(id).or_default();
        match (holders.get(&who), keep) {
            (Some(&held), Some(keep)) => drop(holders.insert(who, keep.min(held))),
            _ => drop(holders.remove(&who)),
        }
        self.settle(id)
    }

    fn settle(&mut self, id: LockId) -> Vec<(usize, LockId, Mode)> {
        let (holders, queue) = self.locks.entry(id).or_default();
        let mut granted = Vec::new();
        while queue.first().is_some_and(|&(who, mode)| Self::free_for(holders, who, mode)) {
            let (who, mode) = queue.remove(0);
            holders.insert(who, mode);
            granted.push((who, id, mode));
        }
        granted.sort();
        granted
    }

    fn end(&mut self, who: usize) -> Vec<(usize, LockId, Mode)> {
        for (_, queue) in self.locks.values_mut() {
            queue.retain(|w| w.0 != who);
        }
        let ids: Vec<_> = self.locks.keys().copied().collect();
        let mut granted: Vec<_> = ids.into_iter().flat_map(|id| self.release(who, id, None)).collect();
        granted.sort();
        granted
    }

    fn standing(&self, who: usize, id: LockId) -> Standing {
        let Some((holders, queue)) = self.locks.get(&id) else { return Standing::default() };
        let waiting = queue.iter().find(|w| w.0 == who).map(|w| w.1);
        Standing { held: holders.get(&who).copied(), waiting }
    }

    /// Every holder that the first waiter of the lock waits for.
    fn in_the_way(&self, id: LockId) -> Vec<(usize, LockId, Mode)> {
        let Some((holders, queue)) = self.locks.get(&id) else { return Vec::new() };
        let Some(&(first, mode)) = queue.first() else { return Vec::new() };
        let blocked = |(&who, &held): (&usize, &Mode)| who != first && !(held == Shared && mode == Shared);
        holders.iter().filter(|&h| blocked(h)).map(|(&who, _)| (who, id, mode)).collect()
    }
}

#[derive(Debug, Clone)]
enum Command {
    Acquire(usize, LockId, Mode),
    Release(usize, LockId, Option<Mode>),
    End(usize),
}

impl Command {
    fn subject(&self) -> Option<(usize, LockId)> {
        match *self {
            Command::Acquire(who, id, _) | Command::Release(who, id, _) => Some((who, id)),
            Command::End(_) => None,
        }
    }
}

const SESSIONS: usize = 5;
const LOCKS: LockId = 3;

fn command() -> impl Strategy<Value = Command> {
    let mode = prop_oneof![Just(Shared), Just(Exclusive)];
    prop_oneof![
        8 => (0..SESSIONS, 0..LOCKS, mode).prop_map(|(who, id, mode)| Command::Acquire(who, id, mode)),
        6 => (0..SESSIONS, 0..LOCKS, prop::option::weighted(0.3, Just(Shared)))
            .prop_map(|(who, id, keep)| Command::Release(who, id, keep)),
        1 => (0..SESSIONS).prop_map(Command::End),
    ]
}

/// Runs one command on both and compares what they say.
fn step(bench: &mut Bench, model: &mut Model, command: &Command) {
    let granted = match *command {
        Command::Acquire(who, id, mode) => {
            let said = bench.acquire(who, id, mode);
            model.acquire(who, id, mode);
            assert_eq!(said, model.standing(who, id));
            Vec::new()
        }
        Command::Release(who, id, keep) => {
            let said = bench.release(who, id, keep);
            let granted = model.release(who, id, keep);
            assert_eq!(said, model.standing(who, id));
            granted
        }
        Command::End(who) => {
            bench.end(who);
            model.end(who)
        }
    };
    assert_eq!(bench.grants(), granted);
}

fn run(bench: &mut Bench, command: &Command) {
    match *command {
        Command::Acquire(who, id, mode) => drop(bench.acquire(who, id, mode)),
        Command::Release(who, id, keep) => drop(bench.release(who, id, keep)),
        Command::End(who) => bench.end(who),
    }
}

/// A holder in the way has been told after its standing last changed, unless the revoke was lost on the way.
fn check_told(bench: &Bench, model: &Model, told: &mut BTreeMap<(usize, LockId), Mode>) {
    for (who, id, _) in bench.grants() {
        told.remove(&(who, id));
    }
    for (who, id, mode) in bench.revokes() {
        assert!(model.in_the_way(id).contains(&(who, id, mode)), "revoked without need");
        told.insert((who, id), mode);
    }
    for id in 0..LOCKS {
        for (who, id, mode) in model.in_the_way(id) {
            assert!(
                told.get(&(who, id)) == Some(&mode),
                "session {who} does not know that lock {id} is wanted"
            );
        }
    }
}

fn check_invariants(bench: &Bench, model: &Model) {
    let mut load = 0;
    for id in 0..LOCKS {
        let mut exclusive = 0;
        let mut holders = 0;
        for who in 0..SESSIONS {
            let standing = bench.table.standing(bench.ids[who], id);
            assert_eq!(standing, model.standing(who, id));
            holders += usize::from(standing.held.is_some());
            exclusive += usize::from(standing.held == Some(Exclusive));
            load += usize::from(standing.held.is_some()) + usize::from(standing.waiting.is_some());
        }
        assert!(exclusive == 0 || holders == 1, "mutual exclusion");
        let waiters = model.locks.get(&id).map_or(0, |lock| lock.1.len());
        assert!(waiters == 0 || holders > 0, "a free lock has no waiters");
        assert_eq!(bench.table.stat(id), holders as u32);
    }
    assert_eq!(bench.table.load(), load);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_model_does(commands in prop::collection::vec(command(), 1..120)) {
        let mut bench = Bench::new(SESSIONS);
        let mut replica = Bench::new(SESSIONS);
        let mut model = Model::default();
        let mut told = BTreeMap::new();
        for command in &commands {
            let held = command.subject().and_then(|(who, id)| model.standing(who, id).held);
            step(&mut bench, &mut model, command);
            let notices = bench.notices.clone();
            if let Some((who, id)) = command.subject() && model.standing(who, id).held != held {
                told.remove(&(who, id)); // what it was told concerned another standing
            }
            check_told(&bench, &model, &mut told);
            check_invariants(&bench, &model);
            if let Command::End(who) = *command {
                bench.open(who);
                told.retain(|&(session, _), _| session != who);
            }
            // The replica is restored from a snapshot before each command and must not be told apart.
            let bytes = replica.table.marshal();
            replica.table = LockTable::unmarshal(&bytes).unwrap();
            prop_assert_eq!(&replica.table.marshal(), &bytes);
            run(&mut replica, command);
            prop_assert_eq!(&replica.notices, &notices);
            if let Command::End(who) = *command {
                replica.open(who);
            }
            prop_assert_eq!(&replica.table, &bench.table);
            prop_assert_eq!(replica.table.marshal(), bench.table.marshal());
        }
    }

    #[test]
    fn random_bytes_are_refused_or_read_back_equal(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(table) = LockTable::unmarshal(&bytes) {
            prop_assert_eq!(LockTable::unmarshal(&table.marshal()).unwrap(), table);
        }
    }
}
