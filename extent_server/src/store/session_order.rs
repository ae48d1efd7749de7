//! Keeps the commits of one session in the order in which they arrived, while they wait for different things.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The tail of each session's line.
#[derive(Default)]
pub(crate) struct SessionOrder {
    tails: Mutex<Tails>,
}

#[derive(Default)]
struct Tails {
    last: u64,
    tails: HashMap<u64, (u64, oneshot::Receiver<()>)>,
}

/// A place in the line of a session; dropping it lets the next one go.
pub(crate) struct Turn {
    order: Arc<SessionOrder>,
    session: u64,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    _done: oneshot::Sender<()>,
}

impl SessionOrder {
    /// Takes the last place in the line of `session`.
    pub(crate) fn enter(self: &Arc<Self>, session: u64) -> Turn {
        let (done, after_us) = oneshot::channel();
        let mut tails = self.tails.lock();
        tails.last += 1;
        let number = tails.last;
        let before = tails.tails.insert(session, (number, after_us)).map(|(_, done)| done);
        Turn { order: self.clone(), session, number, before, _done: done }
    }
}

impl Turn {
    /// Waits until all who entered before are done.
    pub(crate) async fn come(&mut self) {
        if let Some(before) = self.before.take() {
            // An error says that the sender was dropped, which is how a turn ends.
            let _ = before.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut tails = self.order.tails.lock();
        if tails.tails.get(&self.session).is_some_and(|(number, _)| *number == self.number) {
            tails.tails.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_sessions_do_not_wait_for_each_other() {
        let order = Arc::new(SessionOrder::default());
        let mut first = order.enter(1);
        let mut second = order.enter(1);
        let mut other = order.enter(2);
        other.come().await;
        first.come().await;
        {
            let waiting = second.come();
            tokio::pin!(waiting);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            drop(first);
            waiting.await;
        }
        drop((second, other));
        assert!(order.tails.lock().tails.is_empty(), "nobody in line takes no memory");
    }
}
