//! The numbers of a client's requests, and which of them are still wanted.

use parking_lot::Mutex;
use std::collections::BTreeSet;
use tokio::sync::Notify;

/// A request runs at most this far ahead of the oldest unanswered one: within the window of answers that the group keeps for
/// a client whatever happens, so that the oldest can still be retried.
const SPAN: u64 = 512;

pub(super) struct Requests {
    max: usize,
    numbers: Mutex<Numbers>,
    /// Some request ended.
    room: Notify,
}

struct Numbers {
    next: u64,
    outstanding: BTreeSet<u64>,
}

/// A numbered request; ends when dropped, and its number is then acknowledged.
pub(super) struct Ticket<'a> {
    requests: &'a Requests,
    request: u64,
}

impl Requests {
    pub(super) fn new(max: usize) -> Requests {
        let numbers = Numbers { next: 1, outstanding: BTreeSet::new() };
        Requests { max: max.max(1), numbers: Mutex::new(numbers), room: Notify::new() }
    }

    /// The next number, as soon as there is room for one more request.
    pub(super) async fn begin(&self) -> Ticket<'_> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if let Some(request) = self.numbers.lock().take(self.max) {
                return Ticket { requests: self, request };
            }
            room.await;
        }
    }

    /// All requests up to this number have ended.
    pub(super) fn acked_upto(&self) -> u64 {
        self.numbers.lock().acked_upto()
    }
}

impl Numbers {
    fn acked_upto(&self) -> u64 {
        self.outstanding.first().unwrap_or(&self.next) - 1
    }

    fn take(&mut self, max: usize) -> Option<u64> {
        if self.outstanding.len() >= max || self.next - self.acked_upto() > SPAN {
            return None;
        }
        let request = self.next;
        self.next += 1;
        self.outstanding.insert(request);
        Some(request)
    }
}

impl Ticket<'_> {
    pub(super) fn request(&self) -> u64 {
        self.request
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.requests.numbers.lock().outstanding.remove(&self.request);
        self.requests.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn everything_below_the_oldest_unanswered_request_is_acknowledged() {
        let requests = Requests::new(8);
        assert_eq!(requests.acked_upto(), 0);
        let first = requests.begin().now_or_never().unwrap();
        let second = requests.begin().now_or_never().unwrap();
        assert_eq!((first.request(), second.request()), (1, 2));
        drop(second);
        assert_eq!(requests.acked_upto(), 0);
        drop(first);
        assert_eq!(requests.acked_upto(), 2);
    }

    #[test]
    fn requests_in_flight_are_bounded() {
        let requests = Requests::new(2);
        let _first = requests.begin().now_or_never().unwrap();
        let second = requests.begin().now_or_never().unwrap();
        let third = requests.begin();
        tokio::pin!(third);
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        assert_eq!(third.now_or_never().unwrap().request(), 3);
    }

    #[test]
    fn no_request_runs_far_ahead_of_the_oldest() {
        let requests = Requests::new(8);
        let oldest = requests.begin().now_or_never().unwrap();
        for _ in 1..SPAN {
            requests.begin().now_or_never().unwrap();
        }
        assert!(requests.begin().now_or_never().is_none());
        drop(oldest);
        assert!(requests.begin().now_or_never().is_some());
    }
}
