//! Running a request: polled once on the FUSE thread, and moved to the runtime only if it must wait.
//!
//! FUSE threads therefore never wait for the network and cannot be exhausted by requests that do. Every request gets an
//! answer: in time, or EIO when its deadline passes or the operation panics, or EINTR when its caller is being killed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fuser::Errno;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::killed;
use super::counters::{Counters, Kind};
use super::errno::{errno, is_failure};
use crate::core::FsError;

/// Operations that may be under way at once. The rest of a flood waits its turn, before it has taken any lock.
const IN_FLIGHT_MAX: usize = 4096;

/// Runs requests.
#[derive(Debug)]
pub struct Dispatcher {
    runtime: Handle,
    timeout: Duration,
    in_flight: Arc<Semaphore>,
    counters: Arc<Counters>,
}

/// An operation whose panic has become a value.
type Operation<T> = Pin<Box<dyn Future<Output = Outcome<T>> + Send>>;
type Outcome<T> = Result<Result<T, FsError>, Panicked>;

/// The operation panicked; what it said has been logged by the panic hook.
struct Panicked;

impl Dispatcher {
    /// Waiting operations run on `runtime`, and are answered EIO after `timeout`.
    pub fn new(runtime: Handle, timeout: Duration, counters: Arc<Counters>) -> Dispatcher {
        Dispatcher { runtime, timeout, in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), counters }
    }

    /// Runs the operation for the thread `caller` (0 if unknown) and gives its result to `reply`, here or later on the
    /// runtime.
    ///
    /// An operation that exceeds the deadline, or whose caller is being killed, is answered but not dropped: it goes on
    /// until the timeouts below it end it, so that nothing is ever left half done, and its effect may still come (as with
    /// any call that timed out). Its result is dropped.
    pub fn run<T, F, R>(&self, caller: u32, kind: Kind, operation: F, reply: R)
    where
        T: Send + 'static,
        F: Future<Output = Result<T, FsError>> + Send + 'static,
        R: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        self.counters.count(kind);
        let caught = AssertUnwindSafe(operation).catch_unwind();
        let mut operation: Operation<T> = Box::pin(caught.map(|outcome| outcome.map_err(|_| Panicked)));
        // An operation that was polled may hold locks and must be polled on; so the place in flight comes first.
        let Ok(place) = self.in_flight.clone().try_acquire_owned() else {
            return self.wait(caller, kind, None, operation, reply);
        };
        let first_poll = {
            let _runtime = self.runtime.enter(); // timers and tasks made by the operation belong to it
            operation.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        match first_poll {
            Poll::Ready(outcome) => reply(answer(kind, outcome)),
            Poll::Pending => self.wait(caller, kind, Some(place), operation, reply),
        }
    }

    fn wait<T, R>(
        &self,
        caller: u32,
        kind: Kind,
        place: Option<OwnedSemaphorePermit>,
        operation: Operation<T>,
        reply: R,
    ) where
        T: Send + 'static,
        R: FnOnce(Result<T, Errno>) + Send + 'static,
    {
        self.counters.count_waited();
        let in_flight = self.in_flight.clone();
        let timeout = self.timeout;
        self.runtime.spawn(async move {
            let mut operation = operation;
            let mut given_up = std::pin::pin!(give_up(caller, kind, timeout));
            let _place = match place {
                Some(place) => Ok(place),
                None => tokio::select! {
                    biased;
                    place = in_flight.acquire_owned() => place,
                    errno = &mut given_up => return reply(Err(errno)), // and it is never begun
                },
            };
            tokio::select! {
                biased;
                outcome = &mut operation => return reply(answer(kind, outcome)),
                errno = &mut given_up => reply(Err(errno)),
            }
            drop(operation.await);
        });
    }
}

/// Waits until an answer makes no sense any more; what to say instead.
async fn give_up(caller: u32, kind: Kind, timeout: Duration) -> Errno {
    tokio::select! {
        () = tokio::time::sleep(timeout) => {
            tracing::warn!("{}: no answer within {timeout:?}, giving up with EIO", kind.name());
            Errno::EIO
        }
        () = killed(caller) => {
            tracing::debug!("{}: thread {caller} is being killed and is not kept waiting", kind.name());
            Errno::EINTR
        }
    }
}

