//! The numbers of a client's requests, for callers that wait until there is room for one more.

use super::super::core::RequestNumbers;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(super) struct Requests {
    numbers: Mutex<RequestNumbers>,
    /// Some request ended.
    room: Notify,
}

/// A numbered request; ends when dropped, and its number is then acknowledged.
pub(super) struct Ticket<'a> {
    requests: &'a Requests,
    request: u64,
}

impl Requests {
    pub(super) fn new(max: usize) -> Requests {
        Requests { numbers: Mutex::new(RequestNumbers::new(max)), room: Notify::new() }
    }

    /// The next number, as soon as there is room for one more request.
    pub(super) async fn begin(&self) -> Ticket<'_> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if let Some(request) = self.numbers.lock().take() {
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

impl Ticket<'_> {
    pub(super) fn request(&self) -> u64 {
        self.request
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.requests.numbers.lock().end(self.request);
        self.requests.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::core::REQUEST_SPAN;
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
        for _ in 1..REQUEST_SPAN {
            requests.begin().now_or_never().unwrap();
        }
        assert!(requests.begin().now_or_never().is_none());
        drop(oldest);
        assert!(requests.begin().now_or_never().is_some());
    }
}
