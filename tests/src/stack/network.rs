//! The simulated network: connections between hosts that are slow, stall while a direction is cut, and break.
//!
//! A connection is two pipes. Bytes arrive in order, each piece after a delay; a direction that is cut holds them up, as
//! TCP does which sends again, and a connection that breaks loses what was under way. Bytes move between hosts only when
//! [`Network::deliver`] is called, between two ticks.

use super::host;
use crate::rng::Rng;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rpc::BoxFuture;
use rpc::transport::{Link, Listener, Transport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Names a machine.
pub type HostId = u32;

/// The address of a machine.
pub fn address(host: HostId) -> String {
    format!("10.0.0.{host}:7000")
}

fn host_of(address: &str) -> Option<HostId> {
    address.strip_prefix("10.0.0.")?.strip_suffix(":7000")?.parse().ok()
}

/// What the network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// A piece takes at least so long.
    pub delay_min_ms: u64,
    /// And at most so much longer.
    pub delay_more_ms: u64,
    /// Of 1000 pieces so many take up to half a second more.
    pub late_permille: usize,
    /// Of 1000 pieces so many break the connection.
    pub break_permille: usize,
}

impl Weather {
    /// A good local network.
    pub const FAIR: Weather =
        Weather { delay_min_ms: 0, delay_more_ms: 2, late_permille: 0, break_permille: 0 };
    /// A bad one.
    pub const ROUGH: Weather =
        Weather { delay_min_ms: 1, delay_more_ms: 20, late_permille: 15, break_permille: 2 };
}

/// Bytes under way in one direction before the writer waits.
const WINDOW: usize = 1 << 20;

struct Pipe {
    from: HostId,
    to: HostId,
    /// Both pipes of a connection have the same.
    connection: u64,
    under_way: VecDeque<(u64, Bytes)>,
    under_way_bytes: usize,
    arrived: VecDeque<Bytes>,
    last_due_ms: u64,
    /// The writer has ended it.
    ended: bool,
    /// The end has arrived.
    end_arrived: bool,
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn break_off(&mut self, wakers: &mut Vec<Waker>) {
        self.broken = true;
        self.under_way.clear();
        self.under_way_bytes = 0;
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }
}

#[derive(Default)]
struct Door {
    waiting: VecDeque<Link>,
    waker: Option<Waker>,
}

struct State {
    now_ms: u64,
    rng: Rng,
    weather: Weather,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    doors: BTreeMap<HostId, Door>,
    cut: BTreeSet<(HostId, HostId)>,
    down: BTreeSet<HostId>,
    bytes: u64,
    broken: u64,
}

/// The network of a run. Clones are the same.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

impl Network {
    /// A network whose delays follow from `seed`.
    pub fn new(seed: u64, weather: Weather) -> Network {
        Network(Arc::new(Mutex::new(State {
            now_ms: 0,
            rng: Rng::new(seed),
            weather,
            pipes: BTreeMap::new(),
            next_pipe: 0,
            doors: BTreeMap::new(),
            cut: BTreeSet::new(),
            down: BTreeSet::new(),
            bytes: 0,
            broken: 0,
        })))
    }

    /// What it is like from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// From now on nothing gets from one host to the other.
    pub fn cut(&self, from: HostId, to: HostId) {
        self.0.lock().cut.insert((from, to));
    }

    /// All directions work again.
    pub fn heal(&self) {
        self.0.lock().cut.clear();
    }

