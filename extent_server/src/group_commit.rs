//! Group commit: whatever waits when the disk becomes free is made durable with one sync.
//!
//! One thread applies batches strictly in the order in which they were submitted. While it syncs, others queue up, and
//! the next group takes them all (within bounds). Each is answered after the sync of its group.

use crate::error::StoreError;
use crate::store::{Health, Step};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Most bytes in one group, about; a group has at least one batch.
const GROUP_BYTES_MAX: u64 = 16 << 20;
/// Most batches in one group.
const GROUP_BATCHES_MAX: usize = 1024;

/// Steps that take effect together or not at all.
#[derive(Debug)]
pub(crate) struct Batch {
    /// On whose behalf; `None` for the store's own, which no fence stops.
    pub(crate) session: Option<u64>,
    /// What to do, in order.
    pub(crate) steps: Vec<Step>,
}

impl Batch {
    pub(crate) fn cost(&self) -> u64 {
        self.steps.iter().map(Step::cost).sum()
    }
}

/// Makes a group durable.
pub(crate) trait Apply: Send + 'static {
    /// Applies the batches in order and syncs. Each gets its own answer; an error of the whole means that nobody knows
    /// what reached the disk, and nothing is applied after it.
    fn apply(&mut self, group: &[Batch]) -> Result<Vec<Result<(), StoreError>>, String>;
}

struct Submission {
    batch: Batch,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The queue and its thread. Dropping it finishes what was submitted.
pub(crate) struct GroupCommit {
    queue: Option<mpsc::Sender<Submission>>,
    thread: Option<JoinHandle<()>>,
    health: Arc<Health>,
}

/// The answer to come of a submitted batch.
pub(crate) struct Pending {
    done: oneshot::Receiver<Result<(), StoreError>>,
    health: Arc<Health>,
}

impl Pending {
    /// Waits on this thread, which must not be one of the asynchronous runtime's.
    pub(crate) fn wait(self) -> Result<(), StoreError> {
        let answer = self.done.blocking_recv();
        answer.unwrap_or_else(|_| Err(lost(&self.health)))
    }

    /// Waits asynchronously.
    pub(crate) async fn durable(self) -> Result<(), StoreError> {
        let answer = self.done.await;
        answer.unwrap_or_else(|_| Err(lost(&self.health)))
    }
}

fn lost(health: &Health) -> StoreError {
    health.fail("the commit thread ended".to_string())
}

impl GroupCommit {
    /// Starts the thread.
    pub(crate) fn start(apply: impl Apply, health: Arc<Health>) -> std::io::Result<GroupCommit> {
        let (queue, submissions) = mpsc::channel();
        let thread = std::thread::Builder::new().name("group-commit".to_string()).spawn({
            let health = health.clone();
            move || run(apply, &submissions, &health)
        })?;
        Ok(GroupCommit { queue: Some(queue), thread: Some(thread), health })
    }

    /// Queues a batch behind all submitted before.
    pub(crate) fn submit(&self, batch: Batch) -> Pending {
        let (done, answer) = oneshot::channel();
        let queue = self.queue.as_ref().expect("the queue lives until drop");
        // If the thread is gone, so is `done`, and waiting for the answer says so.
        let _ = queue.send(Submission { batch, done });
        Pending { done: answer, health: self.health.clone() }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.health.fail("the commit thread panicked".to_string());
        }
    }
}

fn run(mut apply: impl Apply, submissions: &mpsc::Receiver<Submission>, health: &Arc<Health>) {
    let _on_panic = FailOnPanic(health.clone());
    while let Ok(first) = submissions.recv() {
        let (group, answers) = gather(first, submissions);
        let results = match health.check() {
            Err(failed) => vec![Err(failed); group.len()],
            Ok(()) => {
                apply.apply(&group).unwrap_or_else(|reason| vec![Err(health.fail(reason)); group.len()])
            }
        };
        for (done, result) in answers.into_iter().zip(results) {
            // Who does not wait any more need not be told.
            let _ = done.send(result);
        }
    }
}

fn gather(
    first: Submission,
    submissions: &mpsc::Receiver<Submission>,
) -> (Vec<Batch>, Vec<oneshot::Sender<Result<(), StoreError>>>) {
    let mut bytes = first.batch.cost();
    let (mut group, mut answers) = (vec![first.batch], vec![first.done]);
    while bytes < GROUP_BYTES_MAX
        && group.len() < GROUP_BATCHES_MAX
        && let Ok(next) = submissions.try_recv()
    {
        bytes += next.batch.cost();
        group.push(next.batch);
        answers.push(next.done);
    }
    (group, answers)
}

struct FailOnPanic(Arc<Health>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the commit thread panicked".to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender};

    /// Applies a group only when told to, and reports the sessions in it.
    struct Stepped {
        go: Receiver<Result<(), String>>,
        groups: Sender<Vec<u64>>,
    }

    impl Apply for Stepped {
        fn apply(&mut self, group: &[Batch]) -> Result<Vec<Result<(), StoreError>>, String> {
            self.groups.send(group.iter().filter_map(|b| b.session).collect()).unwrap();
            self.go.recv().unwrap()?;
            Ok(group
                .iter()
                .map(|b| if b.session == Some(13) { Err(StoreError::Fenced { session: 13 }) } else { Ok(()) })
                .collect())
        }
    }

    fn stepped() -> (GroupCommit, Sender<Result<(), String>>, Receiver<Vec<u64>>) {
        let (go, wait) = mpsc::channel();
        let (report, groups) = mpsc::channel();
        let commit = GroupCommit::start(Stepped { go: wait, groups: report }, Arc::default()).unwrap();
        (commit, go, groups)
    }

    fn batch(session: u64) -> Batch {
        Batch { session: Some(session), steps: Vec::new() }
    }

    #[test]
    fn what_waits_goes_together_in_order_with_its_own_answers() {
        let (commit, go, groups) = stepped();
        let first = commit.submit(batch(1));
        assert_eq!(groups.recv().unwrap(), [1]);
        let waiting: Vec<_> = [2, 13, 4].map(|s| commit.submit(batch(s))).into();
        go.send(Ok(())).unwrap();
        assert_eq!(first.wait(), Ok(()));
        assert_eq!(groups.recv().unwrap(), [2, 13, 4]);
        go.send(Ok(())).unwrap();
        let answers: Vec<_> = waiting.into_iter().map(Pending::wait).collect();
        assert_eq!(answers, [Ok(()), Err(StoreError::Fenced { session: 13 }), Ok(())]);
    }

    #[test]
    fn after_a_failure_nothing_is_applied() {
        let (commit, go, groups) = stepped();
        let first = commit.submit(batch(1));
        assert_eq!(groups.recv().unwrap(), [1]);
        let second = commit.submit(batch(2));
        go.send(Err("disk on fire".into())).unwrap();
        let failed = Err(StoreError::Failed { reason: "disk on fire".into() });
        assert_eq!(first.wait(), failed);
        assert_eq!(second.wait(), failed);
        assert_eq!(commit.submit(batch(3)).wait(), failed);
        drop(commit);
        assert!(groups.recv().is_err(), "no further group reached the disk");
    }

    #[test]
    fn a_panic_fails_the_store() {
        let (commit, go, _groups) = stepped();
        let first = commit.submit(batch(1));
        drop(go);
        assert!(matches!(first.wait(), Err(StoreError::Failed { .. })));
        assert!(matches!(commit.submit(batch(2)).wait(), Err(StoreError::Failed { .. })));
    }
}
