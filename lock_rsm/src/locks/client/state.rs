//! One lock as its client sees it: pure, no clock, no channel.
//!
//! The server's truth about this session and this lock is a [`Standing`]; every answer and push states it as of a stamp.
//! [`LockState`] keeps the newest statement, the local guards, and the local queue, and decides three things: which
//! local waiter goes next, when to ask the server, and when to give the lock back.
//!
//! In the words of the labs: *none* is nothing held; *free* is held without guards; *held* is held with guards;
//! *acquiring* is [`Asked::InFlight`] or [`Asked::Queued`]; *releasing* is [`LockState::giving`].
//!
//! Rules:
//! * One command per lock is under way at a time. While an acquire is in flight nothing is given back; while a release
//!   is under way (its hook included) nothing is asked and no guard is handed out.
//! * A lock that came while local operations waited for it serves the first of them (and the shared ones right behind
//!   it) before it is given up. Otherwise a revoke closes the door: later comers wait until it was given back and
//!   acquired again, so that other clients do not starve.
//! * A revoke counts if it is not older than the last change of what is held.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

use std::collections::VecDeque;

use crate::locks::protocol::{Mode, Stamp, Standing};

/// What has been asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    /// An acquire is on its way.
    InFlight(Mode),
    /// The answer was RETRY, or none came: wait for the grant, and ask again after a while.
    Queued {
        mode: Mode,
        since: u64,
    },
}

/// A local operation that waits for the lock.
#[derive(Debug)]
struct Waiter<W> {
    ticket: u64,
    mode: Mode,
    wake: W,
}

/// What the driver has to do after an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Effects<W> {
    /// These waiters have the lock now.
    pub(super) wake: Vec<W>,
    /// Send an acquire.
    pub(super) ask: Option<Mode>,
    /// Run the hook if there is anything to give, then send a release.
    pub(super) give: Option<Give>,
    /// The server's grant is waited for: look again after the retry time.
    pub(super) retry_later: bool,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Effects { wake: Vec::new(), ask: None, give: None, retry_later: false }
    }
}

/// A release to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Give {
    /// The mode that is kept.
    pub(super) keep: Option<Mode>,
    /// Whether the lock was known to be held, so that the owner of the cached data must be told first.
    pub(super) hook: bool,
}

/// One lock of one client. `W` wakes a waiting operation. Times are nanoseconds of any one clock.
#[derive(Debug)]
pub(super) struct LockState<W> {
    held: Option<Mode>,
    /// The stamp at which `held` became so.
    held_since: Stamp,
    /// The newest statement heard; older ones are ignored.
    known: Stamp,
    asked: Asked,
    /// A release is under way, with the mode it keeps.
    giving: Option<Option<Mode>>,
    /// The newest revoke heard, with the mode wanted by the other side.
    revoke: Option<(Stamp, Mode)>,
    /// A grant heard while a release was under way: whether it counts shows in the release's answer.
    early: Option<(Stamp, Mode)>,
    /// The lock came for the first local waiter, which has not had it yet.
    owed: bool,
    shared: u32,
    exclusive: bool,
    queue: VecDeque<Waiter<W>>,
    /// When it was last used.
    pub(super) used: u64,
}

impl<W> LockState<W> {
    /// A lock about which nothing newer than `floor` is known, and that was not held then.
    pub(super) fn new(floor: Stamp) -> Self {
        LockState {
            held: None,
            held_since: floor,
            known: floor,
            asked: Asked::No,
            giving: None,
            revoke: None,
            early: None,
            owed: false,
            shared: 0,
            exclusive: false,
            queue: VecDeque::new(),
            used: 0,
        }
    }

    pub(super) fn held(&self) -> Option<Mode> {
        self.held
    }

    pub(super) fn known(&self) -> Stamp {
        self.known
    }

    /// Nothing is held, asked, given or waited for.
    pub(super) fn is_forgettable(&self) -> bool {
        self.held.is_none() && self.asked == Asked::No && !self.is_busy()
    }

