//! Records what real clients do.

use super::history::{History, HistoryOf, OpId};
use super::model::Model;
use parking_lot::Mutex;
use std::sync::Arc;

/// The clock of all recorders on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Nanoseconds since some moment that is the same for every process of this machine; never goes back, on no
    /// processor.
    pub fn now(self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec that the call fills in.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
        assert_eq!(failed, 0, "every Linux has CLOCK_MONOTONIC");
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

/// Takes down the operations of any number of threads and tasks. Clones record into the same history.
pub struct Recorder<M: Model> {
    history: Arc<Mutex<HistoryOf<M>>>,
}

impl<M: Model> Clone for Recorder<M> {
    fn clone(&self) -> Self {
        Recorder { history: Arc::clone(&self.history) }
    }
}

impl<M: Model> Default for Recorder<M> {
    fn default() -> Self {
        Recorder { history: Arc::new(Mutex::new(History::new())) }
    }
}

impl<M: Model> Recorder<M> {
    /// An empty history.
    pub fn new() -> Self {
        Recorder::default()
    }

    /// `process` is about to ask `input`. Unless something is said about it later, its outcome is unknown.
    pub fn invoke(&self, process: u64, input: M::Input) -> Pending<M> {
        self.invoke_at(process, Clock.now(), input)
    }

    /// The same, with the moment looked up before.
    pub fn invoke_at(&self, process: u64, at: u64, input: M::Input) -> Pending<M> {
        let id = self.history.lock().invoke(process, at, input);
        Pending { recorder: self.clone(), id }
    }

    /// What was recorded so far.
    pub fn history(&self) -> HistoryOf<M> {
        self.history.lock().clone()
    }
}

/// An operation under way. Dropped, its outcome stays unknown.
#[must_use = "say what was answered, or `unknown`"]
pub struct Pending<M: Model> {
    recorder: Recorder<M>,
    id: OpId,
}

impl<M: Model> Pending<M> {
    /// `output` has been answered.
    pub fn answer(self, output: M::Output) {
        let at = Clock.now();
        self.recorder.history.lock().answer(self.id, at, output);
    }

    /// Nobody knows whether it was or will be executed.
    pub fn unknown(self) {}

    /// It was not executed and never will be.
    pub fn never(self) {
        self.recorder.history.lock().never(self.id);
    }
}
