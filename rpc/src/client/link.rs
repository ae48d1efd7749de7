//! The client's task: connects, greets, reads, and does so again when the connection dies.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::conn::{Conn, ConnParts};
use crate::frame::{FRAME_MAX, Frame, Kind};
use crate::handler::{CallInfo, Notify};
use crate::handshake::{self, HANDSHAKE_MAX, Hello, Welcome};
use crate::lossy::random_u64;
use crate::peer::Peer;
use crate::reader::{FrameReader, ReadError, keep};
use crate::session::reply_to;
use crate::window::{Admission, Window, WindowLimits};

use super::Inner;

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Between attempts at least this (or the whole pause, if shorter) passes, however much a connection is wanted.
const PAUSE_WANTED: Duration = Duration::from_millis(40);
/// A connection that lived for so long proves the server well.
const LIVED: Duration = Duration::from_secs(1);

/// Keeps the client connected for as long as it exists.
pub(super) async fn drive(inner: Arc<Inner>) {
    let mut pause = PAUSE_MIN;
    loop {
        match connect(&inner).await {
            Ok((reader, conn, welcome)) => {
                let since = Instant::now();
                if !inner.attach(&conn, &welcome) {
                    return conn.close();
                }
                let heard = run(&inner, reader, &conn, welcome.boot).await;
                inner.detach();
                if since.elapsed() >= LIVED {
                    pause = PAUSE_MIN;
                    continue; // it was well a moment ago
                }
                if heard {
                    pause = PAUSE_MIN;
                }
            }
            Err(error) => {
                tracing::debug!("{}: {error}", inner.addr);
                inner.note_failure(error);
            }
        }
        wait(&inner, pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits for about `pause`, or less when a connection is wanted.
async fn wait(inner: &Inner, pause: Duration) {
    let pause = pause.mul_f64(0.5 + (random_u64() % 1024) as f64 / 1024.0); // so that clients do not come in step
    let least = pause.min(PAUSE_WANTED);
    tokio::time::sleep(least).await;
    let rest = tokio::time::sleep(pause - least);
    tokio::select! {
        biased;
        _ = rest => {}
        _ = inner.wanted.notified() => {}
    }
}

async fn connect(inner: &Inner) -> io::Result<(FrameReader, Arc<Conn>, Welcome)> {
    let timeout = inner.options.connect_timeout;
    tokio::time::timeout(timeout, greet(inner)).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection and greeting within {timeout:?}")))
    })
}

async fn greet(inner: &Inner) -> io::Result<(FrameReader, Arc<Conn>, Welcome)> {
    let options = &inner.options;
    let mut link = options.transport.connect(&inner.addr).await?;
    let hello = Hello {
        nonce: inner.nonce,
        sent_before: inner.sent_before(),
        frame_max: options.max_frame as u64,
        lossy: inner.lossy.is_some(),
    };
    link.write.write_all(&handshake::frame(Kind::Hello, &hello).to_bytes()).await?;
    link.write.flush().await?;
    let mut reader = FrameReader::new(link.read, HANDSHAKE_MAX);
    let welcome: Welcome = handshake::read(&mut reader, Kind::Welcome).await.map_err(to_io)?;
    reader.set_max(options.max_frame);
    let conn = Conn::new(ConnParts {
        client: inner.nonce,
        peer: inner.addr.clone(),
        frame_max: usize::try_from(welcome.frame_max).unwrap_or(usize::MAX).min(FRAME_MAX),
        queue_max: options.max_queue_bytes,
        lossy_link: welcome.lossy || inner.lossy.is_some(),
        lossy: inner.lossy.clone(),
        write: link.write,
        runtime: inner.runtime.clone(),
    });
    Ok((reader, conn, welcome))
}

fn to_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        ReadError::End => {
            io::Error::new(io::ErrorKind::ConnectionReset, "it closed the connection at the greeting")
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

/// Serves a connection until it dies; says whether anything came over it.
async fn run(inner: &Arc<Inner>, reader: FrameReader, conn: &Arc<Conn>, boot: u64) -> bool {
    /// Closes the connection also when the client's task is aborted.
    struct Closing<'a>(&'a Conn);
    impl Drop for Closing<'_> {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let _closing = Closing(conn);
    let receiver = Receiver {
        inner: inner.clone(),
        conn: conn.clone(),
        boot,
        window: Window::new(WindowLimits::default(), 0),
    };
    let reading = conn.start(inner.options.heartbeat, receiver.run(reader));
    if let Err(error) = reading.await
        && error.is_panic()
    {
        tracing::error!("the connection to {} failed: {error}", conn.peer);
    }
    conn.heard() > 0
}

/// Takes what the server sends.
struct Receiver {
    inner: Arc<Inner>,
    conn: Arc<Conn>,
    boot: u64,
    /// Of the server's calls over this connection; they end with it.
    window: Window<Frame>,
}

impl Receiver {
    async fn run(mut self, mut reader: FrameReader) {
        if let Err(error) = self.read(&mut reader).await {
            match error {
                ReadError::End | ReadError::Io(_) => tracing::debug!("{}: {error}", self.conn.peer),
                _ => tracing::warn!("connection to {} dropped: {error}", self.conn.peer),
            }
        }
        self.conn.close();
    }

    async fn read(&mut self, reader: &mut FrameReader) -> Result<(), ReadError> {
        self.conn.flush(); // what was outstanding when the connection came
        loop {
            while let Some(frame) = reader.buffered()? {
                self.conn.note_heard();
                self.take(frame)?;
            }
            reader.fill().await?;
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), ReadError> {
        match frame.kind {
            Kind::Reply => self.inner.deliver(frame),
            Kind::Notify => self.notify(frame),
            Kind::Call => self.call(frame),
            Kind::Ping => {}
            Kind::Hello | Kind::Welcome => return Err(ReadError::Protocol("a second greeting")),
        }
        Ok(())
    }

    fn notify(&self, frame: Frame) {
        let Some(receiver) = self.inner.pushes.read().get(&frame.proc).cloned() else {
            tracing::debug!("{}: no receiver for message {:#x}", self.conn.peer, frame.proc);
            return;
        };
        let (client, proc, peer) = (self.inner.nonce, frame.proc, Peer::of_server(&self.inner));
        let notify = Notify { client, proc, args: keep(frame.body), payload: keep(frame.payload), peer };
        if catch_unwind(AssertUnwindSafe(|| receiver(notify))).is_err() {
            tracing::error!("the receiver of message {proc:#x} panicked");
        }
    }

    fn call(&mut self, frame: Frame) {
        let reply = match self.window.admit(frame.xid, frame.xid_rep) {
            // Too many in progress cannot be: each ends before the next is read.
            Admission::InProgress | Admission::Full => return,
            Admission::Done(reply) => reply,
            Admission::Forgotten => return, // the server gave it up
            Admission::New => {
                let handler = self.inner.handlers.read().get(&frame.proc).cloned();
                let info = CallInfo { client: self.boot, order: (0, frame.xid) };
                let reply = reply_to(handler, &info, &frame, self.conn.frame_max);
                self.window.complete(frame.xid, reply.clone(), reply.wire_len());
                reply
            }
        };
        // When refused the server asks again.
        self.conn.offer(reply);
    }
}
