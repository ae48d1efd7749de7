//! One lock's state by example, and several clients against the real lock table over an unkind network.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::locks::protocol::{Acquire, LockId, Mode::*, OpenSession, Release, SessionId};
use crate::locks::table::{LockTable, Notices};

type State = LockState<u64>;

const HELD_X: Standing = Standing { held: Some(Exclusive), waiting: None };
const HELD_S: Standing = Standing { held: Some(Shared), waiting: None };
const NOT_HELD: Standing = Standing { held: None, waiting: None };
const RETRY_X: Standing = Standing { held: None, waiting: Some(Exclusive) };

fn at(seq: u64) -> Stamp {
    (1, seq)
}

fn asks(effects: &Effects<u64>) -> Option<Mode> {
    assert!(effects.wake.is_empty() && effects.give.is_none());
    effects.ask
}

fn gives(effects: &Effects<u64>) -> Option<Option<Mode>> {
    effects.give.map(|give| give.keep)
}

/// A lock held in `mode` since stamp 10, with no guard.
fn cached(mode: Mode) -> State {
    let mut lock = State::new((0, 0));
    assert_eq!(asks(&lock.want(mode)), Some(mode));
    lock.answered(at(10), Standing { held: Some(mode), waiting: None }, 0);
    assert!(lock.is_idle());
    lock
}

#[test]
fn a_cached_lock_is_entered_without_asking() {
    let mut lock = cached(Exclusive);
    assert!(lock.try_enter(Shared, 1));
    assert!(lock.try_enter(Shared, 2));
    assert!(!lock.try_enter(Exclusive, 3), "readers of this process exclude its writer");
    lock.leave(Shared, true);
    lock.leave(Shared, true);
    assert!(lock.try_enter(Exclusive, 4));
    assert!(!lock.try_enter(Shared, 5));
    lock.leave(Exclusive, true);
    assert!(lock.is_idle());
}

#[test]
fn local_waiters_go_in_order_and_readers_do_not_overtake() {
    let mut lock = cached(Exclusive);
    assert!(lock.try_enter(Shared, 0));
    assert!(lock.enqueue(1, Exclusive, 1).wake.is_empty());
    assert!(!lock.try_enter(Shared, 0), "a reader does not overtake the waiting writer");
    assert!(lock.enqueue(2, Shared, 2).wake.is_empty());
    assert!(lock.enqueue(3, Shared, 3).wake.is_empty());
    assert_eq!(lock.leave(Shared, true).wake, [1]);
    assert_eq!(lock.leave(Exclusive, true).wake, [2, 3]);
}

#[test]
fn an_idle_lock_is_given_back_on_revoke_and_a_busy_one_afterwards() {
    let mut lock = cached(Exclusive);
    assert_eq!(gives(&lock.revoked(at(11), Exclusive)), Some(None));
    assert!(!lock.try_enter(Shared, 0), "not while it is given back");

    let mut lock = cached(Exclusive);
    assert!(lock.try_enter(Exclusive, 0));
    assert_eq!(lock.revoked(at(11), Exclusive), Effects::default());
    assert!(lock.enqueue(1, Shared, 1).wake.is_empty());
    let effects = lock.leave(Exclusive, true);
    assert!(effects.wake.is_empty(), "the door is closed to later comers");
    assert_eq!(gives(&effects), Some(None));
    assert_eq!(asks(&lock.given(at(12), NOT_HELD, 0)), Some(Shared), "they acquire it again");
}

#[test]
fn a_reader_elsewhere_only_costs_a_downgrade() {
    let mut lock = cached(Exclusive);
    assert_eq!(gives(&lock.revoked(at(11), Shared)), Some(Some(Shared)));
    lock.given(at(12), HELD_S, 0);
    assert!(lock.try_enter(Shared, 0));
    assert!(!lock.try_enter(Exclusive, 0));
}

