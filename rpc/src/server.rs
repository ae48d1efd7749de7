//! The serving side: what it is made of, how it listens and how it ends.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::budget::Budget;
use crate::clients::Clients;
use crate::conn::{Conn, ConnParts};
use crate::count::CallCounter;
use crate::deferred::DeferredFn;
use crate::frame::{FRAME_MAX, Frame, Kind};
use crate::handler::{AsyncHandler, Handler, NotifyFn, Proc, Register};
use crate::handshake::{self, HANDSHAKE_MAX, Hello, Welcome};
use crate::lossy::{Loss, Lossy, random_u64};
use crate::reader::{FrameReader, ReadError};
use crate::session::Session;
use crate::transport::{self, Link, Listener, Transport};
use crate::window::WindowLimits;

/// The bounds and habits of a server.
#[derive(Clone)]
pub struct ServerOptions {
    /// Bytes of arguments and payload together that a call may have.
    pub max_frame: usize,
    /// Connections at once; further ones are closed as they come.
    pub max_connections: usize,
    /// Calls to waiting handlers in flight per connection; then the connection is not read until one ends.
    pub max_in_flight: usize,
    /// Bytes of arguments and replies of those calls, likewise (one call may exceed it).
    pub max_in_flight_bytes: usize,
    /// Bytes of replies and pushes unwritten per connection: beyond, pushes are refused and calls not read.
    pub max_queue_bytes: usize,
    /// Clients whose replies are remembered although they are not connected, and those connected.
    pub max_clients: usize,
    /// Bytes of remembered replies of all clients.
    pub max_window_bytes: usize,
    /// Bounds on each client's remembered replies.
    pub window: WindowLimits,
    /// The time a new connection has for its hello.
    pub handshake_timeout: Duration,
    /// An idle connection carries a sign of life this often; three missed ones close it.
    pub heartbeat: Duration,
    /// Frames lost on purpose.
    pub loss: Loss,
    /// Print call counts every so many calls; 0 is never. By default as `RPC_COUNT` says.
    pub count_every: Option<u64>,
    /// How bytes travel.
    pub transport: Arc<dyn Transport>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            max_frame: crate::MAX_FRAME_DEFAULT,
            max_connections: 1024,
            max_in_flight: 512,
            max_in_flight_bytes: 64 << 20,
            max_queue_bytes: 4 << 20,
            max_clients: 4096,
            max_window_bytes: 256 << 20,
            window: WindowLimits::default(),
            handshake_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(5),
            loss: Loss::FromEnv,
            count_every: None,
            transport: transport::ambient(),
        }
    }
}

pub(crate) enum Route {
    Sync(Arc<dyn Handler>),
    Async(Arc<dyn AsyncHandler>),
    Deferred(DeferredFn),
}

/// A server in the making: handlers first, then [`listen`](ServerBuilder::listen).
pub struct ServerBuilder {
    options: ServerOptions,
    routes: HashMap<Proc, Route>,
    notifies: HashMap<Proc, NotifyFn>,
}

impl Register for ServerBuilder {
    fn register(&mut self, proc: Proc, handler: Arc<dyn Handler>) {
        self.route(proc, Route::Sync(handler));
    }
}

impl ServerBuilder {
    /// A server without handlers.
    pub fn new(options: ServerOptions) -> ServerBuilder {
        ServerBuilder { options, routes: HashMap::new(), notifies: HashMap::new() }
    }

    fn route(&mut self, proc: Proc, route: Route) {
        assert!(self.routes.insert(proc, route).is_none(), "procedure {proc:#x} is registered twice");
    }

    /// Has `handler`, which may wait, execute the calls of procedure `proc`.
    ///
    /// # Panics
    /// When `proc` is taken already.
    pub fn register_async(&mut self, proc: Proc, handler: Arc<dyn AsyncHandler>) {
        self.route(proc, Route::Async(handler));
    }

    /// Has `handler` take the calls of procedure `proc` and reply to each when it can.
    ///
    /// # Panics
    /// When `proc` is taken already.
    pub fn register_deferred(&mut self, proc: Proc, handler: DeferredFn) {
        self.route(proc, Route::Deferred(handler));
    }

    /// Has `receiver` take the one-way messages of procedure `proc`. It runs on the connection's task and must not block.
    ///
    /// # Panics
    /// When `proc` is taken already.
    pub fn on_notify(&mut self, proc: Proc, receiver: NotifyFn) {
        assert!(self.notifies.insert(proc, receiver).is_none(), "message {proc:#x} is registered twice");
    }

