//! Running futures by hand, one step at a time, in an order drawn from a seed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::rng::Rng;

/// Nothing was left that could run, but not everything was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs one future to its end. `Err` if it waits for something that nobody will do.
pub fn run<T>(future: impl Future<Output = T>) -> Result<T, Stalled> {
    let mut future = std::pin::pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    while flag.0.swap(false, Ordering::AcqRel) {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(value);
        }
    }
    Err(Stalled)
}

/// What a first poll gives, which must not wait.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A task of [`run_all`].
pub type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Runs tasks to their end, always one that was woken, drawn from `seed`; the daemons run beside them and are dropped
/// at the end. `Err` when tasks are left that nothing will wake.
pub fn run_all(tasks: Vec<Task<'_>>, daemons: Vec<Task<'_>>, seed: u64) -> Result<(), Stalled> {
    let mut rng = Rng::new(seed);
    let mut left = tasks.len();
    let with_flag = |task| (task, Arc::new(Flag(AtomicBool::new(true))));
    let mut tasks: Vec<_> = tasks
        .into_iter()
        .chain(daemons)
        .map(with_flag)
        .enumerate()
        .map(|(i, (t, f))| (t, f, i < left))
        .collect();
    while left > 0 {
        let awake: Vec<usize> = (0..tasks.len()).filter(|i| tasks[*i].1.0.load(Ordering::Acquire)).collect();
        if awake.is_empty() {
            return Err(Stalled);
        }
        let next = *rng.pick(&awake);
        let (task, flag, counts) = &mut tasks[next];
        flag.0.store(false, Ordering::Release);
        let waker = Waker::from(flag.clone());
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            left -= usize::from(*counts);
            drop(tasks.swap_remove(next));
        }
    }
    Ok(())
}

/// Lets others run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