#[test]
fn a_revoke_before_the_ok_counts_after_one_local_operation() {
    let mut lock = State::new((0, 0));
    assert_eq!(asks(&lock.enqueue(1, Exclusive, 1)), Some(Exclusive));
    lock.enqueue(2, Exclusive, 2);
    assert_eq!(lock.revoked(at(11), Exclusive), Effects::default());
    let effects = lock.answered(at(10), HELD_X, 0);
    assert_eq!(effects.wake, [1]);
    assert_eq!(effects.give, None, "it serves one local operation first");
    assert_eq!(gives(&lock.leave(Exclusive, true)), Some(None), "and only one");
}

#[test]
fn an_old_revoke_does_not_count() {
    let mut lock = State::new((0, 0));
    lock.enqueue(1, Exclusive, 1);
    lock.revoked(at(9), Exclusive);
    lock.answered(at(10), HELD_X, 0);
    assert_eq!(lock.leave(Exclusive, true), Effects::default());
    assert_eq!(lock.revoked(at(9), Exclusive), Effects::default());
    assert!(lock.try_enter(Exclusive, 0));
}

#[test]
fn a_grant_before_the_retry_counts() {
    let mut lock = State::new((0, 0));
    lock.enqueue(1, Exclusive, 1);
    assert_eq!(lock.granted(at(12), Exclusive).wake, [1]);
    assert_eq!(lock.answered(at(11), RETRY_X, 0), Effects::default());
    assert_eq!(lock.leave(Exclusive, true), Effects::default());
    assert!(lock.is_idle());
}

#[test]
fn a_stale_grant_does_not_count() {
    let mut lock = cached(Exclusive);
    lock.revoked(at(11), Exclusive);
    lock.granted(at(10), Exclusive);
    lock.given(at(12), NOT_HELD, 0);
    assert_eq!(lock.held(), None, "the grant was from before the release");
    lock.granted(at(11), Exclusive);
    assert_eq!(lock.held(), None);
    assert!(lock.is_forgettable());
}

#[test]
fn retry_is_taken_literally() {
    let mut lock = State::new((0, 0));
    lock.enqueue(1, Exclusive, 1);
    assert!(lock.answered(at(10), RETRY_X, 100).retry_later);
    assert_eq!(asks(&lock.retry(99)), None, "not yet");
    assert_eq!(asks(&lock.retry(100)), Some(Exclusive));
    assert_eq!(asks(&lock.retry(100)), None, "one command at a time");
    assert!(lock.unanswered(200).retry_later);
    assert_eq!(asks(&lock.retry(200)), Some(Exclusive));
    assert_eq!(lock.answered(at(20), HELD_X, 300).wake, [1]);
}

#[test]
fn a_revoke_while_waiting_to_upgrade_gives_up_the_shared_lock_and_keeps_the_place() {
    let mut lock = cached(Shared);
    assert_eq!(asks(&lock.enqueue(1, Exclusive, 1)), Some(Exclusive));
    assert_eq!(lock.revoked(at(11), Exclusive), Effects::default(), "not while the acquire is in flight");
    let effects = lock.answered(at(12), Standing { held: Some(Shared), waiting: Some(Exclusive) }, 0);
    assert_eq!(gives(&effects), Some(None));
    assert!(lock.given(at(13), RETRY_X, 0).retry_later);
    assert_eq!(lock.granted(at(14), Exclusive).wake, [1]);
}

#[test]
fn a_grant_during_a_release_counts_only_if_it_is_newer() {
    for (grant, held) in [(11, None), (13, Some(Exclusive))] {
        let mut lock = cached(Shared);
        lock.enqueue(1, Exclusive, 1);
        lock.answered(at(10), Standing { held: Some(Shared), waiting: Some(Exclusive) }, 0);
        assert_eq!(gives(&lock.revoked(at(10), Exclusive)), Some(None));
        lock.granted(at(grant), Exclusive);
        assert_eq!(lock.held(), Some(Shared));
        let effects = lock.given(at(12), if held.is_some() { RETRY_X } else { NOT_HELD }, 0);
        assert_eq!(lock.held(), held);
        assert_eq!(effects.wake.len(), usize::from(held.is_some()));
        assert_eq!(effects.ask, if held.is_none() { Some(Exclusive) } else { None });
    }
}