    /// Starts serving at `addr` (`HOST:PORT` or a bare port; port 0 picks a free one), on the current tokio runtime. The
    /// error names the address.
    pub async fn listen(self, addr: &str) -> io::Result<Server> {
        let addr = crate::addr::parse(addr).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let options = self.options;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen at {addr}: {e}"));
        let listener = options.transport.listen(&addr).await.map_err(named)?;
        let counter = match options.count_every {
            None => CallCounter::from_env(),
            Some(0) => None,
            Some(every) => Some(CallCounter::new(every)),
        };
        let shared = Arc::new(Shared {
            boot: random_u64(),
            clients: Clients::new(options.window, options.max_clients, options.max_window_bytes),
            lossy: options.loss.resolve(),
            options,
            routes: self.routes,
            notifies: self.notifies,
            counter,
            order: AtomicU64::new(0),
            conns: Mutex::default(),
            accepted: AtomicUsize::new(0),
            running: Running::default(),
            stop: watch::Sender::new(false),
            runtime: Handle::current(),
        });
        let local_addr = listener.local_addr();
        let accepting = tokio::spawn(accept(shared.clone(), listener));
        Ok(Server { shared, local_addr, accepting: Some(accepting) })
    }
}

/// What all parts of a running server share.
pub(crate) struct Shared {
    pub boot: u64,
    pub options: ServerOptions,
    pub routes: HashMap<Proc, Route>,
    pub notifies: HashMap<Proc, NotifyFn>,
    pub clients: Clients,
    pub order: AtomicU64,
    counter: Option<CallCounter>,
    lossy: Option<Arc<Lossy>>,
    conns: Mutex<HashMap<usize, Arc<Conn>>>,
    accepted: AtomicUsize,
    running: Running,
    stop: watch::Sender<bool>,
    runtime: Handle,
}

/// Counts tasks, so that the end of the last one can be awaited.
#[derive(Default)]
struct Running {
    count: AtomicUsize,
    ended: Notify,
}

impl Running {
    fn enter(shared: &Arc<Shared>) -> Entered {
        shared.running.count.fetch_add(1, Ordering::AcqRel);
        Entered(shared.clone())
    }

    async fn wait_for_none(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

struct Entered(Arc<Shared>);

impl Drop for Entered {
    fn drop(&mut self) {
        let running = &self.0.running;
        if running.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            running.ended.notify_waiters();
        }
    }
}

impl Shared {
    pub fn count(&self, proc: Proc) {
        if let Some(counter) = &self.counter {
            counter.count_and_print(proc);
        }
    }

    /// Runs a task that is abandoned when the server ends.
    pub fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let shared = self.clone();
        self.spawn_to_end(async move {
            shared.unless_stopped(work).await;
        });
    }

    /// Runs a task that sees to its own end.
    fn spawn_to_end(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let entered = Running::enter(self);
        self.runtime.spawn(async move {
            work.await;
            drop(entered);
        });
    }

    /// `None` when the server ends first.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stopped| stopped) => None,
            result = work => Some(result),
        }
    }

    fn welcome(&self) -> Frame {
        let (boot, frame_max, lossy) = (self.boot, self.options.max_frame as u64, self.lossy.is_some());
        handshake::frame(Kind::Welcome, &Welcome { boot, frame_max, lossy })
    }

    fn close(&self) {
        self.stop.send_replace(true);
        for conn in self.conns.lock().values() {
            conn.close();
        }
    }
}

/// A server that runs. Dropping it closes it, without waiting.
pub struct Server {
    shared: Arc<Shared>,
    local_addr: String,
    accepting: Option<JoinHandle<()>>,
}

/// What a server holds at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerStats {
    /// Connections open.
    pub connections: usize,
    /// Clients whose replies are remembered.
    pub clients: usize,
    /// Replies remembered and calls in progress.
    pub window_entries: usize,
    /// Bytes of replies remembered.
    pub window_bytes: usize,
}

impl Server {
    /// The address it listens at, with the port it got.
    pub fn local_addr(&self) -> &str {
        &self.local_addr
    }

    /// The nonce by which clients recognise this incarnation.
    pub fn boot(&self) -> u64 {
        self.shared.boot
    }

    /// What it holds at the moment.
    pub fn stats(&self) -> ServerStats {
        let (clients, window_entries) = self.shared.clients.counts();
        let connections = self.shared.conns.lock().len();
        ServerStats { connections, clients, window_entries, window_bytes: self.shared.clients.bytes() }
    }

