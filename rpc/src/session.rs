//! A server's side of one connection: reads frames, runs handlers, sends replies.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use futures_util::FutureExt;

use crate::budget::{Budget, Share};
use crate::clients::RemoteClient;
use crate::codec;
use crate::conn::Conn;
use crate::deferred::{DeferredFn, Responder};
use crate::error::Status;
use crate::frame::{AT_MOST_ONCE, Frame, Kind};
use crate::handler::{AsyncHandler, BoxFuture, CallInfo, Handler, Notify, Proc, Request, Response};
use crate::peer::Peer;
use crate::reader::{FrameReader, ReadError, keep};
use crate::server::{Route, Shared};
use crate::window::Admission;

/// A status in a reply, or the reply itself.
type Outcome = Result<Response, Status>;

pub(crate) struct Session {
    pub shared: Arc<Shared>,
    pub conn: Arc<Conn>,
    pub client: Arc<RemoteClient>,
    pub budget: Arc<Budget>,
}

/// Identifies the call a reply is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallId {
    proc: Proc,
    xid: u64,
    at_most_once: bool,
}

impl Session {
    /// Serves the connection until it ends.
    pub async fn run(self: Arc<Self>, mut reader: FrameReader) {
        if let Err(error) = self.read(&mut reader).await {
            match error {
                ReadError::End | ReadError::Io(_) => tracing::debug!("{}: {error}", self.conn.peer),
                _ => tracing::warn!("connection from {} dropped: {error}", self.conn.peer),
            }
        }
        self.conn.close();
    }

    async fn read(self: &Arc<Self>, reader: &mut FrameReader) -> Result<(), ReadError> {
        loop {
            while let Some(frame) = reader.buffered()? {
                self.conn.note_heard();
                self.take(frame).await?;
            }
            // Replies to all that came together leave together, without waking another task.
            self.conn.flush();
            reader.fill().await?;
        }
    }

    async fn take(self: &Arc<Self>, frame: Frame) -> Result<(), ReadError> {
        match frame.kind {
            Kind::Call => {
                self.call(frame).await;
                self.conn.wait_for_room().await;
            }
            Kind::Notify => self.notify(frame),
            Kind::Reply => {
                let waiting = self.conn.calls.lock().finish(frame.xid);
                if let Some(reply) = waiting {
                    let _ = reply.send(frame); // nobody waits any more: fine
                }
            }
            Kind::Ping => {}
            Kind::Hello | Kind::Welcome => return Err(ReadError::Protocol("a second greeting")),
        }
        Ok(())
    }

    fn notify(&self, frame: Frame) {
        let Some(receiver) = self.shared.notifies.get(&frame.proc) else {
            tracing::debug!("{}: no receiver for message {:#x}", self.conn.peer, frame.proc);
            return;
        };
        let peer = Peer::of_client(self.conn.clone());
        let (client, proc) = (self.client.nonce, frame.proc);
        let notify = Notify { client, proc, args: keep(frame.body), payload: keep(frame.payload), peer };
        if catch_unwind(AssertUnwindSafe(|| receiver(notify))).is_err() {
            tracing::error!("the receiver of message {proc:#x} panicked");
        }
    }

    async fn call(self: &Arc<Self>, frame: Frame) {
        let at_most_once = frame.flags & AT_MOST_ONCE != 0;
        let id = CallId { proc: frame.proc, xid: frame.xid, at_most_once };
        let route = self.shared.routes.get(&frame.proc);
        // Before the call is admitted: whoever waits here may end with its connection, and what was admitted and never begun
        // would be in progress for ever.
        let share = match route {
            Some(Route::Async(_) | Route::Deferred(_)) => Some(self.share_of(&frame).await),
            _ => None,
        };
        if at_most_once {
            match self.shared.clients.admit(&self.client, frame.xid, frame.xid_rep) {
                Admission::New => {}
                Admission::InProgress => return,
                Admission::Done(reply) => return self.send(Some(reply)),
                Admission::Forgotten => return self.refuse(id, Status::FORGOTTEN),
                Admission::Full => return self.refuse(id, Status::OVERLOADED),
            }
        }
        match (route, share) {
            (Some(Route::Sync(handler)), _) => {
                self.shared.count(id.proc);
                let outcome = run_sync(handler.as_ref(), &self.info(), &frame.body);
                let reply = self.complete(id, outcome);
                self.send(reply);
            }
            (Some(Route::Async(handler)), Some(share)) => {
                self.shared.count(id.proc);
                self.start(handler.clone(), id, frame, share).await;
            }
            (Some(Route::Deferred(handler)), Some(share)) => {
                self.shared.count(id.proc);
                self.defer(handler, id, frame, share);
            }
            _ => {
                let reply = self.complete(id, Err(Status::NO_SUCH_PROC));
                self.send(reply);
            }
        }
    }

    fn info(&self) -> CallInfo {
        let n = self.shared.order.fetch_add(1, Ordering::Relaxed) + 1;
        CallInfo { client: self.client.nonce, order: (0, n) }
    }

