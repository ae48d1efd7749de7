//! The calling side.

mod link;
mod state;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use crate::codec;
use crate::conn::Conn;
use crate::error::{RpcError, Status};
use crate::frame::Frame;
use crate::handler::{Handler, NotifyFn, Proc, Register, Response};
use crate::lossy::{Loss, Lossy, random_u64};
use crate::reader::keep;
use crate::resend::{Resend, deadline};
use crate::transport::{self, Transport};

use state::{End, Reply, State};

/// What a client does when its server turns out to be another incarnation than the one it bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRestart {
    /// Every call fails with [`RpcError::ServerRestarted`] for ever.
    Fail,
    /// Calls sent before fail with [`RpcError::ServerRestarted`], because nobody knows whether they were executed (with
    /// `at_most_once: false` they are sent again instead); later ones go on.
    Rebind,
}

/// The bounds and habits of a client.
#[derive(Clone)]
pub struct ClientOptions {
    /// The time one attempt to connect and greet may take.
    pub connect_timeout: Duration,
    /// Calls outstanding at once; further callers wait within their deadlines.
    pub max_in_flight: usize,
    /// Bytes of arguments outstanding at once, likewise; arguments of up to 64 KiB are not counted.
    pub max_in_flight_bytes: usize,
    /// Bytes of arguments and payload together that a call, or a reply, may have.
    pub max_frame: usize,
    /// Bytes unwritten beyond which one-way messages are refused.
    pub max_queue_bytes: usize,
    /// What to do when the server was restarted.
    pub on_restart: OnRestart,
    /// Whether the server remembers replies so that no call runs twice. Without, a call whose connection dies may be
    /// executed again: for idempotent calls, above all those with large replies.
    pub at_most_once: bool,
    /// Calls fail with [`RpcError::Unreachable`] as soon as an attempt to connect fails, instead of at their deadlines.
    pub fail_fast: bool,
    /// An idle connection carries a sign of life this often; three missed ones close it.
    pub heartbeat: Duration,
    /// Frames lost on purpose.
    pub loss: Loss,
    /// How bytes travel.
    pub transport: Arc<dyn Transport>,
    /// The runtime for the client's tasks; the current one if `None`.
    pub runtime: Option<Handle>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            connect_timeout: Duration::from_secs(1),
            max_in_flight: 512,
            max_in_flight_bytes: 64 << 20,
            max_frame: crate::MAX_FRAME_DEFAULT,
            max_queue_bytes: 4 << 20,
            on_restart: OnRestart::Rebind,
            at_most_once: true,
            fail_fast: false,
            heartbeat: Duration::from_secs(5),
            loss: Loss::FromEnv,
            transport: transport::ambient(),
            runtime: None,
        }
    }
}

/// A client of one server: connects on first use, and again by itself whenever the connection dies.
///
/// Clones share everything. The last clone to go closes the connection and fails what is outstanding.
#[derive(Clone)]
pub struct Client(Arc<Owner>);

/// Closes the client with its last clone; tasks hold only what is inside.
struct Owner(Arc<Inner>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("addr", &self.addr()).field("nonce", &self.nonce()).finish()
    }
}

pub(crate) struct Inner {
    addr: String,
    nonce: u64,
    options: ClientOptions,
    lossy: Option<Arc<Lossy>>,
    runtime: Handle,
    state: Mutex<State>,
    /// Changes whenever an attempt to connect ends.
    attempts: watch::Sender<u64>,
    /// Somebody wants a connection now.
    wanted: tokio::sync::Notify,
    calls: Semaphore,
    /// In units of [`UNIT`] bytes.
    bytes: Semaphore,
    pushes: RwLock<HashMap<Proc, NotifyFn>>,
    handlers: RwLock<HashMap<Proc, Arc<dyn Handler>>>,
    driver: Mutex<Option<AbortHandle>>,
}

/// The unit in which bytes in flight are counted, and the size up to which they are not.
const UNIT: usize = 64 << 10;
/// With more calls outstanding than this, a writer task gathers their frames; with fewer the caller writes itself.
const COMPANY: usize = 4;

