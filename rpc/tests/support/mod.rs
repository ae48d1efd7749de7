//! What the tests about faults share: options without the environment's loss, a server that counts, waiting for an
//! event, and a transport whose links can be cut and watched.
#![allow(dead_code)] // each test uses its part

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rpc::transport::{Link, Listener, Tcp, Transport};
use rpc::{
    BoxFuture, Client, ClientOptions, Loss, Register, Request, Response, Server, ServerBuilder,
    ServerOptions, Status, asynchronous, typed,
};
use tokio::sync::Semaphore;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// n → how often this client's call n was executed so far.
pub const EXECUTE: u32 = 1;
/// The same, once the gate lets it.
pub const EXECUTE_LATER: u32 = 2;
/// n → a string of n bytes.
pub const BYTES: u32 = 3;

pub fn server_options() -> ServerOptions {
    ServerOptions { loss: Loss::Off, ..Default::default() }
}

pub fn client_options() -> ClientOptions {
    ClientOptions { loss: Loss::Off, ..Default::default() }
}

/// Counts executions by (client, argument), and holds up those of [`EXECUTE_LATER`].
#[derive(Clone)]
pub struct Ledger {
    executions: Arc<Mutex<HashMap<(u64, u64), u64>>>,
    pub gate: Arc<Semaphore>,
}

impl Ledger {
    /// A ledger whose gate is closed.
    pub fn new() -> Ledger {
        Ledger { executions: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn execute(&self, client: u64, n: u64) -> u64 {
        let mut executions = self.executions.lock();
        let times = executions.entry((client, n)).or_default();
        *times += 1;
        *times
    }

    pub fn times(&self, client: &Client, n: u64) -> u64 {
        self.executions.lock().get(&(client.nonce(), n)).copied().unwrap_or(0)
    }

    /// (different calls, executions) of all clients.
    pub fn totals(&self) -> (usize, u64) {
        let executions = self.executions.lock();
        (executions.len(), executions.values().sum())
    }

    /// A server that keeps this ledger.
    pub fn builder(&self, options: ServerOptions) -> ServerBuilder {
        let mut builder = ServerBuilder::new(options);
        let ledger = self.clone();
        builder.register(EXECUTE, typed(move |info, n: u64| Ok(ledger.execute(info.client, n))));
        builder.register(BYTES, typed(|_, n: usize| Ok("x".repeat(n))));
        let ledger = self.clone();
        let later = move |request: Request| {
            let ledger = ledger.clone();
            async move {
                let n = request.decode::<u64>()?;
                let times = ledger.execute(request.client, n);
                ledger.gate.acquire().await.map_err(|_| Status(1))?.forget();
                Ok(Response::of(&times))
            }
        };
        builder.register_async(EXECUTE_LATER, asynchronous(later));
        builder
    }

    pub async fn listen(&self, options: ServerOptions, addr: &str) -> Server {
        self.builder(options).listen(addr).await.expect("a free port")
    }
}

/// Waits for a condition that must come true.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// TCP through a relay that can cut all links.
#[derive(Clone, Default)]
pub struct Cuttable {
    links: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
    held_back: Arc<AtomicBool>,
}

impl Cuttable {
    /// Cuts every link there is; later ones are sound.
    pub fn cut(&self) {
        for link in self.links.lock().drain(..) {
            link.abort();
        }
    }

    /// Refuses new links until [`let_on`](Self::let_on).
    pub fn hold_back(&self) {
        self.held_back.store(true, Ordering::SeqCst);
    }

    pub fn let_on(&self) {
        self.held_back.store(false, Ordering::SeqCst);
    }

    /// Links made since the last cut.
    pub fn links(&self) -> usize {
        self.links.lock().len()
    }
}

impl Transport for Cuttable {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Link>> {
        Box::pin(async move {
            if self.held_back.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let mut far = tokio::net::TcpStream::connect(addr).await?;
            let (near, mut relayed) = tokio::io::duplex(16 << 10);
            let relay =
                tokio::spawn(
                    async move { drop(tokio::io::copy_bidirectional(&mut relayed, &mut far).await) },
                );
            self.links.lock().push(relay.abort_handle());
            let (read, write) = tokio::io::split(near);
            Ok(Link { read: Box::new(read), write: Box::new(write), peer: addr.to_string() })
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move { Tcp.listen(addr).await })
    }
}
