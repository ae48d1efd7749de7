//! One lock: its holders and its queue.

use std::collections::{BTreeSet, VecDeque};

use crate::locks::protocol::{Mode, SessionId, Standing};

/// A session in a lock's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) session: SessionId,
    pub(super) mode: Mode,
}

/// A lock that is held or waited for. Nearly all have one holder and no queue, and take 16 bytes.
///
/// Invariant: `Contended` is used only where the other two do not fit, so that equal states compare equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lock {
    /// Shared, by one session, nobody waits.
    Shared(SessionId),
    /// Exclusive, nobody waits.
    Exclusive(SessionId),
    /// Everything else.
    Contended(Box<Contended>),
}

/// Many holders, or a queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contended {
    /// If set, `shared` is empty.
    exclusive: Option<SessionId>,
    shared: BTreeSet<SessionId>,
    queue: VecDeque<Waiter>,
}

impl Lock {
    pub(super) fn held(session: SessionId, mode: Mode) -> Lock {
        match mode {
            Mode::Shared => Lock::Shared(session),
            Mode::Exclusive => Lock::Exclusive(session),
        }
    }

    /// Every holder with its mode, by session.
    pub(super) fn holders(&self) -> impl Iterator<Item = (SessionId, Mode)> {
        let (exclusive, one, many) = match self {
            Lock::Shared(session) => (None, Some(*session), None),
            Lock::Exclusive(session) => (Some(*session), None, None),
            Lock::Contended(lock) => (lock.exclusive, None, Some(&lock.shared)),
        };
        let shared = one.into_iter().chain(many.into_iter().flatten().copied());
        exclusive
            .map(|session| (session, Mode::Exclusive))
            .into_iter()
            .chain(shared.map(|s| (s, Mode::Shared)))
    }

    /// The queue, first come first.
    pub(super) fn queue(&self) -> impl Iterator<Item = Waiter> {
        let queue = match self {
            Lock::Contended(lock) => Some(&lock.queue),
            _ => None,
        };
        queue.into_iter().flatten().copied()
    }

    pub(super) fn first_waiter(&self) -> Option<Waiter> {
        match self {
            Lock::Contended(lock) => lock.queue.front().copied(),
            _ => None,
        }
    }

    pub(super) fn waiter_count(&self) -> usize {
        match self {
            Lock::Contended(lock) => lock.queue.len(),
            _ => 0,
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        match self {
            Lock::Contended(lock) => lock.is_unused(),
            _ => false,
        }
    }

    fn held_by(&self, session: SessionId) -> Option<Mode> {
        match self {
            Lock::Shared(holder) => (*holder == session).then_some(Mode::Shared),
            Lock::Exclusive(holder) => (*holder == session).then_some(Mode::Exclusive),
            Lock::Contended(lock) if lock.exclusive == Some(session) => Some(Mode::Exclusive),
            Lock::Contended(lock) => lock.shared.contains(&session).then_some(Mode::Shared),
        }
    }

    pub(super) fn standing(&self, session: SessionId) -> Standing {
        let waiting = self.queue().find(|waiter| waiter.session == session).map(|waiter| waiter.mode);
        Standing { held: self.held_by(session), waiting }
    }

    /// Whether the other holders leave room for `session` to hold the lock in `mode`.
    pub(super) fn may_hold(&self, session: SessionId, mode: Mode) -> bool {
        match self {
            Lock::Shared(holder) => *holder == session || mode == Mode::Shared,
            Lock::Exclusive(holder) => *holder == session,
            Lock::Contended(lock) => {
                let no_exclusive = lock.exclusive.is_none_or(|holder| holder == session);
                no_exclusive && (mode == Mode::Shared || lock.shared.iter().all(|&holder| holder == session))
            }
        }
    }

    /// Whether a new request may be granted at once: nobody is overtaken, except by the only holder, whom the others
    /// have to wait for anyway.
    pub(super) fn may_enter(&self, session: SessionId, mode: Mode) -> bool {
        self.may_hold(session, mode) && (self.waiter_count() == 0 || self.held_by(session).is_some())
    }

    /// Makes `session` a holder in `mode`, whether it was one or not.
    pub(super) fn hold(&mut self, session: SessionId, mode: Mode) {
        self.change(|lock| {
            lock.forget_holder(session);
            match mode {
                Mode::Exclusive => lock.exclusive = Some(session),
                Mode::Shared => drop(lock.shared.insert(session)),
            }
        });
    }

    pub(super) fn let_go(&mut self, session: SessionId) {
        self.change(|lock| lock.forget_holder(session));
    }

    pub(super) fn enqueue(&mut self, session: SessionId, mode: Mode) {
        self.change(|lock| lock.queue.push_back(Waiter { session, mode }));
    }

    pub(super) fn dequeue(&mut self, session: SessionId) {
        self.change(|lock| lock.queue.retain(|waiter| waiter.session != session));
    }

    /// The session's place in the queue stays; it now waits for `mode` if that is more.
    pub(super) fn strengthen_waiter(&mut self, session: SessionId, mode: Mode) {
        self.change(|lock| {
            if let Some(waiter) = lock.queue.iter_mut().find(|waiter| waiter.session == session) {
                waiter.mode = waiter.mode.max(mode);
            }
        });
    }

    fn change(&mut self, f: impl FnOnce(&mut Contended)) {
        let mut lock = match std::mem::replace(self, Lock::Shared(0)) {
            Lock::Shared(session) => {
                Box::new(Contended { shared: BTreeSet::from([session]), ..Contended::default() })
            }
            Lock::Exclusive(session) => {
                Box::new(Contended { exclusive: Some(session), ..Contended::default() })
            }
            Lock::Contended(lock) => lock,
        };
        f(&mut lock);
        *self = match (lock.queue.is_empty(), lock.exclusive, lock.shared.len()) {
            (true, Some(session), 0) => Lock::Exclusive(session),
            (true, None, 1) => Lock::Shared(*lock.shared.first().expect("one")),
            _ => Lock::Contended(lock),
        };
    }
}

impl Contended {
    fn is_unused(&self) -> bool {
        self.exclusive.is_none() && self.shared.is_empty() && self.queue.is_empty()
    }

    fn forget_holder(&mut self, session: SessionId) {
        if self.exclusive == Some(session) {
            self.exclusive = None;
        }
        self.shared.remove(&session);
    }
}