impl Client {
    /// A client of the server at `addr` (`HOST:PORT`, or a bare port); nothing is sent yet. An `addr` that is none shows
    /// as [`RpcError::Unreachable`] when it is used.
    ///
    /// # Panics
    /// Outside a tokio runtime, unless `options.runtime` names one.
    pub fn new(addr: &str, options: ClientOptions) -> Client {
        let runtime = options.runtime.clone().unwrap_or_else(Handle::current);
        let units = (options.max_in_flight_bytes / UNIT).clamp(1, u32::MAX as usize);
        Client(Arc::new(Owner(Arc::new(Inner {
            addr: crate::addr::parse(addr).unwrap_or_else(|_| addr.to_string()),
            nonce: random_u64(),
            lossy: options.loss.resolve(),
            runtime,
            state: Mutex::default(),
            attempts: watch::Sender::new(0),
            wanted: tokio::sync::Notify::new(),
            calls: Semaphore::new(options.max_in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            bytes: Semaphore::new(units),
            pushes: RwLock::default(),
            handlers: RwLock::default(),
            driver: Mutex::new(None),
            options,
        }))))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Connects and greets now, or fails within `timeout`.
    pub async fn bind(&self, timeout: Duration) -> Result<(), RpcError> {
        self.inner().bind(timeout).await
    }

    /// Calls procedure `proc` with `args`, and decodes the reply.
    pub async fn call<A, R>(&self, proc: Proc, args: &A, timeout: Duration) -> Result<R, RpcError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let frame = self.inner().exchange(proc, codec::encode(args).into(), Bytes::new(), timeout).await?;
        codec::decode(&frame.body).map_err(RpcError::BadReply)
    }

    /// Calls procedure `proc` with encoded arguments and bulk data beside them.
    pub async fn call_raw(
        &self,
        proc: Proc,
        args: Bytes,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Response, RpcError> {
        self.inner().call_raw(proc, args, payload, timeout).await
    }

    /// Sends a one-way message, which may be lost with the connection. Does not block. False when there is no connection
    /// (one is then begun), too much is queued, or the message is too large.
    pub fn notify(&self, proc: Proc, args: Bytes, payload: Bytes) -> bool {
        self.inner().notify(proc, args, payload)
    }

    /// Has `receiver` take the server's one-way messages of procedure `proc`, in place of an earlier one. It runs on the
    /// connection's task and must not block. Register before the first use, or messages may be missed.
    pub fn on_push(&self, proc: Proc, receiver: NotifyFn) {
        self.inner().pushes.write().insert(proc, receiver);
    }

    /// Has `handler` execute the server's calls of procedure `proc`, in place of an earlier one.
    pub fn register(&self, proc: Proc, handler: Arc<dyn Handler>) {
        self.inner().handlers.write().insert(proc, handler);
    }

    /// The number by which servers know this client.
    pub fn nonce(&self) -> u64 {
        self.inner().nonce
    }

    /// The server's address.
    pub fn addr(&self) -> &str {
        &self.inner().addr
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.inner().is_connected()
    }

    /// Closes the connection for good; outstanding and later calls fail with [`RpcError::Closed`].
    pub fn close(&self) {
        self.inner().close();
    }
}

impl Register for Client {
    fn register(&mut self, proc: Proc, handler: Arc<dyn Handler>) {
        Client::register(self, proc, handler);
    }
}

/// Ends an outstanding call however its caller leaves it, so that `xid_rep` goes on.
struct Outstanding<'a> {
    inner: &'a Inner,
    xid: u64,
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.inner.state.lock().calls.finish(self.xid);
    }
}

impl Inner {
    pub fn nonce(&self) -> u64 {
        self.nonce
    }

    pub fn addr(&self) -> &str {
        &self.addr
    }

