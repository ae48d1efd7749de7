//! The other end of a connection, for messages and calls against the usual direction.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client;
use crate::codec;
use crate::conn::Conn;
use crate::error::RpcError;
use crate::frame::{AT_MOST_ONCE, Frame, Kind};
use crate::handler::{Proc, Response};
use crate::resend::{Resend, deadline};

/// Calls one server may have outstanding at one client.
const CALLS_MAX: usize = 256;

/// The other end of a connection.
///
/// At a server it is one connection of a client, and dead for good when that connection died: the client's next one is
/// another `Peer`. At a client it is the server, over whatever connection there is.
#[derive(Clone)]
pub struct Peer(Side);

#[derive(Clone)]
enum Side {
    Client(Arc<Conn>),
    Server(Weak<client::Inner>, u64),
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({:016x})", self.client())
    }
}

impl Peer {
    pub(crate) fn of_client(conn: Arc<Conn>) -> Peer {
        Peer(Side::Client(conn))
    }

    pub(crate) fn of_server(client: &Arc<client::Inner>) -> Peer {
        Peer(Side::Server(Arc::downgrade(client), client.nonce()))
    }

    /// The nonce of the connection's client.
    pub fn client(&self) -> u64 {
        match &self.0 {
            Side::Client(conn) => conn.client,
            Side::Server(_, nonce) => *nonce,
        }
    }

    /// Where the other end is, as far as this one knows: for logs and operators.
    pub fn address(&self) -> String {
        match &self.0 {
            Side::Client(conn) => conn.peer.clone(),
            Side::Server(client, _) => client.upgrade().map_or_else(String::new, |c| c.addr().to_owned()),
        }
    }

    /// Whether both mean the same connection (at a client: the same client).
    pub fn is_same(&self, other: &Peer) -> bool {
        match (&self.0, &other.0) {
            (Side::Client(one), Side::Client(other)) => Arc::ptr_eq(one, other),
            (Side::Server(one, _), Side::Server(other, _)) => one.ptr_eq(other),
            _ => false,
        }
    }

    /// Sends a one-way message, which may be lost with the connection. Does not block. False when the connection is
    /// dead, too much is queued on it already, or the message is larger than the other side accepts.
    pub fn notify(&self, proc: Proc, args: Bytes, payload: Bytes) -> bool {
        match &self.0 {
            Side::Client(conn) => {
                let frame = Frame::notify(proc, args, payload);
                frame.size() <= conn.frame_max && conn.offer(frame)
            }
            Side::Server(client, _) => client.upgrade().is_some_and(|c| c.notify(proc, args, payload)),
        }
    }

    /// Calls the other side, which executes the call at most once. At a server the call ends with the connection
    /// ([`RpcError::Closed`]).
    pub async fn call<A, R>(&self, proc: Proc, args: &A, timeout: Duration) -> Result<R, RpcError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let args: Bytes = codec::encode(args).into();
        let response = match &self.0 {
            Side::Client(conn) => call_client(conn, proc, args, timeout).await?,
            Side::Server(client, _) => {
                let client = client.upgrade().ok_or(RpcError::Closed)?;
                client.call_raw(proc, args, Bytes::new(), timeout).await?
            }
        };
        response.decode().map_err(RpcError::BadReply)
    }

    /// Whether the connection lives, as far as is known.
    pub fn is_connected(&self) -> bool {
        match &self.0 {
            Side::Client(conn) => !conn.is_closed(),
            Side::Server(client, _) => client.upgrade().is_some_and(|c| c.is_connected()),
        }
    }

    /// Waits until a client's connection is dead. At a client it returns at once when there is no connection.
    pub async fn closed(&self) {
        let conn = match &self.0 {
            Side::Client(conn) => Some(conn.clone()),
            Side::Server(client, _) => client.upgrade().and_then(|c| c.conn()),
        };
        if let Some(conn) = conn {
            conn.wait_closed().await;
        }
    }
}

/// Ends an outstanding call when its caller goes away.
struct Outstanding<'a> {
    conn: &'a Arc<Conn>,
    xid: u64,
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.conn.calls.lock().finish(self.xid);
    }
}

async fn call_client(
    conn: &Arc<Conn>,
    proc: Proc,
    args: Bytes,
    timeout: Duration,
) -> Result<Response, RpcError> {
    let size = args.len();
    if size > conn.frame_max {
        return Err(RpcError::TooLarge { size, max: conn.frame_max });
    }
    let mut resend = Resend::new(deadline(timeout));
    let (sender, mut reply) = oneshot::channel();
    let mut call = Outstanding { conn, xid: 0 };
    let frame = {
        let mut calls = conn.calls.lock();
        if calls.len() >= CALLS_MAX {
            return Err(RpcError::Overloaded);
        }
        call.xid = calls.start(|_| sender);
        let xid_rep = calls.ended_upto();
        Frame { flags: AT_MOST_ONCE, proc, xid: call.xid, xid_rep, body: args, ..Frame::new(Kind::Call) }
    };
    loop {
        if conn.is_closed() {
            return Err(RpcError::Closed);
        }
        conn.offer(frame.clone());
        let again = resend.next(Instant::now(), conn.lossy_link);
        tokio::select! {
            biased;
            reply = &mut reply => {
                let reply = client::outcome(reply.map_err(|_| RpcError::Closed)?, proc)?;
                return Ok(Response { body: reply.body, payload: reply.payload });
            }
            _ = tokio::time::sleep_until(again) => if resend.is_over(Instant::now()) {
                return Err(RpcError::Timeout { addr: conn.peer.clone(), proc, after: timeout });
            },
        }
    }
}