fn answer<T>(kind: Kind, outcome: Outcome<T>) -> Result<T, Errno> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            if is_failure(&error) {
                tracing::warn!("{}: {error}", kind.name());
            }
            Err(errno(&error))
        }
        Err(Panicked) => {
            tracing::error!("{}: the operation panicked; this is a bug of yfs", kind.name());
            Err(Errno::EIO)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::ThreadId;

    type Seen = (Result<u32, Errno>, ThreadId);

    fn run(
        dispatcher: &Dispatcher,
        operation: impl Future<Output = Result<u32, FsError>> + Send + 'static,
    ) -> Receiver<Seen> {
        let (send, receive) = channel();
        dispatcher.run(0, Kind::Getattr, operation, move |result| {
            send.send((result, std::thread::current().id())).unwrap();
        });
        receive
    }

    fn with_dispatcher(timeout: Duration, test: impl FnOnce(&Dispatcher)) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        test(&Dispatcher::new(runtime.handle().clone(), timeout, Arc::default()));
        runtime.shutdown_background();
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_ready_is_answered_on_the_calling_thread() {
        with_dispatcher(LONG, |dispatcher| {
            let seen = run(dispatcher, async { Ok(7) }).try_recv().unwrap();
            assert_eq!(seen, (Ok(7), std::thread::current().id()));
            let seen = run(dispatcher, async { Err(FsError::NotEmpty) }).try_recv().unwrap();
            assert_eq!(seen.0, Err(Errno::ENOTEMPTY));
        });
    }

    #[test]
    fn what_waits_is_answered_elsewhere() {
        with_dispatcher(LONG, |dispatcher| {
            let (go, wait) = tokio::sync::oneshot::channel();
            let receive = run(dispatcher, async { Ok(wait.await.unwrap()) });
            assert!(receive.try_recv().is_err());
            go.send(9).unwrap();
            let seen = receive.recv_timeout(LONG).unwrap();
            assert_eq!(seen.0, Ok(9));
            assert_ne!(seen.1, std::thread::current().id());
        });
    }

    #[test]
    fn nothing_waits_for_ever() {
        with_dispatcher(Duration::from_millis(20), |dispatcher| {
            let (go, wait) = tokio::sync::oneshot::channel::<u32>();
            let (done, finished) = channel();
            let receive = run(dispatcher, async move {
                let value = wait.await;
                done.send(value.clone()).unwrap();
                Ok(value.unwrap())
            });
            assert_eq!(receive.recv_timeout(LONG).unwrap().0, Err(Errno::EIO));
            go.send(3).unwrap();
            assert_eq!(finished.recv_timeout(LONG).unwrap(), Ok(3), "the operation went on to its end");
        });
    }

    #[test]
    fn a_panic_is_an_io_error_and_the_thread_lives_on() {
        with_dispatcher(LONG, |dispatcher| {
            let receive = run(dispatcher, async { panic!("at once") });
            assert_eq!(receive.try_recv().unwrap().0, Err(Errno::EIO));
            let receive = run(dispatcher, async {
                tokio::task::yield_now().await;
                panic!("later")
            });
            assert_eq!(receive.recv_timeout(LONG).unwrap().0, Err(Errno::EIO));
        });
    }

    #[test]
    fn a_flood_waits_its_turn_unpolled() {
        with_dispatcher(LONG, |dispatcher| {
            let gate = Arc::new(Semaphore::new(0));
            let mut waiting: Vec<_> = (0..IN_FLIGHT_MAX)
                .map(|_| {
                    let gate = gate.clone();
                    run(dispatcher, async move {
                        drop(gate.acquire().await);
                        Ok(1)
                    })
                })
                .collect();
            let one_too_many = run(dispatcher, async { Ok(2) });
            assert!(one_too_many.recv_timeout(Duration::from_millis(50)).is_err());
            gate.add_permits(1);
            assert_eq!(one_too_many.recv_timeout(LONG).unwrap().0, Ok(2));
            gate.add_permits(IN_FLIGHT_MAX);
            for receive in waiting.drain(..) {
                assert_eq!(receive.recv_timeout(LONG).unwrap().0, Ok(1));
            }
        });
    }
}