    pub async fn call_raw(
        self: &Arc<Self>,
        proc: Proc,
        args: Bytes,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Response, RpcError> {
        let frame = self.exchange(proc, args, payload, timeout).await?;
        Ok(Response { body: keep(frame.body), payload: keep(frame.payload) })
    }

    /// Sends a call and returns its reply frame, of status success.
    async fn exchange(
        self: &Arc<Self>,
        proc: Proc,
        args: Bytes,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Frame, RpcError> {
        let (size, max) = (args.len() + payload.len(), self.options.max_frame);
        if size > max {
            return Err(RpcError::TooLarge { size, max });
        }
        let deadline = deadline(timeout);
        let late = || self.late(proc, timeout);
        let _in_flight = self.admit(size, deadline).await.map_err(|e| e.unwrap_or_else(late))?;
        let (call, reply) = self.start(proc, args, payload)?;
        let reply = self.await_reply(call.xid, reply, deadline).await.unwrap_or_else(|| Err(late()))?;
        outcome(reply, proc)
    }

    /// Waits for a place among the calls in flight; `Err(None)` when the deadline comes first.
    async fn admit(&self, size: usize, deadline: Instant) -> Result<InFlight<'_>, Option<RpcError>> {
        if size <= UNIT
            && let Ok(permit) = self.calls.try_acquire()
        {
            return Ok((permit, None));
        }
        let units_max = (self.options.max_in_flight_bytes / UNIT).max(1);
        let units = (size / UNIT).min(units_max) as u32;
        let places = async {
            let bytes = if units > 0 { Some(self.bytes.acquire_many(units).await?) } else { None };
            Ok::<_, tokio::sync::AcquireError>((self.calls.acquire().await?, bytes))
        };
        let sleep = self.sleep_until(deadline);
        tokio::select! {
            biased;
            places = places => places.map_err(|_| Some(RpcError::Closed)),
            _ = sleep => Err(None),
        }
    }

    /// Waits for the reply, sending the call again at times; `None` when the deadline comes first.
    async fn await_reply(
        &self,
        xid: u64,
        mut reply: oneshot::Receiver<Reply>,
        deadline: Instant,
    ) -> Option<Reply> {
        let mut resend = Resend::new(deadline);
        let sleep = self.sleep_until(resend.next(Instant::now(), self.is_link_lossy()));
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                reply = &mut reply => return Some(reply.unwrap_or(Err(RpcError::Closed))),
                _ = &mut sleep => {
                    let now = Instant::now();
                    if resend.is_over(now) {
                        return None;
                    }
                    self.send_again(xid);
                    sleep.as_mut().reset(resend.next(now, self.is_link_lossy()));
                }
            }
        }
    }

    /// A timer that works on whatever thread the future is polled.
    fn sleep_until(&self, when: Instant) -> Sleep {
        let _runtime = self.runtime.enter();
        tokio::time::sleep_until(when)
    }

    /// The error of a call whose deadline came.
    fn late(&self, proc: Proc, after: Duration) -> RpcError {
        let addr = self.addr.clone();
        let state = self.state.lock();
        match (&state.conn, &state.trouble) {
            (None, Some(trouble)) => RpcError::Unreachable { addr, source: trouble.clone() },
            _ => RpcError::Timeout { addr, proc, after },
        }
    }

    pub async fn bind(self: &Arc<Self>, timeout: Duration) -> Result<(), RpcError> {
        let mut attempts = self.attempts.subscribe();
        let bound = async {
            loop {
                attempts.mark_unchanged();
                if let Some(result) = self.check_bound() {
                    return result;
                }
                if attempts.changed().await.is_err() {
                    return Err(RpcError::Closed);
                }
                if self.options.fail_fast && self.check_bound().is_none() {
                    return Err(self.unreachable());
                }
            }
        };
        let sleep = self.sleep_until(deadline(timeout));
        tokio::select! {
            biased;
            bound = bound => bound,
            _ = sleep => Err(self.unreachable()),
        }
    }

    /// Whether a connection is there, or never will be; begins one otherwise.
    fn check_bound(self: &Arc<Self>) -> Option<Result<(), RpcError>> {
        let mut state = self.state.lock();
        if let Some(end) = state.end {
            return Some(Err(self.ended(end)));
        }
        if state.conn.is_some() {
            return Some(Ok(()));
        }
        self.want_connection(&mut state);
        None
    }

    fn unreachable(&self) -> RpcError {
        let trouble = self.state.lock().trouble.clone();
        let source = trouble.unwrap_or_else(|| Arc::new(io::ErrorKind::TimedOut.into()));
        RpcError::Unreachable { addr: self.addr.clone(), source }
    }

    fn ended(&self, end: End) -> RpcError {
        match end {
            End::Closed => RpcError::Closed,
            End::Restarted => RpcError::ServerRestarted { addr: self.addr.clone() },
        }
    }

    pub fn is_connected(&self) -> bool {
        self.conn().is_some_and(|conn| !conn.is_closed())
    }

    pub fn conn(&self) -> Option<Arc<Conn>> {
        self.state.lock().conn.clone()
    }

    fn is_link_lossy(&self) -> bool {
        self.state.lock().conn.as_ref().map_or(self.lossy.is_some(), |conn| conn.lossy_link)
    }

    fn close(&self) {
        self.finish(End::Closed);
        if let Some(driver) = self.driver.lock().take() {
            driver.abort();
        }
    }
}

type InFlight<'a> = (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>);

/// What a reply says.
pub(crate) fn outcome(reply: Frame, proc: Proc) -> Result<Frame, RpcError> {
    match Status(reply.status) {
        Status::OK => Ok(reply),
        Status::BAD_ARGS => Err(RpcError::BadArgs),
        Status::FORGOTTEN => Err(RpcError::Forgotten),
        Status::NO_SUCH_PROC => Err(RpcError::NoSuchProc(proc)),
        Status::OVERLOADED => Err(RpcError::Overloaded),
        Status::TOO_LARGE => {
            let (size, max) = codec::decode::<(u64, u64)>(&reply.body).map_err(RpcError::BadReply)?;
            Err(RpcError::TooLarge { size: size as usize, max: max as usize })
        }
        Status(other) => Err(RpcError::Status(other)),
    }
}