    /// Bytes delivered and connections broken so far.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.bytes, state.broken)
    }

    /// Breaks the connections that `which` names by the hosts of their pipes.
    pub fn break_some(&self, mut which: impl FnMut(HostId, HostId) -> bool) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        let hit: BTreeSet<u64> = state
            .pipes
            .values()
            .filter(|pipe| which(pipe.from, pipe.to))
            .map(|pipe| pipe.connection)
            .collect();
        state.broken += hit.len() as u64;
        for pipe in state.pipes.values_mut().filter(|pipe| hit.contains(&pipe.connection)) {
            pipe.break_off(&mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The machine is off: nothing leaves it any more. `silently`: the others do not notice by their connections.
    pub fn switch_off(&self, host: HostId, silently: bool) {
        let mut state = self.0.lock();
        state.down.insert(host);
        let door = state.doors.remove(&host);
        drop(state);
        drop(door);
        if !silently {
            self.break_some(|from, to| from == host || to == host);
        }
    }

    /// The machine is on again, and knows nothing of its connections from before.
    pub fn switch_on(&self, host: HostId) {
        self.break_some(|from, to| from == host || to == host);
        self.0.lock().down.remove(&host);
    }

    /// It is `now_ms`: what is due arrives.
    pub fn deliver(&self, now_ms: u64) {
        let mut wakers = Vec::new();
        let mut state = self.0.lock();
        let state = &mut *state;
        state.now_ms = now_ms;
        for pipe in state.pipes.values_mut() {
            if state.cut.contains(&(pipe.from, pipe.to)) || state.down.contains(&pipe.to) || pipe.broken {
                continue;
            }
            while pipe.under_way.front().is_some_and(|(due, _)| *due <= now_ms) {
                let (_, piece) = pipe.under_way.pop_front().expect("just looked at");
                pipe.under_way_bytes -= piece.len();
                state.bytes += piece.len() as u64;
                pipe.arrived.push_back(piece);
                wakers.extend(pipe.reader.take());
                wakers.extend(pipe.writer.take());
            }
            if pipe.ended && pipe.under_way.is_empty() && !pipe.end_arrived {
                pipe.end_arrived = true;
                wakers.extend(pipe.reader.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn pipe(&mut self, from: HostId, to: HostId, connection: u64) -> u64 {
        self.next_pipe += 1;
        let pipe = Pipe {
            from,
            to,
            connection,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            arrived: VecDeque::new(),
            last_due_ms: 0,
            ended: false,
            end_arrived: false,
            broken: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(self.next_pipe, pipe);
        self.next_pipe
    }

    fn delay_ms(&mut self) -> u64 {
        let Weather { delay_min_ms, delay_more_ms, late_permille, .. } = self.weather;
        let late = if self.rng.below(1000) < late_permille { self.rng.next_u64() % 500 } else { 0 };
        delay_min_ms + self.rng.next_u64() % (delay_more_ms + 1) + late
    }

    fn is_cut(&self, a: HostId, b: HostId) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }
}

fn link(network: &Network, read: u64, write: u64, peer: HostId) -> Link {
    let half = |pipe| Half { network: network.clone(), pipe };
    Link { read: Box::new(Reading(half(read))), write: Box::new(Writing(half(write))), peer: address(peer) }
}

impl Transport for Network {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Link>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let (from, to) = (host::current(), host_of(addr).ok_or_else(refused)?);
            // Who connects asks again and again until there is an answer.
            while self.0.lock().is_cut(from, to) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let delay_ms = self.0.lock().delay_ms();
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            let mut state = self.0.lock();
            if !state.doors.contains_key(&to) {
                return Err(refused());
            }
            let connection = state.next_pipe + 1;
            let (there, back) = (state.pipe(from, to, connection), state.pipe(to, from, connection));
            let theirs = link(self, there, back, from);
            let door = state.doors.get_mut(&to).expect("just looked at");
            door.waiting.push_back(theirs);
            let waker = door.waker.take();
            drop(state);
            waker.into_iter().for_each(Waker::wake);
            Ok(link(self, back, there, to))
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let host = host_of(addr).filter(|host| *host == host::current());
            let host = host.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let before = self.0.lock().doors.insert(host, Door::default());
            drop(before);
            Ok(Box::new(Acceptor { network: self.clone(), host }) as Box<dyn Listener>)
        })
    }
}

struct Acceptor {
    network: Network,
    host: HostId,
}

impl Listener for Acceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(std::future::poll_fn(|context| {
            let mut state = self.network.0.lock();
            let Some(door) = state.doors.get_mut(&self.host) else { return Poll::Pending };
            match door.waiting.pop_front() {
                Some(link) => Poll::Ready(Ok(link)),
                None => {
                    door.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }

    fn local_addr(&self) -> String {
        address(self.host)
    }
}

struct Half {
    network: Network,
    pipe: u64,
}

struct Reading(Half);
struct Writing(Half);

impl AsyncRead for Reading {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.network.0.lock();
        let Some(pipe) = state.pipes.get_mut(&self.0.pipe) else { return Poll::Ready(Ok(())) };
        if let Some(piece) = pipe.arrived.front_mut() {
            let len = piece.len().min(into.remaining());
            into.put_slice(&piece[..len]);
            piece.advance(len);
            if piece.is_empty() {
                pipe.arrived.pop_front();
            }
            return Poll::Ready(Ok(()));
        }
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.end_arrived {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Writing {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.network.0.lock();
        let state = &mut *state;
        let delay_ms = state.delay_ms();
        let breaks = state.rng.below(1000) < state.weather.break_permille;
        let Some(pipe) = state.pipes.get_mut(&self.0.pipe) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.under_way_bytes >= WINDOW {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if state.down.contains(&pipe.from) {
            return Poll::Ready(Ok(bytes.len()));
        }
        pipe.last_due_ms = pipe.last_due_ms.max(state.now_ms + delay_ms);
        pipe.under_way_bytes += bytes.len();
        pipe.under_way.push_back((pipe.last_due_ms, Bytes::copy_from_slice(bytes)));
        if breaks {
            let connection = pipe.connection;
            let mut wakers = Vec::new();
            state.broken += 1;
            for pipe in state.pipes.values_mut().filter(|pipe| pipe.connection == connection) {
                pipe.break_off(&mut wakers);
            }
            wakers.into_iter().for_each(Waker::wake);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(pipe) = self.0.network.0.lock().pipes.get_mut(&self.0.pipe) {
            pipe.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Whoever writes into it notices.
        let mut state = self.0.network.0.lock();
        if state.pipes.get(&self.0.pipe).is_some_and(|pipe| state.down.contains(&pipe.to)) {
            return; // nobody there to tell them
        }
        let gone = state.pipes.remove(&self.0.pipe);
        drop(state);
        if let Some(waker) = gone.and_then(|pipe| pipe.writer) {
            waker.wake();
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.0.network.0.lock();
        if state.pipes.get(&self.0.pipe).is_some_and(|pipe| state.down.contains(&pipe.from)) {
            return; // a machine that is off says no goodbye
        }
        if let Some(pipe) = state.pipes.get_mut(&self.0.pipe) {
            pipe.ended = true;
        }
    }
}
