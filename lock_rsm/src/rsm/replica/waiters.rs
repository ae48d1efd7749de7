//! Who waits for which entry to be applied.

use super::super::state::Applied;
use crate::consensus::Viewstamp;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// What a waiter is told.
pub(super) type Answer = Result<Applied, Refused>;

/// Why a request gets no answer here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// This replica is not, or no longer, the master. The request may be executed all the same.
    NotMaster,
    /// Too much is waiting. It was not executed by this attempt.
    Busy,
    /// It is too large, now and later.
    TooLarge,
}

/// Identifies a request among those in progress: (client, request number). Commands of the group itself have none.
pub(super) type RequestKey = Option<(u64, u64)>;

struct Waiter {
    view: u64,
    key: RequestKey,
    tell: Vec<oneshot::Sender<Answer>>,
}

/// The requests a master has proposed and not answered, by the seq of their entries.
#[derive(Default)]
pub(super) struct Waiters {
    by_seq: BTreeMap<u64, Waiter>,
    in_progress: BTreeMap<(u64, u64), u64>,
}

impl Waiters {
    /// Waits for the entry at `stamp` on behalf of `tell`.
    pub(super) fn add(&mut self, stamp: Viewstamp, key: RequestKey, tell: oneshot::Sender<Answer>) {
        if let Some(key) = key {
            self.in_progress.insert(key, stamp.seq);
        }
        let before = self.by_seq.insert(stamp.seq, Waiter { view: stamp.view, key, tell: vec![tell] });
        assert!(before.is_none(), "two requests wait for entry {}", stamp.seq);
    }

    /// If this request is in progress, lets `tell` wait with it; else gives `tell` back.
    pub(super) fn join(
        &mut self,
        key: RequestKey,
        tell: oneshot::Sender<Answer>,
    ) -> Option<oneshot::Sender<Answer>> {
        let waiter = key.and_then(|key| self.in_progress.get(&key)).and_then(|seq| self.by_seq.get_mut(seq));
        match waiter {
            Some(waiter) => {
                waiter.tell.retain(|waiting| !waiting.is_closed());
                waiter.tell.push(tell);
                None
            }
            None => Some(tell),
        }
    }

    /// The entry at `stamp` was applied.
    pub(super) fn applied(&mut self, stamp: Viewstamp, applied: Option<Applied>) {
        let Some(waiter) = self.by_seq.remove(&stamp.seq) else { return };
        self.forget(waiter.key);
        // An entry of another view took the place of the one waited for.
        let answer = applied.filter(|_| waiter.view == stamp.view).ok_or(Refused::NotMaster);
        for tell in waiter.tell {
            // A caller that gave up is not there to be told.
            let _ = tell.send(answer.clone());
        }
    }

    /// This replica is not the master of `view` (any more): whoever waits for an entry of another view must ask elsewhere.
    pub(super) fn give_up_except(&mut self, view: Option<u64>) {
        let (keep, gone): (BTreeMap<u64, Waiter>, _) =
            std::mem::take(&mut self.by_seq).into_iter().partition(|(_, waiter)| Some(waiter.view) == view);
        self.by_seq = keep;
        for waiter in gone.into_values() {
            self.forget(waiter.key);
            for tell in waiter.tell {
                let _ = tell.send(Err(Refused::NotMaster));
            }
        }
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

    #[test]
    fn a_duplicate_waits_with_the_first() {
        let mut waiters = Waiters::default();
        let (tell, mut first) = oneshot::channel();
        waiters.add(Viewstamp::new(1, 5), Some((7, 1)), tell);
        let (tell, mut second) = oneshot::channel();
        assert!(waiters.join(Some((7, 1)), tell).is_none());
        let (tell, _) = oneshot::channel();
        assert!(waiters.join(Some((7, 2)), tell).is_some(), "another request");
        waiters.applied(Viewstamp::new(1, 5), Some(done()));
        assert_eq!(first.try_recv(), Ok(Ok(done())));
        assert_eq!(second.try_recv(), Ok(Ok(done())));
        let (tell, _) = oneshot::channel();
        assert!(waiters.join(Some((7, 1)), tell).is_some(), "nobody waits any more");
        assert_eq!(waiters.len(), 0);
    }

    #[test]
    fn an_entry_of_another_view_answers_nobody() {
        let mut waiters = Waiters::default();
        let (tell, mut waiting) = oneshot::channel();
        waiters.add(Viewstamp::new(1, 5), None, tell);
        waiters.applied(Viewstamp::new(2, 5), Some(done()));
        assert_eq!(waiting.try_recv(), Ok(Err(Refused::NotMaster)));
    }

    #[test]
    fn lost_mastership_sends_the_callers_elsewhere() {
        let mut waiters = Waiters::default();
        let (tell, mut old) = oneshot::channel();
        waiters.add(Viewstamp::new(1, 5), Some((7, 1)), tell);
        let (tell, mut new) = oneshot::channel();
        waiters.add(Viewstamp::new(3, 6), Some((7, 2)), tell);
        waiters.give_up_except(Some(3));
        assert_eq!(old.try_recv(), Ok(Err(Refused::NotMaster)));
        assert!(new.try_recv().is_err());
        waiters.give_up_except(None);
        assert_eq!(new.try_recv(), Ok(Err(Refused::NotMaster)));
    }
}
