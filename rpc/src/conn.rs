//! One live connection, the same on both sides.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior};

use crate::calls::Calls;
use crate::frame::{Frame, Kind};
use crate::lossy::{Fate, Lossy};
use crate::outbox::Outbox;
use crate::transport::WriteHalf;

/// Heartbeats missed in a row before the other side counts as gone.
const SILENCE_MAX: u32 = 3;

pub(crate) struct Conn {
    /// The nonce of the side that connected.
    pub client: u64,
    /// What to call the other side in logs.
    pub peer: String,
    /// The largest frame the other side accepts.
    pub frame_max: usize,
    /// Bytes unwritten above which one-way messages and calls from here are refused.
    pub queue_max: usize,
    /// One side loses frames on purpose, so calls are repeated soon.
    pub lossy_link: bool,
    /// Calls from the listening side to the connecting one.
    pub calls: Mutex<Calls<oneshot::Sender<Frame>>>,
    outbox: Outbox,
    lossy: Option<Arc<Lossy>>,
    runtime: Handle,
    heard: AtomicU64,
    paused: AtomicBool,
    closed: AtomicBool,
    closing: Notify,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What a [`Conn`] is made of.
pub(crate) struct ConnParts {
    pub client: u64,
    pub peer: String,
    pub frame_max: usize,
    pub queue_max: usize,
    pub lossy_link: bool,
    pub lossy: Option<Arc<Lossy>>,
    pub write: WriteHalf,
    pub runtime: Handle,
}

impl Conn {
    pub fn new(parts: ConnParts) -> Arc<Conn> {
        Arc::new(Conn {
            client: parts.client,
            peer: parts.peer,
            frame_max: parts.frame_max,
            queue_max: parts.queue_max,
            lossy_link: parts.lossy_link,
            calls: Mutex::default(),
            outbox: Outbox::new(parts.write),
            lossy: parts.lossy,
            runtime: parts.runtime,
            heard: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            tasks: Mutex::default(),
        })
    }

    /// Runs `reading` and the writer until the connection is closed; the handle ends with `reading`.
    pub fn start<F>(self: &Arc<Self>, heartbeat: Duration, reading: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let writer = self.runtime.spawn(self.clone().write(heartbeat));
        let reader = self.runtime.spawn(reading);
        self.tasks.lock().extend([writer.abort_handle(), reader.abort_handle()]);
        if self.is_closed() {
            // Closed before its tasks were known.
            self.abort_tasks();
        }
        reader
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes the connection; idempotent.
    pub fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.outbox.close();
        *self.calls.lock() = Calls::default(); // whoever waits sees its sender gone
        self.closing.notify_waiters();
        self.abort_tasks();
    }

    fn abort_tasks(&self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// Waits until the connection is closed.
    pub async fn wait_closed(&self) {
        let closing = self.closing.notified();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Sends the first frame of a connection, which is never lost on purpose.
    pub fn welcome(&self, frame: Frame) {
        self.outbox.push(frame);
        self.flush();
    }

    /// Queues a frame; [`flush`](Self::flush) or [`wake`](Self::wake) must follow. False when closed.
    pub fn push(self: &Arc<Self>, frame: Frame) -> bool {
        match &self.lossy {
            None => self.outbox.push(frame),
            Some(lossy) => self.push_lossy(frame, lossy.fate()),
        }
    }

    fn push_lossy(self: &Arc<Self>, frame: Frame, fate: Fate) -> bool {
        match fate {
            Fate::Send => self.outbox.push(frame),
            Fate::Drop => !self.is_closed(),
            Fate::Twice => self.outbox.push(frame.clone()) && self.outbox.push(frame),
            Fate::Late(delay) => {
                let conn = self.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(delay).await;
                    conn.outbox.push(frame);
                    conn.wake();
                });
                !self.is_closed()
            }
            Fate::Cut => {
                self.close();
                false
            }
        }
    }

    /// Queues a frame unless too much is queued already, and writes it soon. False when refused.
    pub fn offer(self: &Arc<Self>, frame: Frame) -> bool {
        let idle = self.outbox.unwritten() == 0;
        let taken = self.outbox.unwritten() <= self.queue_max && self.push(frame);
        match taken {
            true if idle => self.flush(),
            true => self.wake(),
            false => {}
        }
        taken
    }

    /// Writes what is queued, as far as that works at once; the rest follows.
    pub fn flush(&self) {
        if let Err(error) = self.outbox.flush() {
            tracing::debug!("{}: {error}", self.peer);
            self.close();
        }
    }

    /// Has what is queued written by the connection's writer task.
    pub fn wake(&self) {
        self.outbox.wake();
    }

    /// Whether the queue is below its bound.
    pub fn has_room(&self) -> bool {
        self.outbox.unwritten() <= self.queue_max
    }

    /// Waits until the queue is below its bound: who does not read its replies is sent no more of them.
    pub async fn wait_for_room(&self) {
        if !self.has_room() {
            self.flush();
            self.outbox.wait_for_room(self.queue_max, || self.note_heard()).await;
        }
    }

    /// A frame arrived.
    pub fn note_heard(&self) {
        self.heard.store(self.heard.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Frames that arrived so far.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// While the reader waits for something else than frames, silence proves nothing.
    pub async fn paused<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.paused.store(true, Ordering::Relaxed);
        let result = waiting.await;
        self.paused.store(false, Ordering::Relaxed);
        self.note_heard();
        result
    }

    async fn write(self: Arc<Self>, heartbeat: Duration) {
        let mut tick = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut silence) = (self.heard(), 0);
        loop {
            tokio::select! {
                biased;
                ended = self.outbox.run() => {
                    if let Err(error) = ended {
                        tracing::debug!("{}: {error}", self.peer);
                    }
                    return self.close();
                }
                _ = tick.tick() => {
                    let alive = self.heard() != heard || self.paused.load(Ordering::Relaxed);
                    silence = if alive { 0 } else { silence + 1 };
                    heard = self.heard();
                    if silence >= SILENCE_MAX {
                        tracing::info!("{}: silent for {:?}, connection closed", self.peer, heartbeat * silence);
                        return self.close();
                    }
                    if self.outbox.unwritten() == 0 {
                        self.outbox.push(Frame::new(Kind::Ping));
                    }
                }
            }
        }
    }
}
