//! The numbers of a client's requests, and which of them are still wanted.

use std::collections::BTreeSet;

/// A request runs at most this far ahead of the oldest unanswered one: within the window of answers that the group keeps for
/// a client whatever happens, so that the oldest can still be retried.
pub const REQUEST_SPAN: u64 = 512;

/// Numbers the requests of one client. Every request gets one number for all its retries; a retry says with
/// [`acked_upto`](Self::acked_upto) which answers the group may forget.
#[derive(Clone, Debug)]
pub struct RequestNumbers {
    max: usize,
    next: u64,
    outstanding: BTreeSet<u64>,
}

impl RequestNumbers {
    /// For a client with at most `max` requests at a time (at least one).
    pub fn new(max: usize) -> RequestNumbers {
        RequestNumbers { max: max.max(1), next: 1, outstanding: BTreeSet::new() }
    }

    /// The next number, if there is room for one more request.
    pub fn take(&mut self) -> Option<u64> {
        if self.outstanding.len() >= self.max || self.next - self.acked_upto() > REQUEST_SPAN {
            return None;
        }
        let request = self.next;
        self.next += 1;
        self.outstanding.insert(request);
        Some(request)
    }

    /// The request has its answer, or nobody wants it any more.
    pub fn end(&mut self, request: u64) {
        self.outstanding.remove(&request);
    }

    /// All requests up to this number have ended.
    pub fn acked_upto(&self) -> u64 {
        self.outstanding.first().unwrap_or(&self.next) - 1
    }
}
