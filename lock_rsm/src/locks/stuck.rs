//! Clients that live but do not give back what others wait for: pure, the master's own view of it.
//!
//! A session that stands in the way of a waiter is *asked* (a revoke) and answers by releasing the lock. Here it is noted
//! since when each session owes each lock. After the *patience* the operator is told; after the *limit* the session is
//! ended like a silent one, fence first. While an extent server does not answer, nobody can flush, so nobody owes
//! anything ([`Stuck::forgive`]).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use super::protocol::{LockId, SessionId};

/// A lock that a session does not give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debt {
    pub(super) session: SessionId,
    pub(super) lock: LockId,
    /// For how long.
    pub(super) owed: Duration,
}

/// What is to be done about debts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// New since the last look: to be logged. The oldest debt of each session.
    pub(super) complain: Vec<Debt>,
    /// To be ended.
    pub(super) end: Vec<Debt>,
}

/// Since when each session owes each lock, in nanoseconds of any one clock.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    debts: BTreeMap<(SessionId, LockId), u64>,
    /// Sessions the operator has been told about, and not yet cleared.
    told: BTreeMap<SessionId, LockId>,
}

impl Stuck {
    /// `session` has given back, or downgraded, `lock`: should it stand in the way again, that is a new debt.
    pub(super) fn gave(&mut self, session: SessionId, lock: LockId) {
        self.debts.remove(&(session, lock));
    }

    /// Nobody owes anything.
    pub(super) fn forgive(&mut self) {
        self.debts.clear();
        self.told.clear();
    }

    /// Takes in who stands in whose way now.
    pub(super) fn look(&mut self, now: u64, in_the_way: impl Iterator<Item = (SessionId, LockId)>) {
        let before = std::mem::take(&mut self.debts);
        self.debts = in_the_way.map(|debt| (debt, before.get(&debt).copied().unwrap_or(now))).collect();
        let debts = &self.debts;
        self.told.retain(|&session, &mut lock| debts.contains_key(&(session, lock)));
    }

    /// Who has owed for longer than `patience`: the oldest debt of each session, oldest first.
    pub(super) fn overdue(&self, now: u64, patience: Duration) -> Vec<Debt> {
        let mut oldest: BTreeMap<SessionId, Debt> = BTreeMap::new();
        for (&(session, lock), &since) in &self.debts {
            let owed = Duration::from_nanos(now.saturating_sub(since));
            let debt = Debt { session, lock, owed };
            let entry = oldest.entry(session).or_insert(debt);
            if owed > entry.owed {
                *entry = debt;
            }
        }
        let mut overdue: Vec<Debt> = oldest.into_values().filter(|debt| debt.owed > patience).collect();
        overdue.sort_by_key(|debt| (std::cmp::Reverse(debt.owed), debt.session));
        overdue
    }

    /// What to do now. A limit of none ends nobody.
    pub(super) fn judge(&mut self, now: u64, patience: Duration, limit: Option<Duration>) -> Verdict {
        let mut verdict = Verdict::default();
        for debt in self.overdue(now, patience) {
            if limit.is_some_and(|limit| debt.owed > limit) {
                verdict.end.push(debt);
            } else if let Entry::Vacant(told) = self.told.entry(debt.session) {
                told.insert(debt.lock);
                verdict.complain.push(debt);
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const LIMIT: Option<Duration> = Some(Duration::from_secs(60));

    fn at(seconds: u64) -> u64 {
        seconds * 1_000_000_000
    }

    fn judged(stuck: &mut Stuck, second: u64, in_the_way: &[(SessionId, LockId)]) -> Verdict {
        stuck.look(at(second), in_the_way.iter().copied());
        stuck.judge(at(second), PATIENCE, LIMIT)
    }

    #[test]
    fn first_a_word_then_the_end() {
        let mut stuck = Stuck::default();
        assert_eq!(judged(&mut stuck, 0, &[(1, 7)]), Verdict::default());
        assert_eq!(judged(&mut stuck, 10, &[(1, 7)]), Verdict::default());
        let said = judged(&mut stuck, 11, &[(1, 7)]);
        assert_eq!(said.complain, [Debt { session: 1, lock: 7, owed: Duration::from_secs(11) }]);
        assert!(said.end.is_empty());
        assert_eq!(judged(&mut stuck, 12, &[(1, 7)]), Verdict::default(), "told once");
        assert_eq!(stuck.overdue(at(12), PATIENCE).len(), 1, "but still shown");
        assert_eq!(judged(&mut stuck, 61, &[(1, 7)]).end.len(), 1);
    }

    #[test]
    fn who_gives_back_in_time_owes_nothing_even_if_it_has_the_lock_again_at_every_look() {
        let mut stuck = Stuck::default();
        for second in 0..100 {
            assert_eq!(judged(&mut stuck, second, &[(1, 7)]), Verdict::default());
            if second % 9 == 8 {
                stuck.gave(1, 7);
            }
        }
    }

    #[test]
    fn a_debt_ends_when_nobody_waits_any_more() {
        let mut stuck = Stuck::default();
        judged(&mut stuck, 0, &[(1, 7)]);
        judged(&mut stuck, 9, &[]);
        assert_eq!(judged(&mut stuck, 11, &[(1, 7)]), Verdict::default());
        assert_eq!(judged(&mut stuck, 22, &[(1, 7)]).complain.len(), 1);
        judged(&mut stuck, 23, &[]);
        judged(&mut stuck, 24, &[(1, 7)]);
        assert_eq!(judged(&mut stuck, 35, &[(1, 7)]).complain.len(), 1, "a new debt is told again");
    }

    #[test]
    fn forgiven_debts_start_over() {
        let mut stuck = Stuck::default();
        judged(&mut stuck, 0, &[(1, 7), (2, 7)]);
        stuck.forgive();
        assert_eq!(judged(&mut stuck, 61, &[(1, 7), (2, 7)]), Verdict::default());
    }

    #[test]
    fn of_many_debts_of_a_session_the_oldest_counts() {
        let mut stuck = Stuck::default();
        judged(&mut stuck, 0, &[(1, 9)]);
        judged(&mut stuck, 5, &[(1, 7), (1, 9), (2, 8)]);
        let said = judged(&mut stuck, 16, &[(1, 7), (1, 9), (2, 8)]);
        assert_eq!(said.complain.iter().map(|d| (d.session, d.lock)).collect::<Vec<_>>(), [(1, 9), (2, 8)]);
    }
}
