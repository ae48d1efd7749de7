//! The write side of a connection: a queue of frames and whoever has the time to write them.
//!
//! Any thread may push. A thread that expects no company writes at once ([`Outbox::flush`]), which spares a task switch;
//! otherwise, or when the socket is full, the connection's writer task ([`Outbox::run`]) writes what has gathered, many
//! frames in one system call.
//!
//! Lock order: `sink` before `queue`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::frame::Frame;
use crate::transport::WriteHalf;

/// Bodies and payloads up to this are gathered into one buffer; larger ones are written from where they are.
const GATHER_MAX: usize = 8 << 10;
/// Bytes encoded at a time; the rest waits in the queue.
const BATCH_MAX: usize = 256 << 10;
/// Slices handed to one vectored write.
const SLICES_MAX: usize = 32;

pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    sink: Mutex<Option<Sink>>,
    /// Bytes pushed and not yet written.
    unwritten: AtomicUsize,
    /// The writer task has work.
    work: Notify,
    /// Something was written.
    room: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    closed: bool,
}

struct Sink {
    io: WriteHalf,
    chunks: VecDeque<Bytes>,
    gather: BytesMut,
    /// The last write found the socket full; only the writer task may poll until it is not.
    blocked: bool,
}

impl Outbox {
    pub fn new(io: WriteHalf) -> Outbox {
        let sink = Sink { io, chunks: VecDeque::new(), gather: BytesMut::new(), blocked: false };
        Outbox {
            queue: Mutex::default(),
            sink: Mutex::new(Some(sink)),
            unwritten: AtomicUsize::new(0),
            work: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Bytes pushed and not yet taken by the transport.
    pub fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Queues a frame; [`flush`](Self::flush) or [`wake`](Self::wake) must follow. False when closed.
    pub fn push(&self, frame: Frame) -> bool {
        let mut queue = self.queue.lock();
        if !queue.closed {
            self.unwritten.fetch_add(frame.wire_len(), Ordering::Relaxed);
            queue.frames.push_back(frame);
        }
        !queue.closed
    }

    /// Has the writer task write what is queued.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// Writes what is queued as far as the transport takes it now; the writer task does the rest.
    pub fn flush(&self) -> io::Result<()> {
        let Some(mut guard) = self.sink.try_lock() else {
            // The holder may have looked at the queue before our push.
            self.wake();
            return Ok(());
        };
        let Some(sink) = guard.as_mut().filter(|sink| !sink.blocked) else { return Ok(()) };
        match self.write_all(sink, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.wake(); // to poll again with a waker that wakes somebody
                Ok(())
            }
        }
    }

    /// Writes until the transport fails or the outbox is closed. May be dropped and started again at any point.
    pub async fn run(&self) -> io::Result<()> {
        loop {
            std::future::poll_fn(|cx| match self.sink.lock().as_mut() {
                Some(sink) => self.write_all(sink, cx),
                None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            })
            .await?;
            self.work.notified().await;
        }
    }

    /// Waits until at most `max` bytes are unwritten, or the outbox is closed; `progress` is called whenever the other
    /// side took something.
    pub async fn wait_for_room(&self, max: usize, progress: impl Fn()) {
        loop {
            let room = self.room.notified(); // before the check, so that no notification is missed
            if self.unwritten() <= max || self.queue.lock().closed {
                return;
            }
            room.await;
            progress();
        }
    }

    /// Drops what is queued and the transport with it.
    pub fn close(&self) {
        *self.sink.lock() = None;
        let frames = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.frames)
        };
        drop(frames);
        self.room.notify_waiters();
        self.wake();
    }

    fn write_all(&self, sink: &mut Sink, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = loop {
            if sink.chunks.is_empty() && !self.gather(sink) {
                break Pin::new(&mut sink.io).poll_flush(cx);
            }
            match sink.poll_write(cx) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.unwritten.fetch_sub(written, Ordering::Relaxed);
                    self.room.notify_waiters();
                }
                Poll::Ready(Err(e)) => break Poll::Ready(Err(e)),
                Poll::Pending => break Poll::Pending,
            }
        };
        sink.blocked = result.is_pending();
        result
    }

    /// Encodes the next batch of the queue; false when there is none.
    fn gather(&self, sink: &mut Sink) -> bool {
        let mut queue = self.queue.lock();
        let mut batch = 0;
        while batch < BATCH_MAX
            && let Some(frame) = queue.frames.pop_front()
        {
            batch += frame.wire_len();
            frame.put_head(&mut sink.gather);
            sink.put(frame.body);
            sink.put(frame.payload);
        }
        drop(queue);
        sink.seal();
        batch > 0
    }
}

impl Sink {
    fn put(&mut self, bytes: Bytes) {
        if bytes.len() <= GATHER_MAX {
            self.gather.extend_from_slice(&bytes);
        } else {
            self.seal();
            self.chunks.push_back(bytes);
        }
    }

    /// Moves what was gathered to the chunks to write.
    fn seal(&mut self) {
        if !self.gather.is_empty() {
            self.chunks.push_back(self.gather.split().freeze());
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let written = std::task::ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]))?;
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(chunk) = self.chunks.front_mut()
            && written > 0
        {
            let step = written.min(chunk.len());
            chunk.advance(step);
            written -= step;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
    }
}
