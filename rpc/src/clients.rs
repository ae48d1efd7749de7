//! The clients a server remembers, each with its reply window; bounded in number and in bytes.
//!
//! A client that is connected is always remembered. Of the others the least recently connected are forgotten first. That
//! is safe: a forgotten client says in its next hello what it ever sent, and its new window begins above that.
//!
//! Lock order: `table` before a window.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::conn::Conn;
use crate::frame::Frame;
use crate::window::{Admission, Window, WindowLimits};

pub(crate) struct Clients {
    limits: WindowLimits,
    clients_max: usize,
    bytes_max: usize,
    /// Bytes of all windows.
    bytes: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    by_nonce: HashMap<u64, Remembered>,
    /// Clients without a connection, in the order in which they lost it.
    idle: BTreeMap<u64, u64>,
    last_idle: u64,
}

struct Remembered {
    client: Arc<RemoteClient>,
    connections: usize,
    idle: Option<u64>,
}

/// What a server knows of one client.
pub(crate) struct RemoteClient {
    pub nonce: u64,
    newest: Mutex<Weak<Conn>>,
    /// `None` once forgotten.
    window: Mutex<Option<Window<Frame>>>,
}

impl RemoteClient {
    /// The client's newest connection, which is where it reads.
    pub fn newest(&self) -> Option<Arc<Conn>> {
        self.newest.lock().upgrade().filter(|conn| !conn.is_closed())
    }
}

impl Clients {
    pub fn new(limits: WindowLimits, clients_max: usize, bytes_max: usize) -> Clients {
        Clients { limits, clients_max, bytes_max, bytes: AtomicUsize::new(0), table: Mutex::default() }
    }

    /// A client connected over `conn`; [`disconnect`](Self::disconnect) must follow.
    pub fn connect(&self, conn: &Arc<Conn>, sent_before: u64) -> Arc<RemoteClient> {
        let mut table = self.table.lock();
        let remembered = table.by_nonce.entry(conn.client).or_insert_with(|| Remembered {
            client: Arc::new(RemoteClient {
                nonce: conn.client,
                newest: Mutex::default(),
                window: Mutex::new(Some(Window::new(self.limits, sent_before))),
            }),
            connections: 0,
            idle: None,
        });
        remembered.connections += 1;
        let client = remembered.client.clone();
        *client.newest.lock() = Arc::downgrade(conn);
        if let Some(idle) = remembered.idle.take() {
            table.idle.remove(&idle);
        }
        client
    }

    /// The connection that [`connect`](Self::connect) announced is gone.
    pub fn disconnect(&self, client: &RemoteClient) {
        let mut table = self.table.lock();
        table.last_idle += 1;
        let turn = table.last_idle;
        let Some(remembered) = table.by_nonce.get_mut(&client.nonce) else { return };
        remembered.connections -= 1;
        if remembered.connections == 0 {
            remembered.idle = Some(turn);
            table.idle.insert(turn, client.nonce);
        }
        while table.by_nonce.len() > self.clients_max && self.forget_one(&mut table) {}
    }

    /// A call arrived.
    pub fn admit(&self, client: &RemoteClient, xid: u64, xid_rep: u64) -> Admission<Frame> {
        self.with_window(client, |window| window.admit(xid, xid_rep)).unwrap_or(Admission::Forgotten)
    }

    /// A call was executed. Says whether the client may still want the reply.
    pub fn complete(&self, client: &RemoteClient, xid: u64, reply: Frame) -> bool {
        let bytes = reply.wire_len();
        let wanted = self.with_window(client, |window| window.complete(xid, reply, bytes)).unwrap_or(false);
        if self.bytes() > self.bytes_max {
            self.make_room(client);
        }
        wanted
    }

    fn make_room(&self, client: &RemoteClient) {
        let mut table = self.table.lock();
        while self.bytes() > self.bytes_max && self.forget_one(&mut table) {}
        drop(table);
        let over = self.bytes().saturating_sub(self.bytes_max);
        if over > 0 {
            self.with_window(client, |window| window.shrink_to(window.bytes().saturating_sub(over)));
        }
    }

    /// Forgets the client that has been away longest; false when all are connected.
    fn forget_one(&self, table: &mut Table) -> bool {
        let Some((_, nonce)) = table.idle.pop_first() else { return false };
        if let Some(forgotten) = table.by_nonce.remove(&nonce)
            && let Some(window) = forgotten.client.window.lock().take()
        {
            self.bytes.fetch_sub(window.bytes(), Ordering::Relaxed);
        }
        true
    }

    /// Works on a window and keeps the total of bytes right. `None` when the client is forgotten.
    fn with_window<T>(&self, client: &RemoteClient, work: impl FnOnce(&mut Window<Frame>) -> T) -> Option<T> {
        let mut guard = client.window.lock();
        let window = guard.as_mut()?;
        let before = window.bytes();
        let result = work(window);
        let after = window.bytes();
        if after > before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else if after < before {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
        Some(result)
    }

    /// Bytes of all replies kept.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Clients remembered, and replies kept or in progress for all of them.
    pub fn counts(&self) -> (usize, usize) {
        let table = self.table.lock();
        let entries = |r: &Remembered| r.client.window.lock().as_ref().map_or(0, Window::len);
        (table.by_nonce.len(), table.by_nonce.values().map(entries).sum())
    }
}