    /// Held, and nobody here has a use for it.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_some() && self.asked == Asked::No && !self.is_busy()
    }

    fn is_busy(&self) -> bool {
        self.giving.is_some() || self.has_guards() || !self.queue.is_empty()
    }

    fn has_guards(&self) -> bool {
        self.exclusive || self.shared > 0
    }

    /// Takes the lock if that needs no waiting at all.
    pub(super) fn try_enter(&mut self, mode: Mode, now: u64) -> bool {
        let is_going = self.giving.is_some();
        #[cfg(feature = "planted")]
        let is_going =
            is_going && !crate::planted::is_in_stack(crate::planted::StackBug::GrantDuringDowngrade);
        let open = self.queue.is_empty() && !is_going && self.held >= Some(mode);
        let enters = open && self.fits(mode) && self.binding_revoke().is_none();
        if enters {
            self.enter(mode);
            self.used = now;
        }
        enters
    }

    /// An operation queues up.
    pub(super) fn enqueue(&mut self, ticket: u64, mode: Mode, wake: W) -> Effects<W> {
        self.queue.push_back(Waiter { ticket, mode, wake });
        self.advance()
    }

    /// An operation no longer waits. False if it is not in the queue, that is, has the lock already.
    pub(super) fn cancel(&mut self, ticket: u64) -> Option<Effects<W>> {
        let at = self.queue.iter().position(|waiter| waiter.ticket == ticket)?;
        self.queue.remove(at);
        Some(self.advance())
    }

    /// An operation lets go. With `cache` off an idle lock is given back at once.
    pub(super) fn leave(&mut self, mode: Mode, cache: bool) -> Effects<W> {
        match mode {
            Mode::Shared => self.shared -= 1,
            Mode::Exclusive => self.exclusive = false,
        }
        if self.queue.is_empty() && self.revoke.is_none() && cache {
            return Effects::default();
        }
        let effects = self.advance();
        if cache || !self.is_idle() { effects } else { self.give_back_idle() }
    }

    /// An operation will come for the lock: ask ahead if it is missing and nothing else goes on.
    pub(super) fn want(&mut self, mode: Mode) -> Effects<W> {
        let mut effects = Effects::default();
        let quiet = self.asked == Asked::No && self.giving.is_none() && self.binding_revoke().is_none();
        if self.held < Some(mode) && quiet {
            self.ask(mode, &mut effects);
        }
        effects
    }

    /// The answer to an acquire.
    pub(super) fn answered(&mut self, stamp: Stamp, standing: Standing, now: u64) -> Effects<W> {
        let Asked::InFlight(mode) = self.asked else { return Effects::default() };
        self.asked = Asked::No;
        #[cfg(feature = "planted")]
        let stamp = if believes_all() { stamp.max(self.known) } else { stamp };
        if stamp >= self.known {
            self.known = stamp;
            self.adopt(stamp, standing.held);
        }
        let waits = self.held < Some(mode);
        if waits {
            self.asked = Asked::Queued { mode, since: now };
        }
        Effects { retry_later: waits, ..self.advance() }
    }

    /// No answer came to an acquire; whether it was executed is unknown.
    pub(super) fn unanswered(&mut self, now: u64) -> Effects<W> {
        let Asked::InFlight(mode) = self.asked else { return Effects::default() };
        if self.held >= Some(mode) {
            self.asked = Asked::No;
            return self.advance();
        }
        self.asked = Asked::Queued { mode, since: now };
        Effects { retry_later: true, ..self.advance() }
    }

    /// The server refuses to take the request: everybody here who waits for it is turned away.
    pub(super) fn refused(&mut self) -> (Vec<W>, Effects<W>) {
        if let Asked::InFlight(_) = self.asked {
            self.asked = Asked::No;
        }
        let held = self.held;
        let (stay, go): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(|waiter| Some(waiter.mode) <= held);
        self.queue = stay;
        (go.into_iter().map(|waiter| waiter.wake).collect(), self.advance())
    }

    /// Everybody here who waits is turned away.
    pub(super) fn turn_away(&mut self) -> Vec<W> {
        self.owed = false;
        std::mem::take(&mut self.queue).into_iter().map(|waiter| waiter.wake).collect()
    }

    /// The server says that the lock is held.
    pub(super) fn granted(&mut self, stamp: Stamp, mode: Mode) -> Effects<W> {
        if self.giving.is_some() {
            self.early = self.early.max(Some((stamp, mode)));
            return Effects::default();
        }
        #[cfg(feature = "planted")]
        let stamp = if believes_all() { stamp.max(self.known) } else { stamp };
        if stamp < self.known {
            return Effects::default();
        }
        self.known = stamp;
        if self.held < Some(mode) {
            self.adopt(stamp, Some(mode));
        }
        if let Asked::Queued { mode, .. } = self.asked
            && self.held >= Some(mode)
        {
            self.asked = Asked::No;
        }
        self.advance()
    }

    /// The server says that others wait for the lock.
    pub(super) fn revoked(&mut self, stamp: Stamp, wanted: Mode) -> Effects<W> {
        self.revoke = self.revoke.max(Some((stamp, wanted)));
        if self.held.is_some() || self.giving.is_some() {
            return self.advance();
        }
        let mut effects = Effects::default();
        match self.asked {
            // The grant that must have come before this revoke is lost or late.
            Asked::Queued { mode, .. } if stamp > self.known => self.ask(mode, &mut effects),
            Asked::Queued { .. } | Asked::InFlight(_) => {}
            // The server takes us for a holder, but we know of nothing: say so.
            Asked::No if stamp > self.known => {
                self.revoke = None;
                self.give(None, &mut effects);
            }
            Asked::No => self.revoke = None,
        }
        effects
    }

    /// The answer to a release.
    pub(super) fn given(&mut self, stamp: Stamp, standing: Standing, now: u64) -> Effects<W> {
        if self.giving.take().is_none() {
            return Effects::default();
        }
        self.known = self.known.max(stamp);
        self.held = standing.held;
        self.held_since = stamp;
        self.asked = match standing.waiting {
            Some(mode) => Asked::Queued { mode, since: now },
            None => Asked::No,
        };
        self.note_debt();
        let retry_later = standing.waiting.is_some();
        let effects = match self.early.take() {
            Some((early, mode)) if early > stamp => self.granted(early, mode),
            _ => self.advance(),
        };
        Effects { retry_later, ..effects }
    }

    /// The retry time has passed: asks again if the grant is still waited for since `before` or earlier.
    pub(super) fn retry(&mut self, before: u64) -> Effects<W> {
        let mut effects = Effects::default();
        if let Asked::Queued { mode, since } = self.asked
            && since <= before
            && self.giving.is_none()
        {
            self.ask(mode, &mut effects);
        }
        effects
    }

    /// Gives an idle lock back.
    pub(super) fn give_back_idle(&mut self) -> Effects<W> {
        let mut effects = Effects::default();
        if self.is_idle() {
            self.give(None, &mut effects);
        }
        effects
    }

    /// The client closes: gives the lock back as soon as no guard is left, whatever else was planned.
    pub(super) fn give_back_for_good(&mut self) -> Effects<W> {
        let mut effects = Effects::default();
        if let Asked::Queued { .. } = self.asked {
            self.asked = Asked::No;
        }
        if self.is_idle() {
            self.give(None, &mut effects);
        }
        effects
    }

    /// The session is gone, and with it whatever it held or asked for. Guards stay counted until they are dropped: they
    /// protect nothing any more, but still keep operations of this process apart.
    pub(super) fn lost(&mut self) -> Effects<W> {
        self.held = None;
        self.asked = Asked::No;
        self.giving = None;
        self.revoke = None;
        self.early = None;
        self.owed = false;
        self.advance()
    }

    /// The one place that decides what happens next.
    fn advance(&mut self) -> Effects<W> {
        let mut effects = Effects::default();
        if self.giving.is_some() {
            return effects;
        }
        if self.asked == Asked::No && self.binding_revoke().is_none() {
            self.revoke = None; // nothing under way can make it count again
        }
        self.owed &= self.queue.front().is_some_and(|first| Some(first.mode) <= self.held);
        self.serve(&mut effects.wake);
        if let Some(wanted) = self.binding_revoke() {
            let in_flight = matches!(self.asked, Asked::InFlight(_));
            if !self.owed && !self.has_guards() && !in_flight {
                self.give((wanted == Mode::Shared).then_some(Mode::Shared), &mut effects);
            }
        } else if let Some(first) = self.queue.front()
            && self.held < Some(first.mode)
            && self.asked == Asked::No
        {
            self.ask(first.mode, &mut effects);
        }
        effects
    }

    /// Lets waiters in, in order: all that fit, or under a revoke only those the lock is owed to.
    fn serve(&mut self, wake: &mut Vec<W>) {
        let mut open = self.binding_revoke().is_none() || self.owed;
        while let Some(first) = self.queue.front() {
            let mode = first.mode;
            if !open || self.held < Some(mode) || !self.fits(mode) {
                return;
            }
            let first = self.queue.pop_front().expect("looked at above");
            self.enter(mode);
            self.owed = false;
            wake.push(first.wake);
            open = self.binding_revoke().is_none()
                || mode == Mode::Shared && self.front_mode() == Some(Mode::Shared);
        }
    }

    fn front_mode(&self) -> Option<Mode> {
        self.queue.front().map(|first| first.mode)
    }

    /// Whether local guards leave room.
    fn fits(&self, mode: Mode) -> bool {
        !self.exclusive && (mode == Mode::Shared || self.shared == 0)
    }

    fn enter(&mut self, mode: Mode) {
        match mode {
            Mode::Shared => self.shared += 1,
            Mode::Exclusive => self.exclusive = true,
        }
    }

    /// The mode another client wants, if what is held stands in its way.
    fn binding_revoke(&self) -> Option<Mode> {
        let (stamp, wanted) = self.revoke?;
        let held = self.held?;
        (stamp >= self.held_since && !held.goes_with(wanted)).then_some(wanted)
    }

    fn adopt(&mut self, stamp: Stamp, held: Option<Mode>) {
        if held != self.held {
            self.held = held;
            self.held_since = stamp;
            self.note_debt();
        }
    }

    fn note_debt(&mut self) {
        self.owed = self.queue.front().is_some_and(|first| Some(first.mode) <= self.held);
    }

    fn ask(&mut self, mode: Mode, effects: &mut Effects<W>) {
        self.asked = Asked::InFlight(mode);
        effects.ask = Some(mode);
    }

    fn give(&mut self, keep: Option<Mode>, effects: &mut Effects<W>) {
        self.giving = Some(keep);
        effects.give = Some(Give { keep, hook: self.held.is_some() });
    }
}

#[cfg(feature = "planted")]
fn believes_all() -> bool {
    crate::planted::is_in_stack(crate::planted::StackBug::IgnoreViewstamp)
}
