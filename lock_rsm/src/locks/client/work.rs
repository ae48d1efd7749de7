//! A list of things to do, drained in batches by one task.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What piles up while the task is busy becomes its next batch; nothing waits for a batch to fill.
/// Bounded by its users: each lock is at most once in each list.
pub(super) struct Work<T> {
    items: Mutex<Vec<T>>,
    more: Notify,
}

impl<T> Work<T> {
    pub(super) fn new() -> Self {
        Work { items: Mutex::new(Vec::new()), more: Notify::new() }
    }

    pub(super) fn push(&self, item: T) {
        self.items.lock().push(item);
        self.more.notify_one();
    }

    pub(super) fn push_all(&self, items: Vec<T>) {
        if items.is_empty() {
            return;
        }
        self.items.lock().extend(items);
        self.more.notify_one();
    }

    /// The oldest items, at most `max`; waits until there are any.
    pub(super) async fn take(&self, max: usize) -> Vec<T> {
        loop {
            {
                let mut items = self.items.lock();
                if !items.is_empty() {
                    let count = max.min(items.len());
                    let rest = items.split_off(count);
                    return std::mem::replace(&mut *items, rest);
                }
            }
            self.more.notified().await;
        }
    }
}