#[test]
fn a_lock_the_server_takes_for_ours_is_given_back_without_the_hook() {
    let mut lock = State::new(at(5));
    assert_eq!(lock.revoked(at(5), Exclusive), Effects::default());
    assert!(lock.is_forgettable());
    let effects = lock.revoked(at(6), Exclusive);
    assert_eq!(effects.give, Some(Give { keep: None, hook: false }));
    lock.given(at(7), NOT_HELD, 0);
    assert!(lock.is_forgettable());
}

#[test]
fn a_revoke_without_its_grant_makes_us_ask_at_once() {
    let mut lock = State::new((0, 0));
    lock.enqueue(1, Exclusive, 1);
    lock.answered(at(10), RETRY_X, 0);
    assert_eq!(asks(&lock.revoked(at(12), Exclusive)), Some(Exclusive));
    let effects = lock.answered(at(13), HELD_X, 0);
    assert_eq!(effects.wake, [1]);
}

#[test]
fn a_cancelled_operation_leaves_nothing_behind() {
    let mut lock = cached(Exclusive);
    lock.try_enter(Exclusive, 0);
    lock.enqueue(1, Exclusive, 1);
    lock.enqueue(2, Shared, 2);
    assert!(lock.cancel(1).is_some());
    assert_eq!(lock.leave(Exclusive, true).wake, [2]);
    assert!(lock.cancel(2).is_none(), "it has the lock");
    lock.leave(Shared, true);

    // The one the lock was owed to goes away: the revoke is obeyed at once.
    let mut lock = State::new((0, 0));
    lock.enqueue(1, Exclusive, 1);
    lock.revoked(at(11), Exclusive);
    lock.cancel(1);
    assert_eq!(gives(&lock.answered(at(10), HELD_X, 0)), Some(None));
}

#[test]
fn a_lost_session_voids_everything_but_keeps_operations_apart() {
    let mut lock = cached(Exclusive);
    lock.try_enter(Exclusive, 0);
    lock.enqueue(1, Exclusive, 1);
    assert_eq!(asks(&lock.lost()), Some(Exclusive), "the waiting one starts over");
    assert_eq!(lock.answered(at(20), HELD_X, 0).wake, [] as [u64; 0], "the void guard still stands");
    assert_eq!(lock.leave(Exclusive, true).wake, [1]);
}

#[test]
fn a_refusal_turns_away_those_who_need_more_than_is_held() {
    let mut lock = cached(Shared);
    lock.try_enter(Shared, 0);
    lock.enqueue(1, Exclusive, 1);
    lock.enqueue(2, Shared, 2);
    let (away, effects) = lock.refused();
    assert_eq!((away, effects.wake), (vec![1], vec![2]));
    assert_eq!(effects.ask, None);
}

#[test]
fn without_a_cache_a_lock_goes_back_at_once() {
    let mut lock = cached(Exclusive);
    lock.try_enter(Exclusive, 0);
    assert_eq!(gives(&lock.leave(Exclusive, false)), Some(None));
}

const CLIENTS: usize = 3;
const LOCKS: LockId = 2;

enum Command {
    Acquire(Mode),
    Release(Option<Mode>),
}

enum Push {
    Grant(Mode),
    Revoke(Mode),
}

/// Clients, the lock table, and a network that reorders everything and loses or repeats pushes.
struct World {
    table: LockTable,
    seq: u64,
    time: u64,
    sessions: Vec<SessionId>,
    locks: BTreeMap<(usize, LockId), State>,
    commands: Vec<(usize, LockId, Command)>,
    answers: Vec<(usize, LockId, bool, Stamp, Standing)>,
    pushes: Vec<(usize, LockId, Stamp, Push)>,
    next_op: u64,
    waiting: BTreeMap<u64, (usize, LockId, Mode)>,
    running: BTreeMap<u64, (usize, LockId, Mode)>,
}

