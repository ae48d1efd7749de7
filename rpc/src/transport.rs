//! How bytes get from one side to the other: TCP, and pipes in memory for tests. TLS or a simulated network fit the
//! same trait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::handler::BoxFuture;
use crate::lossy::Lossy;

/// The reading half of a link.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of a link.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// A two-way stream of bytes.
pub struct Link {
    /// Bytes from the other side.
    pub read: ReadHalf,
    /// Bytes to the other side. Vectored writes are used, so a transport that can should support them.
    pub write: WriteHalf,
    /// What to call the other side in logs.
    pub peer: String,
}

/// A way to make links.
pub trait Transport: Send + Sync + 'static {
    /// A new link to whoever listens at `addr`. The caller bounds the time.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Link>>;
    /// Listens at `addr`.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// Takes links that others make.
pub trait Listener: Send {
    /// The next link.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>>;
    /// The address to connect to, with the port chosen if 0 was asked for.
    fn local_addr(&self) -> String;
}

/// What options that name no network mean by it.
#[derive(Clone)]
pub struct Ambient {
    /// How bytes travel.
    pub transport: Arc<dyn Transport>,
    /// Frames lost on purpose.
    pub loss: Option<Arc<Lossy>>,
}

thread_local! {
    static AMBIENT: RefCell<Option<Ambient>> = const { RefCell::new(None) };
}

/// Puts a network in place of TCP for everything that is made in this thread from now on and names none; `None` takes
/// it away again. For simulators that run many programs in one thread.
pub fn set_ambient(network: Option<Ambient>) {
    AMBIENT.set(network);
}

/// The network of this thread's programs that name none: TCP, unless a simulator has put another in its place.
pub fn ambient() -> Arc<dyn Transport> {
    AMBIENT
        .with_borrow(|ambient| ambient.as_ref().map_or_else(|| Arc::new(Tcp) as _, |it| it.transport.clone()))
}

/// The loss that belongs to it.
pub(crate) fn ambient_loss() -> Option<Arc<Lossy>> {
    AMBIENT.with_borrow(|ambient| ambient.as_ref()?.loss.clone())
}

/// TCP, without Nagle's delay.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tcp;

fn tcp_link(stream: TcpStream, peer: String) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok(Link { read: Box::new(read), write: Box::new(write), peer })
}

impl Transport for Tcp {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Link>> {
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await?;
            if stream.local_addr()? == stream.peer_addr()? {
                // Linux may connect a socket to itself when the port is ephemeral and nobody listens.
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            tcp_link(stream, addr.to_string())
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            let local = listener.local_addr()?.to_string();
            Ok(Box::new(TcpAcceptor { listener, local }) as Box<dyn Listener>)
        })
    }
}

struct TcpAcceptor {
    listener: TcpListener,
    local: String,
}

impl Listener for TcpAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            tcp_link(stream, peer.to_string())
        })
    }

    fn local_addr(&self) -> String {
        self.local.clone()
    }
}

/// Pipes inside this process. Addresses are any strings; clones share them. Made for tests.
#[derive(Clone, Default)]
pub struct Memory {
    listeners: Arc<Mutex<HashMap<String, mpsc::Sender<Link>>>>,
}

/// Bytes a pipe holds before its writer waits.
const PIPE_LEN: usize = 64 << 10;
/// Links made but not accepted.
const BACKLOG: usize = 128;

impl Transport for Memory {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Link>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listener = self.listeners.lock().get(addr).cloned().ok_or_else(refused)?;
            let (ours, theirs) = tokio::io::duplex(PIPE_LEN);
            let link = |stream, peer: &str| {
                let (read, write) = tokio::io::split(stream);
                Link { read: Box::new(read), write: Box::new(write), peer: peer.to_string() }
            };
            listener.send(link(theirs, "memory client")).await.map_err(|_| refused())?;
            Ok(link(ours, addr))
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (sender, links) = mpsc::channel(BACKLOG);
            let mut listeners = self.listeners.lock();
            if listeners.get(addr).is_some_and(|old| !old.is_closed()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            listeners.insert(addr.to_string(), sender);
            Ok(Box::new(MemoryAcceptor { links, addr: addr.to_string() }) as Box<dyn Listener>)
        })
    }
}

struct MemoryAcceptor {
    links: mpsc::Receiver<Link>,
    addr: String,
}

impl Listener for MemoryAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move { self.links.recv().await.ok_or_else(|| io::ErrorKind::BrokenPipe.into()) })
    }

    fn local_addr(&self) -> String {
        self.addr.clone()
    }
}