    /// Closes the listener and all connections, abandons handlers that wait, and returns when all that is over.
    pub async fn shutdown(mut self) {
        self.shared.close();
        if let Some(accepting) = self.accepting.take()
            && let Err(error) = accepting.await
        {
            tracing::error!("the listener at {} had failed: {error}", self.local_addr);
        }
        self.shared.running.wait_for_none().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.close();
    }
}

async fn accept(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let mut full = false;
    while let Some(accepted) = shared.unless_stopped(listener.accept()).await {
        match accepted {
            Ok(link) => admit(&shared, link, &mut full),
            Err(error) => {
                tracing::warn!("cannot accept a connection at {}: {error}", listener.local_addr());
                // Out of descriptors, most likely: the next attempt fails as fast, so let some be closed first.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, link: Link, full: &mut bool) {
    let max = shared.options.max_connections;
    if shared.accepted.load(Ordering::Relaxed) >= max {
        if !std::mem::replace(full, true) {
            tracing::warn!(
                "{max} connections are open, which is the bound: refusing {} and others",
                link.peer
            );
        }
        return;
    }
    *full = false;
    shared.accepted.fetch_add(1, Ordering::Relaxed);
    let slot = Slot(shared.clone());
    shared.spawn_to_end(serve(slot, link));
}

/// One of the connections a server may have.
struct Slot(Arc<Shared>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.accepted.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(slot: Slot, link: Link) {
    let shared = &slot.0;
    let peer = link.peer.clone();
    let greeting = tokio::time::timeout(shared.options.handshake_timeout, greet(shared, link));
    match shared.unless_stopped(greeting).await {
        None => {}
        Some(Ok(Ok((reader, conn, hello)))) => attend(shared, reader, conn, hello).await,
        Some(Ok(Err(ReadError::End))) => tracing::debug!("{peer} connected and left"),
        Some(Ok(Err(error))) => tracing::warn!("connection from {peer} dropped: {error}"),
        Some(Err(_)) => tracing::warn!("connection from {peer} dropped: no greeting in time"),
    }
}

async fn greet(shared: &Shared, mut link: Link) -> Result<(FrameReader, Arc<Conn>, Hello), ReadError> {
    let mut reader = FrameReader::new(link.read, HANDSHAKE_MAX);
    let hello: Hello = match handshake::read(&mut reader, Kind::Hello).await {
        Err(ReadError::Version(theirs)) => {
            // So that its log can say what is wrong.
            link.write.write_all(&shared.welcome().to_bytes()).await?;
            return Err(ReadError::Version(theirs));
        }
        greeting => greeting?,
    };
    reader.set_max(shared.options.max_frame);
    let conn = Conn::new(ConnParts {
        client: hello.nonce,
        peer: link.peer,
        frame_max: usize::try_from(hello.frame_max).unwrap_or(usize::MAX).min(FRAME_MAX),
        queue_max: shared.options.max_queue_bytes,
        lossy_link: hello.lossy || shared.lossy.is_some(),
        lossy: shared.lossy.clone(),
        write: link.write,
        runtime: shared.runtime.clone(),
    });
    Ok((reader, conn, hello))
}

/// Deregisters a connection however its task ends.
struct Registered<'a> {
    shared: &'a Arc<Shared>,
    id: usize,
    session: Arc<Session>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.session.conn.close();
        self.shared.conns.lock().remove(&self.id);
        self.shared.clients.disconnect(&self.session.client);
    }
}

async fn attend(shared: &Arc<Shared>, reader: FrameReader, conn: Arc<Conn>, hello: Hello) {
    let client = shared.clients.connect(&conn, hello.sent_before);
    let options = &shared.options;
    let budget = Budget::new(options.max_in_flight, options.max_in_flight_bytes);
    let session = Arc::new(Session { shared: shared.clone(), conn: conn.clone(), client, budget });
    let id = Arc::as_ptr(&conn) as usize; // unique while the connection is registered
    let registered = Registered { shared, id, session: session.clone() };
    shared.conns.lock().insert(id, conn.clone());
    if *shared.stop.borrow() {
        return; // closed between our start and our registration
    }
    conn.welcome(shared.welcome());
    let reading = conn.start(options.heartbeat, session.run(reader));
    if let Err(error) = reading.await
        && error.is_panic()
    {
        tracing::error!("the connection from {} failed: {error}", conn.peer);
    }
    drop(registered);
}
