//! Replies given later, from any thread, without a task that waits for them.
//!
//! An [`AsyncHandler`](crate::AsyncHandler) that waits costs a task, a wake-up and a hand-over between threads for each
//! call. Where one thread finishes many calls at once, as a replica that applies a batch of its log does, it is cheaper
//! to give each handler a [`Responder`] and let that thread send all the replies.

use std::sync::Arc;

use crate::budget::Share;
use crate::conn::Conn;
use crate::error::Status;
use crate::handler::{Request, Response};
use crate::session::{CallId, Session};

/// A handler that is given the means to reply, now or later. It runs on the connection's task and must not block.
pub type DeferredFn = Arc<dyn Fn(Request, Responder) + Send + Sync>;

/// Sends the reply to one call. Dropped without one, it replies [`Status::FAULT`].
pub struct Responder(Option<Pending>);

struct Pending {
    session: Arc<Session>,
    id: CallId,
    share: Share,
}

impl Responder {
    pub(crate) fn new(session: Arc<Session>, id: CallId, share: Share) -> Responder {
        Responder(Some(Pending { session, id, share }))
    }

    /// Replies at once.
    pub fn reply(mut self, outcome: Result<Response, Status>) {
        if let Some(conn) = self.0.take().and_then(|pending| pending.queue(outcome)) {
            conn.flush();
        }
    }

    /// Whether the caller's connection is gone; it may have come back over another one.
    pub fn is_disconnected(&self) -> bool {
        self.0.as_ref().is_none_or(|pending| pending.session.conn.is_closed())
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("call", &self.0.as_ref().map(|pending| pending.id)).finish()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take().and_then(|pending| pending.queue(Err(Status::FAULT))) {
            conn.flush();
        }
    }
}

impl Pending {
    /// Queues the reply; the connection it went to, which is to be flushed.
    fn queue(mut self, outcome: Result<Response, Status>) -> Option<Arc<Conn>> {
        self.share.resize(outcome.as_ref().map_or(0, Response::size));
        let reply = self.session.complete(self.id, outcome)?;
        let conn = self.session.reply_conn(self.id)?;
        if conn.has_room() {
            conn.push(reply);
            return Some(conn);
        }
        // A caller that does not read its replies: somebody has to wait for it, and its share stays taken.
        let (session, share) = (self.session.clone(), self.share);
        session.shared.spawn(async move {
            conn.wait_for_room().await;
            conn.push(reply);
            conn.flush();
            drop(share);
        });
        None
    }
}

/// Replies that leave together: all that go over one connection in one system call.
#[derive(Default)]
pub struct Replies {
    unsent: Vec<Arc<Conn>>,
}

impl Replies {
    /// None yet.
    pub fn new() -> Replies {
        Replies::default()
    }

    /// Adds a reply; [`send`](Self::send) follows.
    pub fn add(&mut self, mut responder: Responder, outcome: Result<Response, Status>) {
        if let Some(conn) = responder.0.take().and_then(|pending| pending.queue(outcome))
            && !self.unsent.iter().rev().take(RECENT).any(|known| Arc::ptr_eq(known, &conn))
        {
            self.unsent.push(conn);
        }
    }

    /// Sends what was added.
    pub fn send(&mut self) {
        for conn in self.unsent.drain(..) {
            conn.flush();
        }
    }
}

/// How far back a connection is looked for: flushing one twice costs little.
const RECENT: usize = 16;

impl Drop for Replies {
    fn drop(&mut self) {
        self.send();
    }
}
