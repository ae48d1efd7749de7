//! Who waits for which entry to be applied.

use super::super::state::Applied;
use crate::consensus::Viewstamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a caller is told.
pub type Answer = Result<Applied, Refused>;

/// Why a request gets no answer here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This replica is not, or no longer, the master. The request may be executed all the same.
    NotMaster,
    /// Too much is waiting. It was not executed by this attempt.
    Busy,
    /// It is too large, now and later.
    TooLarge,
}

/// Identifies a request among those in progress: (client, request number). Commands of the group itself have none.
pub type RequestKey = Option<(u64, u64)>;

/// What a caller is found by.
pub trait Ticket: Send {
    /// Whether the caller is known to have given up, so that nobody needs to be told.
    fn is_void(&self) -> bool {
        false
    }
}

impl Ticket for u64 {}

/// The requests a master has proposed and not answered, shared by the core that proposes and the program that answers.
/// Clones are handles to the same. It is locked for moments only, never while anything else is waited for.
#[derive(Debug)]
pub struct Waiting<T>(Arc<Mutex<Waiters<T>>>);

impl<T> Clone for Waiting<T> {
    fn clone(&self) -> Self {
        Waiting(Arc::clone(&self.0))
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting(Arc::new(Mutex::new(Waiters::default())))
    }
}

impl<T: Ticket> Waiting<T> {
    /// For a core that is about to propose.
    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, Waiters<T>> {
        self.0.lock()
    }

    /// These entries were applied, with these outcomes.
    pub(super) fn applied(
        &self,
        outcomes: Vec<(Viewstamp, Option<Applied>)>,
        answers: &mut Vec<(T, Answer)>,
    ) {
        let mut waiters = self.0.lock();
        for (stamp, applied) in outcomes {
            waiters.applied(stamp, applied, answers);
        }
    }

    /// Takes everybody away: the replica is over.
    pub fn give_up(&self) -> Vec<T> {
        self.0.lock().give_up_except(None)
    }
}

#[derive(Debug)]
struct Waiter<T> {
    view: u64,
    key: RequestKey,
    tickets: Vec<T>,
}

/// By the seq of their entries.
#[derive(Debug)]
pub(super) struct Waiters<T> {
    by_seq: BTreeMap<u64, Waiter<T>>,
    in_progress: BTreeMap<(u64, u64), u64>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Waiters { by_seq: BTreeMap::new(), in_progress: BTreeMap::new() }
    }
}

impl<T: Ticket> Waiters<T> {
    /// Waits for the entry at `stamp` on behalf of `ticket`.
    pub(super) fn add(&mut self, stamp: Viewstamp, key: RequestKey, ticket: T) {
        if let Some(key) = key {
            self.in_progress.insert(key, stamp.seq);
        }
        let waiter = Waiter { view: stamp.view, key, tickets: vec![ticket] };
        let before = self.by_seq.insert(stamp.seq, waiter);
        assert!(before.is_none(), "two requests wait for entry {}", stamp.seq);
    }

    /// If this request is in progress, lets `ticket` wait with it; else gives it back.
    pub(super) fn join(&mut self, key: RequestKey, ticket: T) -> Option<T> {
        let waiter = key.and_then(|key| self.in_progress.get(&key)).and_then(|seq| self.by_seq.get_mut(seq));
        match waiter {
            Some(waiter) => {
                waiter.tickets.retain(|waiting| !waiting.is_void());
                waiter.tickets.push(ticket);
                None
            }
            None => Some(ticket),
        }
    }

    /// The entry at `stamp` was applied.
    fn applied(&mut self, stamp: Viewstamp, applied: Option<Applied>, answers: &mut Vec<(T, Answer)>) {
        let Some(waiter) = self.by_seq.remove(&stamp.seq) else { return };
        self.forget(waiter.key);
        // An entry of another view took the place of the one waited for.
        let answer = applied.filter(|_| waiter.view == stamp.view).ok_or(Refused::NotMaster);
        answers.extend(waiter.tickets.into_iter().map(|ticket| (ticket, answer.clone())));
    }

    /// This replica is not the master of `view` (any more): whoever waits for an entry of another view must ask elsewhere.
    pub(super) fn give_up_except(&mut self, view: Option<u64>) -> Vec<T> {
        let (keep, gone): (BTreeMap<u64, Waiter<T>>, _) =
            std::mem::take(&mut self.by_seq).into_iter().partition(|(_, waiter)| Some(waiter.view) == view);
        self.by_seq = keep;
        let mut tickets = Vec::new();
        for waiter in gone.into_values() {
            self.forget(waiter.key);
            tickets.extend(waiter.tickets);
        }
        tickets
    }

    /// Number of entries waited for.
    pub(super) fn len(&self) -> usize {
        self.by_seq.len()
    }

    fn forget(&mut self, key: RequestKey) {
        if let Some(key) = key {
            self.in_progress.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Outcome;
    use super::*;

    fn done() -> Applied {
        Applied::Executed(Outcome::Failed(0))
    }

    fn applied(waiters: &mut Waiters<u64>, stamp: Viewstamp) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        waiters.applied(stamp, Some(done()), &mut answers);
        answers
    }

    #[test]
    fn a_duplicate_waits_with_the_first() {
        let mut waiters = Waiters::default();
        waiters.add(Viewstamp::new(1, 5), Some((7, 1)), 100u64);
        assert_eq!(waiters.join(Some((7, 1)), 101), None);
        assert_eq!(waiters.join(Some((7, 2)), 102), Some(102), "another request");
        assert_eq!(applied(&mut waiters, Viewstamp::new(1, 5)), [(100, Ok(done())), (101, Ok(done()))]);
        assert_eq!(waiters.join(Some((7, 1)), 103), Some(103), "nobody waits any more");
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn an_entry_of_another_view_answers_nobody() {
        let mut waiters = Waiters::default();
        waiters.add(Viewstamp::new(1, 5), None, 100);
        assert_eq!(applied(&mut waiters, Viewstamp::new(2, 5)), [(100, Err(Refused::NotMaster))]);
    }

    #[test]
    fn lost_mastership_sends_the_callers_elsewhere() {
        let mut waiters = Waiters::default();
        waiters.add(Viewstamp::new(1, 5), Some((7, 1)), 100u64);
        waiters.add(Viewstamp::new(3, 6), Some((7, 2)), 101);
        assert_eq!(waiters.give_up_except(Some(3)), [100]);
        assert_eq!(waiters.give_up_except(None), [101]);
        assert_eq!(waiters.len(), 0);
    }
}
