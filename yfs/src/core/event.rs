//! Waiting without a runtime: a counter that can be awaited to move on.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

/// "Something happened." Take a [`Event::ticket`], look whether there is reason to wait, then wait with the ticket:
/// what happens after the ticket was taken is not missed.
#[derive(Debug, Default)]
pub struct Event {
    count: AtomicU64,
    waiters: Mutex<Vec<Waker>>,
}

impl Event {
    /// The present count.
    pub fn ticket(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Moves on and wakes everybody.
    pub fn signal(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waker in waiters {
            waker.wake();
        }
    }

    /// Waits until the count is no longer `ticket`.
    pub async fn wait(&self, ticket: u64) {
        poll_fn(|cx| {
            if self.ticket() != ticket {
                return Poll::Ready(());
            }
            let mut waiters = self.waiters.lock();
            if self.ticket() != ticket {
                return Poll::Ready(());
            }
            if !waiters.iter().any(|w| w.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