    /// Runs a waiting handler: here if it is ready at once, otherwise as a task.
    async fn start(self: &Arc<Self>, handler: Arc<dyn AsyncHandler>, id: CallId, frame: Frame, share: Share) {
        let bulky = !frame.payload.is_empty();
        let request = self.request(frame);
        let mut work: BoxFuture<'static, ()> = Box::pin(self.clone().run_async(handler, id, request, share));
        let ready = !bulky && poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await;
        if !ready {
            self.shared.spawn(work);
        }
    }

    /// Waits until the connection may have one more call in flight.
    async fn share_of(&self, frame: &Frame) -> Share {
        let bytes = frame.size();
        match self.budget.try_take(bytes) {
            Some(share) => share,
            None => {
                self.conn.flush();
                self.conn.paused(self.budget.take(bytes)).await
            }
        }
    }

    fn request(&self, frame: Frame) -> Request {
        Request {
            proc: frame.proc,
            client: self.client.nonce,
            args: keep(frame.body),
            payload: keep(frame.payload),
            peer: Peer::of_client(self.conn.clone()),
        }
    }

    /// Hands a call to a handler that replies by itself.
    fn defer(self: &Arc<Self>, handler: &DeferredFn, id: CallId, frame: Frame, share: Share) {
        let responder = Responder::new(self.clone(), id, share);
        let request = self.request(frame);
        // The responder replies for a handler that panics.
        if catch_unwind(AssertUnwindSafe(|| handler(request, responder))).is_err() {
            tracing::error!("the handler of call {:#x} panicked", id.proc);
        }
    }

    async fn run_async(
        self: Arc<Self>,
        handler: Arc<dyn AsyncHandler>,
        id: CallId,
        request: Request,
        mut share: Share,
    ) {
        let running = async move { handler.call(request).await };
        let outcome = AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| Err(fault(id.proc)));
        share.resize(outcome.as_ref().map_or(0, Response::size));
        let Some(reply) = self.complete(id, outcome) else { return };
        let Some(conn) = self.reply_conn(id) else { return };
        conn.wait_for_room().await;
        conn.push(reply);
        if share.is_alone() { conn.flush() } else { conn.wake() }
    }

    /// Where a late reply goes: the caller may have reconnected meanwhile, and waits on its newest connection. A call that may
    /// be executed more than once is sent again there and gets the reply to that; this one would be taken for it.
    pub fn reply_conn(&self, id: CallId) -> Option<Arc<Conn>> {
        match self.conn.is_closed() {
            false => Some(self.conn.clone()),
            true if id.at_most_once => self.client.newest(),
            true => None,
        }
    }

    /// The reply frame, remembered if it has to be; `None` when the client gave the call up.
    pub fn complete(&self, id: CallId, outcome: Outcome) -> Option<Frame> {
        let reply = reply_frame(id, outcome, self.conn.frame_max);
        let wanted = !id.at_most_once || self.shared.clients.complete(&self.client, id.xid, reply.clone());
        wanted.then_some(reply)
    }

    fn refuse(&self, id: CallId, status: Status) {
        self.send(Some(reply_frame(id, Err(status), self.conn.frame_max)));
    }

    /// Queues a reply; [`read`](Self::read) flushes.
    fn send(&self, reply: Option<Frame>) {
        if let Some(reply) = reply {
            self.conn.push(reply);
        }
    }
}

fn fault(proc: Proc) -> Status {
    tracing::error!("the handler of call {proc:#x} panicked");
    Status::FAULT
}

/// Runs a handler and survives its panic.
pub(crate) fn run_sync(handler: &dyn Handler, info: &CallInfo, args: &Bytes) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| handler.call(info, args)));
    let body = result.unwrap_or(Err(Status::FAULT))?; // the panic itself was reported by its hook
    Ok(Response { body: body.into(), payload: Bytes::new() })
}

/// A client's reply to a call of its server.
pub(crate) fn reply_to(
    handler: Option<Arc<dyn Handler>>,
    info: &CallInfo,
    call: &Frame,
    frame_max: usize,
) -> Frame {
    let id = CallId { proc: call.proc, xid: call.xid, at_most_once: true };
    let outcome = match handler {
        Some(handler) => run_sync(handler.as_ref(), info, &call.body),
        None => Err(Status::NO_SUCH_PROC),
    };
    reply_frame(id, outcome, frame_max)
}

fn reply_frame(id: CallId, outcome: Outcome, frame_max: usize) -> Frame {
    let blank = Frame { proc: id.proc, xid: id.xid, ..Frame::new(Kind::Reply) };
    match outcome {
        Ok(response) if response.size() > frame_max => too_large(blank, response.size(), frame_max),
        Ok(Response { body, payload }) => Frame { body, payload, ..blank },
        // A handler that fails with "success" has failed all the same.
        Err(Status::OK) => Frame { status: Status::FAULT.0, ..blank },
        Err(status) => Frame { status: status.0, ..blank },
    }
}

fn too_large(blank: Frame, size: usize, max: usize) -> Frame {
    let body = codec::encode(&(size as u64, max as u64)).into();
    Frame { status: Status::TOO_LARGE.0, body, ..blank }
}
