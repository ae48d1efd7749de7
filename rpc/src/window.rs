//! The at-most-once reply window of one client, as plain data: no clock, no socket.
//!
//! For every call number it knows whether the call is new, in progress, done (and with which reply) or forgotten. What
//! is forgotten is never executed again. It is bounded: replies leave when the client says it has them (`xid_rep`), and
//! the oldest leave when they are too many or too large, which costs an error if the client still wants one.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use crate::ranges::Ranges;

/// How much a window may hold.
#[derive(Debug, Clone, Copy)]
pub struct WindowLimits {
    /// Replies kept, and calls in progress at once.
    pub entries_max: usize,
    /// Bytes of replies kept; the newest reply is kept whatever its size.
    pub bytes_max: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        WindowLimits { entries_max: 4096, bytes_max: 32 << 20 }
    }
}

/// What to do with a call that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission<R> {
    /// Execute it, then [`Window::complete`].
    New,
    /// It is being executed: ignore this copy.
    InProgress,
    /// It was executed: send this reply again.
    Done(R),
    /// It may have been executed and the reply is gone: say so.
    Forgotten,
    /// Too many of this client's calls are in progress; not remembered, so it may be sent again.
    Full,
}

#[derive(Debug)]
struct Kept<R> {
    reply: R,
    bytes: usize,
}

/// The window of one client. `R` is the reply, cheap to clone.
#[derive(Debug)]
pub struct Window<R> {
    limits: WindowLimits,
    /// Calls up to here are forgotten, unless still in progress.
    floor: u64,
    /// Calls above `floor` that are forgotten because their replies had to leave early.
    evicted: Ranges,
    in_progress: BTreeSet<u64>,
    done: BTreeMap<u64, Kept<R>>,
    bytes: usize,
}

impl<R: Clone> Window<R> {
    /// A window for a client that has never sent a call above `sent_before`; what it did send counts as forgotten.
    pub fn new(limits: WindowLimits, sent_before: u64) -> Window<R> {
        let (evicted, in_progress, done) = (Ranges::default(), BTreeSet::new(), BTreeMap::new());
        Window { limits, floor: sent_before, evicted, in_progress, done, bytes: 0 }
    }

    /// A call numbered `xid` arrived, from a client that has all replies up to `xid_rep`.
    pub fn admit(&mut self, xid: u64, xid_rep: u64) -> Admission<R> {
        self.trim(xid_rep);
        if self.in_progress.contains(&xid) {
            return Admission::InProgress;
        }
        if xid <= self.floor || self.evicted.contains(xid) {
            return Admission::Forgotten;
        }
        if let Some(kept) = self.done.get(&xid) {
            return Admission::Done(kept.reply.clone());
        }
        if self.in_progress.len() >= self.limits.entries_max {
            return Admission::Full;
        }
        self.in_progress.insert(xid);
        Admission::New
    }

    /// The call numbered `xid` was executed; its reply takes `bytes`. Says whether the client may still want it.
    pub fn complete(&mut self, xid: u64, reply: R, bytes: usize) -> bool {
        if !self.in_progress.remove(&xid) || xid <= self.floor {
            return false;
        }
        self.bytes += bytes;
        self.done.insert(xid, Kept { reply, bytes });
        while self.done.len() > self.limits.entries_max.max(1)
            || (self.bytes > self.limits.bytes_max && self.done.len() > 1)
        {
            self.evict_oldest();
        }
        true
    }

    /// Forgets replies, oldest first, until at most `bytes_max` bytes or one reply are left.
    pub fn shrink_to(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.done.len() > 1 {
            self.evict_oldest();
        }
    }

    /// Replies kept and calls in progress.
    pub fn len(&self) -> usize {
        self.done.len() + self.in_progress.len()
    }

    /// Whether nothing is kept and nothing is in progress.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the replies kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The client has all replies up to `xid_rep`, or no longer wants them.
    fn trim(&mut self, xid_rep: u64) {
        if xid_rep <= self.floor {
            return;
        }
        self.raise_floor(xid_rep);
    }

    fn raise_floor(&mut self, floor: u64) {
        self.floor = self.evicted.absorb(floor);
        while let Some(oldest) = self.done.first_entry() {
            if *oldest.key() > self.floor {
                break;
            }
            self.bytes -= oldest.remove().bytes;
        }
    }

    fn evict_oldest(&mut self) {
        if let Some((xid, kept)) = self.done.pop_first() {
            self.bytes -= kept.bytes;
            self.evicted.insert(xid);
        }
        if self.evicted.len() > self.limits.entries_max
            && let Some(last) = self.evicted.pop_first()
        {
            // Too many gaps to remember: what has not arrived from below here by now is refused rather than run.
            self.raise_floor(last);
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