impl World {
    fn new() -> World {
        let mut table = LockTable::default();
        let args = OpenSession { name: String::new(), nonce: 7, lease_ms: 1000 };
        let sessions = (0..CLIENTS as u64).map(|c| table.open_session((1, 0), c, &args).unwrap()).collect();
        let keys = (0..CLIENTS).flat_map(|c| (0..LOCKS).map(move |l| (c, l)));
        World {
            table,
            seq: 0,
            time: 0,
            sessions,
            locks: keys.map(|key| (key, State::new((0, 0)))).collect(),
            commands: Vec::new(),
            answers: Vec::new(),
            pushes: Vec::new(),
            next_op: 0,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    fn event(&mut self, who: usize, id: LockId, event: impl FnOnce(&mut State) -> Effects<u64>) {
        let effects = event(self.locks.get_mut(&(who, id)).unwrap());
        if let Some(mode) = effects.ask {
            self.send(who, id, Command::Acquire(mode));
        }
        if let Some(give) = effects.give {
            assert!(!self.running.values().any(|op| (op.0, op.1) == (who, id)), "given back under a guard");
            self.send(who, id, Command::Release(give.keep));
        }
        for op in effects.wake {
            self.run(op);
        }
    }

    fn send(&mut self, who: usize, id: LockId, command: Command) {
        assert!(!self.commands.iter().any(|c| (c.0, c.1) == (who, id)), "one command per lock at a time");
        assert!(!self.answers.iter().any(|a| (a.0, a.1) == (who, id)), "one command per lock at a time");
        self.commands.push((who, id, command));
    }

    /// An operation has its lock: nobody may have it in a way that excludes it, here or elsewhere.
    fn run(&mut self, op: u64) {
        let (who, id, mode) = self.waiting.remove(&op).expect("served once");
        assert!(self.table.standing(self.sessions[who], id).grants(mode), "a guard without the lock");
        for other in self.running.values().filter(|other| other.1 == id) {
            assert!(mode.goes_with(other.2), "client {who} and client {} exclude each other", other.0);
        }
        self.running.insert(op, (who, id, mode));
    }

    fn start(&mut self, who: usize, id: LockId, mode: Mode) {
        let op = self.next_op;
        self.next_op += 1;
        self.waiting.insert(op, (who, id, mode));
        if self.locks.get_mut(&(who, id)).unwrap().try_enter(mode, 0) {
            self.run(op);
        } else {
            self.event(who, id, |lock| lock.enqueue(op, mode, op));
        }
    }

    fn finish(&mut self, pick: usize) {
        let Some(&op) = self.running.keys().nth(pick % self.running.len().max(1)) else { return };
        let (who, id, mode) = self.running.remove(&op).unwrap();
        self.event(who, id, |lock| lock.leave(mode, true));
    }

    fn cancel(&mut self, pick: usize) {
        let Some(&op) = self.waiting.keys().nth(pick % self.waiting.len().max(1)) else { return };
        let (who, id, _) = self.waiting.remove(&op).unwrap();
        self.event(who, id, |lock| lock.cancel(op).expect("it waits"));
    }

    fn execute(&mut self, pick: usize) {
        if self.commands.is_empty() {
            return;
        }
        let (who, id, command) = self.commands.swap_remove(pick % self.commands.len());
        self.seq += 1;
        let (stamp, session, client) = ((1, self.seq), self.sessions[who], who as u64);
        let mut notices = Notices::default();
        let (release, standing) = match command {
            Command::Acquire(mode) => {
                let args = Acquire { session, locks: vec![(id, mode)] };
                (false, self.table.acquire(stamp, client, &args, &mut notices).unwrap()[0])
            }
            Command::Release(keep) => {
                let args = Release { session, locks: vec![(id, keep)] };
                (true, self.table.release(stamp, client, &args, &mut notices).unwrap()[0])
            }
        };
        self.answers.push((who, id, release, stamp, standing));
        self.push(&notices);
    }

    fn push(&mut self, notices: &Notices) {
        let index = |session| self.sessions.iter().position(|&known| known == session).unwrap();
        for grant in notices.grants() {
            let (who, stamp) = (index(grant.session), grant.stamp);
            self.pushes.extend(grant.locks.iter().map(|&(id, mode)| (who, id, stamp, Push::Grant(mode))));
        }
        for revoke in notices.revokes() {
            let (who, stamp) = (index(revoke.session), revoke.stamp);
            self.pushes.extend(revoke.locks.iter().map(|&(id, mode)| (who, id, stamp, Push::Revoke(mode))));
        }
    }

    fn answer(&mut self, pick: usize) {
        if self.answers.is_empty() {
            return;
        }
        let (who, id, release, stamp, standing) = self.answers.swap_remove(pick % self.answers.len());
        let now = self.time;
        if release {
            self.event(who, id, |lock| lock.given(stamp, standing, now));
        } else {
            self.event(who, id, |lock| lock.answered(stamp, standing, now));
        }
    }

    fn deliver(&mut self, pick: usize, again: bool) {
        if self.pushes.is_empty() {
            return;
        }
        let (who, id, stamp, push) = self.pushes.swap_remove(pick % self.pushes.len());
        match push {
            Push::Grant(mode) => self.event(who, id, |lock| lock.granted(stamp, mode)),
            Push::Revoke(mode) => self.event(who, id, |lock| lock.revoked(stamp, mode)),
        }
        if again {
            self.pushes.push((who, id, stamp, push));
        }
    }

    fn retry(&mut self) {
        self.time += 1;
        let now = self.time;
        for (who, id) in self.locks.keys().copied().collect::<Vec<_>>() {
            self.event(who, id, |lock| lock.retry(now));
        }
    }

    fn evict(&mut self, who: usize, id: LockId) {
        self.event(who, id, State::give_back_idle);
    }

    fn new_master(&mut self) {
        let mut notices = Notices::default();
        self.table.outstanding(&mut notices);
        self.push(&notices);
    }

    fn step(&mut self, action: u8, a: usize, b: usize) {
        let (who, id) = (a % CLIENTS, b as LockId % LOCKS);
        match action % 16 {
            0 | 1 => self.start(who, id, Shared),
            2 | 3 => self.start(who, id, Exclusive),
            4..6 => self.finish(a),
            6 => self.cancel(a),
            7 | 8 => self.execute(a),
            9 | 10 => self.answer(a),
            11 => self.deliver(a, b.is_multiple_of(4)),
            12 if !self.pushes.is_empty() => drop(self.pushes.swap_remove(a % self.pushes.len())),
            13 => self.retry(),
            14 => self.evict(who, id),
            15 if b.is_multiple_of(4) => self.new_master(),
            15 => self.event(who, id, |lock| lock.want(if a.is_multiple_of(2) { Shared } else { Exclusive })),
            _ => {}
        }
    }

    /// Everything is delivered and every operation ends by itself: all must get their turn.
    fn quiesce(&mut self) {
        for round in 0..10_000 {
            while !self.commands.is_empty() || !self.answers.is_empty() || !self.pushes.is_empty() {
                self.execute(0);
                self.answer(0);
                self.deliver(0, false);
            }
            if self.running.is_empty() && self.waiting.is_empty() {
                return;
            }
            self.finish(round);
            self.retry();
        }
        panic!("operations starve: {:?}", self.waiting);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn clients_exclude_each_other_and_everybody_gets_a_turn(
        steps in prop::collection::vec((any::<u8>(), 0..64usize, 0..64usize), 1..300)
    ) {
        let mut world = World::new();
        for (action, a, b) in steps {
            world.step(action, a, b);
        }
        world.quiesce();
        for (&(who, id), lock) in &world.locks {
            prop_assert_eq!(lock.held(), world.table.standing(world.sessions[who], id).held);
        }
    }
}
