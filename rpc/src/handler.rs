//! What a server runs: handlers, what they are given and what they return.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};
use crate::error::Status;
use crate::peer::Peer;

/// A procedure number.
pub type Proc = u32;

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where a call stands: who called, and its place in the order of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallInfo {
    /// The caller's nonce.
    pub client: u64,
    /// (view, seq) in a replicated server; (0, n) in a plain one, n counting the calls it ran.
    pub order: (u64, u64),
}

/// A handler that runs to completion and never blocks; the same trait for a plain server and for a replicated one.
///
/// It runs on the connection's own task, so a slow one delays that connection.
pub trait Handler: Send + Sync + 'static {
    /// Executes one call.
    fn call(&self, info: &CallInfo, args: &[u8]) -> Result<Vec<u8>, Status>;
}

impl<F> Handler for F
where
    F: Fn(&CallInfo, &[u8]) -> Result<Vec<u8>, Status> + Send + Sync + 'static,
{
    fn call(&self, info: &CallInfo, args: &[u8]) -> Result<Vec<u8>, Status> {
        self(info, args)
    }
}

/// A [`Handler`] from a function over decoded values; arguments that do not decode give [`Status::BAD_ARGS`].
pub fn typed<A, R, F>(f: F) -> Arc<dyn Handler>
where
    F: Fn(&CallInfo, A) -> Result<R, Status> + Send + Sync + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    Arc::new(move |info: &CallInfo, args: &[u8]| {
        let args = codec::decode::<A>(args).map_err(|_| Status::BAD_ARGS)?;
        f(info, args).map(|reply| codec::encode(&reply))
    })
}

/// Whatever takes handlers by procedure number: a plain server, a replicated one, a client for calls from its server.
pub trait Register {
    /// Has `handler` execute the calls of procedure `proc`.
    ///
    /// # Panics
    /// May panic when `proc` is taken already.
    fn register(&mut self, proc: Proc, handler: Arc<dyn Handler>);
}

/// A call, as an [`AsyncHandler`] gets it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The procedure called.
    pub proc: Proc,
    /// The caller's nonce.
    pub client: u64,
    /// Encoded arguments.
    pub args: Bytes,
    /// Bulk data beside the arguments, as sent.
    pub payload: Bytes,
    /// The connection the call came over.
    pub peer: Peer,
}

impl Request {
    /// The arguments, or the status to answer when they do not decode.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Status> {
        codec::decode(&self.args).map_err(|_| Status::BAD_ARGS)
    }
}

/// A reply: an encoded value and bulk data beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Encoded value.
    pub body: Bytes,
    /// Bulk data, never run through the codec.
    pub payload: Bytes,
}

impl Response {
    /// A reply of one value and no bulk data.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Response {
        Response { body: codec::encode(value).into(), payload: Bytes::new() }
    }

    /// The same reply with bulk data.
    pub fn with_payload(self, payload: Bytes) -> Response {
        Response { payload, ..self }
    }

    /// The value.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        codec::decode(&self.body)
    }

    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.payload.len()
    }
}

/// A handler that may wait, or moves bulk data (plain servers only).
///
/// A call without payload is polled once on the connection's task, so one that is ready at once costs no task; what
/// computes for long or blocks belongs on `spawn_blocking`. A handler goes on when the caller's connection dies.
/// It must not wait for a later call of the same connection: once `max_in_flight` of them wait, no more is read.
pub trait AsyncHandler: Send + Sync + 'static {
    /// Executes one call.
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>>;
}

impl<F, Fut> AsyncHandler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Status>> + Send + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
        Box::pin(self(request))
    }
}

/// An [`AsyncHandler`] from a closure, as an object.
pub fn asynchronous<F, Fut>(f: F) -> Arc<dyn AsyncHandler>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, Status>> + Send + 'static,
{
    Arc::new(f)
}

/// A one-way message, as its receiver gets it.
#[derive(Debug, Clone)]
pub struct Notify {
    /// The nonce of the connection's client, whichever side sent the message.
    pub client: u64,
    /// The procedure number it was sent under.
    pub proc: Proc,
    /// Encoded arguments.
    pub args: Bytes,
    /// Bulk data beside the arguments.
    pub payload: Bytes,
    /// The connection it came over.
    pub peer: Peer,
}

impl Notify {
    /// The arguments.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        codec::decode(&self.args)
    }
}

/// Receives one-way messages; runs on the connection's task, so it must not block.
pub type NotifyFn = Arc<dyn Fn(Notify) + Send + Sync>;
