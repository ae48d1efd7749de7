//! How much a connection may have in flight at its server.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Calls and bytes in flight, with one waiter: the connection's reader.
pub(crate) struct Budget {
    calls_max: usize,
    bytes_max: usize,
    spent: Mutex<(usize, usize)>,
    returned: Notify,
}

/// A share of a budget, returned when dropped.
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub fn new(calls_max: usize, bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget {
            calls_max: calls_max.max(1),
            bytes_max,
            spent: Mutex::default(),
            returned: Notify::new(),
        })
    }

    /// Takes a share of one call and `bytes`, if that is within the bounds; the first call always is.
    pub fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let mut spent = self.spent.lock();
        let fits = spent.0 == 0 || (spent.0 < self.calls_max && spent.1 + bytes <= self.bytes_max);
        fits.then(|| {
            *spent = (spent.0 + 1, spent.1 + bytes);
            Share { budget: self.clone(), bytes }
        })
    }

    /// Waits for such a share.
    pub async fn take(self: &Arc<Self>, bytes: usize) -> Share {
        loop {
            if let Some(share) = self.try_take(bytes) {
                return share;
            }
            self.returned.notified().await;
        }
    }
}

impl Share {
    /// The share now stands for `bytes`: a reply instead of arguments.
    pub fn resize(&mut self, bytes: usize) {
        let mut spent = self.budget.spent.lock();
        spent.1 = spent.1 - self.bytes + bytes;
        self.bytes = bytes;
        drop(spent);
        self.budget.returned.notify_one();
    }

    /// Whether this is the only share out.
    pub fn is_alone(&self) -> bool {
        self.budget.spent.lock().0 == 1
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut spent = self.budget.spent.lock();
        *spent = (spent.0 - 1, spent.1 - self.bytes);
        drop(spent);
        self.budget.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_are_bounded_and_returned() {
        let budget = Budget::new(2, 100);
        let large = budget.try_take(1000).expect("the first call always fits");
        assert!(budget.try_take(1).is_none());
        drop(large);
        let mut first = budget.take(60).await;
        assert!(budget.try_take(60).is_none());
        first.resize(10);
        let second = budget.take(60).await;
        assert!(budget.try_take(1).is_none(), "two calls are the bound");
        drop((first, second));
        assert_eq!(*budget.spent.lock(), (0, 0));
    }
}
