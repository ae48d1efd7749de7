//! What a client knows: its connection, its outstanding calls, and which server it is bound to.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::calls::Calls;
use crate::conn::Conn;
use crate::error::RpcError;
use crate::frame::{AT_MOST_ONCE, Frame, Kind};
use crate::handler::Proc;
use crate::handshake::Welcome;

use super::{COMPANY, Inner, OnRestart, Outstanding, link};

/// A reply frame, or why there will be none.
pub(super) type Reply = Result<Frame, RpcError>;

#[derive(Default)]
pub(super) struct State {
    pub conn: Option<Arc<Conn>>,
    pub calls: Calls<Call>,
    /// The highest xid ever sent: calls above it were certainly not executed.
    pub sent: u64,
    /// The incarnation of the server this client is bound to.
    pub boot: Option<u64>,
    /// Why there is no connection.
    pub trouble: Option<Arc<io::Error>>,
    pub end: Option<End>,
    /// The task that connects is there.
    started: bool,
}

/// Why a client is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Restarted,
}

/// An outstanding call.
pub(super) struct Call {
    /// As sent, except for `xid_rep`, which is set when it is sent.
    frame: Frame,
    reply: oneshot::Sender<Reply>,
}

impl State {
    /// Sends an outstanding call over the connection, if there is one.
    fn send(&mut self, xid: u64) -> Option<Arc<Conn>> {
        let conn = self.conn.as_ref()?;
        let call = self.calls.get(xid)?;
        if call.frame.size() > conn.frame_max {
            let (size, max) = (call.frame.size(), conn.frame_max);
            self.fail(xid, RpcError::TooLarge { size, max });
            return None;
        }
        let frame = Frame { xid_rep: self.calls.ended_upto(), ..call.frame.clone() };
        self.sent = self.sent.max(xid);
        conn.push(frame);
        Some(conn.clone())
    }

    fn fail(&mut self, xid: u64, error: RpcError) {
        if let Some(call) = self.calls.finish(xid) {
            let _ = call.reply.send(Err(error)); // its caller may have left
        }
    }

    fn fail_where(&mut self, which: impl Fn(u64) -> bool, error: impl Fn() -> RpcError) {
        for call in self.calls.finish_where(|xid, _| which(xid)) {
            let _ = call.reply.send(Err(error()));
        }
    }
}

impl Inner {
    /// Numbers a call, and sends it if there is a connection.
    pub(super) fn start(
        self: &Arc<Self>,
        proc: Proc,
        body: Bytes,
        payload: Bytes,
    ) -> Result<(Outstanding<'_>, oneshot::Receiver<Reply>), RpcError> {
        let (reply, receiver) = oneshot::channel();
        let flags = if self.options.at_most_once { AT_MOST_ONCE } else { 0 };
        let mut state = self.state.lock();
        if let Some(end) = state.end {
            return Err(self.ended(end));
        }
        let blank = Frame { flags, proc, body, payload, ..Frame::new(Kind::Call) };
        let xid = state.calls.start(|xid| Call { frame: Frame { xid, ..blank }, reply });
        if state.conn.is_none() {
            self.want_connection(&mut state);
        }
        let conn = state.send(xid);
        let company = state.calls.len() > COMPANY;
        drop(state);
        match conn {
            Some(conn) if company => conn.wake(),
            Some(conn) => conn.flush(),
            None => {}
        }
        Ok((Outstanding { inner: self, xid }, receiver))
    }

    /// Sends a call again that had no reply for a while.
    pub(super) fn send_again(&self, xid: u64) {
        let mut state = self.state.lock();
        let may = self.options.at_most_once || state.conn.as_ref().is_some_and(|conn| conn.lossy_link);
        let conn = if may { state.send(xid) } else { None };
        drop(state);
        if let Some(conn) = conn {
            conn.wake();
        }
    }

    pub fn notify(self: &Arc<Self>, proc: Proc, args: Bytes, payload: Bytes) -> bool {
        let conn = {
            let mut state = self.state.lock();
            if state.end.is_none() && state.conn.is_none() {
                self.want_connection(&mut state);
            }
            state.conn.clone()
        };
        let frame = Frame::notify(proc, args, payload);
        conn.is_some_and(|conn| frame.size() <= conn.frame_max && conn.offer(frame))
    }

    /// Has the connecting task run, and hurry.
    pub(super) fn want_connection(self: &Arc<Self>, state: &mut State) {
        if !state.started {
            state.started = true;
            let driver = self.runtime.spawn(link::drive(self.clone()));
            *self.driver.lock() = Some(driver.abort_handle());
        }
        self.wanted.notify_one();
    }

    /// A reply arrived.
    pub(super) fn deliver(&self, frame: Frame) {
        let call = self.state.lock().calls.finish(frame.xid);
        if let Some(call) = call {
            let _ = call.reply.send(Ok(frame)); // its caller may have left
        }
    }

    /// The hello's `sent_before`.
    pub(super) fn sent_before(&self) -> u64 {
        self.state.lock().sent
    }

    /// Takes a new connection into use and sends over it all that is outstanding. False when the client has ended.
    pub(super) fn attach(&self, conn: &Arc<Conn>, welcome: &Welcome) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return false;
        }
        let restarted = state.boot.is_some_and(|boot| boot != welcome.boot);
        if restarted && self.options.on_restart == OnRestart::Fail {
            drop(state);
            self.finish(End::Restarted);
            return false;
        }
        if restarted && self.options.at_most_once {
            let sent = state.sent;
            let gone = || RpcError::ServerRestarted { addr: self.addr.clone() };
            state.fail_where(|xid| xid <= sent, gone);
        }
        state.boot = Some(welcome.boot);
        state.trouble = None;
        state.conn = Some(conn.clone());
        let outstanding: Vec<u64> = state.calls.iter().map(|(xid, _)| xid).collect();
        for xid in outstanding {
            state.send(xid);
        }
        drop(state);
        self.attempts.send_modify(|n| *n += 1);
        true
    }

    /// The connection is gone.
    pub(super) fn detach(&self) {
        let mut state = self.state.lock();
        state.conn = None;
        state.trouble = Some(Arc::new(io::ErrorKind::ConnectionReset.into()));
    }

    /// An attempt to connect failed.
    pub(super) fn note_failure(&self, error: io::Error) {
        let error = Arc::new(error);
        let mut state = self.state.lock();
        state.trouble = Some(error.clone());
        if self.options.fail_fast {
            let addr = &self.addr;
            let unreachable = || RpcError::Unreachable { addr: addr.clone(), source: error.clone() };
            state.fail_where(|_| true, unreachable);
        }
        drop(state);
        self.attempts.send_modify(|n| *n += 1);
    }

    /// Ends the client: no call succeeds any more.
    pub(super) fn finish(&self, end: End) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        let end = state.end.unwrap_or(end);
        state.fail_where(|_| true, || self.ended(end));
        let conn = state.conn.take();
        drop(state);
        if let Some(conn) = conn {
            conn.close();
        }
        self.attempts.send_modify(|n| *n += 1);
    }
}
