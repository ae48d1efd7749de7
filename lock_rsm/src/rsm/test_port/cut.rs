//! A network that can be cut: TCP on which, while it is cut, no byte moves either way and no connection comes about.
//!
//! Connections that are open stay so, as in a real partition, and what waits on them arrives when it is healed; the other
//! side hears nothing meanwhile, not even that a connection was given up here.

use parking_lot::Mutex;
use rpc::BoxFuture;
use rpc::transport::{Link, Listener, ReadHalf, Tcp, Transport, WriteHalf};
use std::any::Any;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether the network is cut, and who waits for the end of that.
#[derive(Default)]
pub(super) struct Cut {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    waiting: Vec<Waker>,
    /// Connections given up here while cut: they are closed afterwards, since closing tells the other side.
    given_up: Vec<Box<dyn Any + Send>>,
}

impl Cut {
    pub(super) fn off(&self) {
        self.state.lock().is_cut = true;
    }

    /// Whether there was something to heal.
    pub(super) fn heal(&self) -> bool {
        let was = std::mem::take(&mut *self.state.lock());
        was.waiting.into_iter().for_each(Waker::wake);
        drop(was.given_up);
        was.is_cut
    }

    /// Ready while the network is whole.
    fn poll_whole(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.is_cut {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    async fn whole(&self) {
        poll_fn(|cx| self.poll_whole(cx)).await;
    }

    /// Closes a half of a connection, or keeps it for later.
    fn give_up<T: Send + 'static>(&self, half: T) {
        let mut state = self.state.lock();
        if state.is_cut {
            state.given_up.push(Box::new(half));
        }
    }
}

/// TCP behind a [`Cut`].
pub(super) struct CutTransport {
    cut: Arc<Cut>,
}

impl CutTransport {
    pub(super) fn new(cut: Arc<Cut>) -> CutTransport {
        CutTransport { cut }
    }
}

impl Transport for CutTransport {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Link>> {
        Box::pin(async move {
            self.cut.whole().await;
            Ok(behind(&self.cut, Tcp.connect(addr).await?))
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = Tcp.listen(addr).await?;
            Ok(Box::new(CutListener { cut: Arc::clone(&self.cut), listener }) as Box<dyn Listener>)
        })
    }
}

struct CutListener {
    cut: Arc<Cut>,
    listener: Box<dyn Listener>,
}

impl Listener for CutListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move {
            // The kernel completes connections on its own; no byte of them is answered before the network is whole.
            self.cut.whole().await;
            Ok(behind(&self.cut, self.listener.accept().await?))
        })
    }

    fn local_addr(&self) -> String {
        self.listener.local_addr()
    }
}

fn behind(cut: &Arc<Cut>, link: Link) -> Link {
    Link {
        read: Box::new(CutRead { cut: Arc::clone(cut), io: Some(link.read) }),
        write: Box::new(CutWrite { cut: Arc::clone(cut), io: Some(link.write) }),
        peer: link.peer,
    }
}

struct CutRead {
    cut: Arc<Cut>,
    io: Option<ReadHalf>,
}

struct CutWrite {
    cut: Arc<Cut>,
    io: Option<WriteHalf>,
}

impl Drop for CutRead {
    fn drop(&mut self) {
        self.cut.give_up(self.io.take());
    }
}

impl Drop for CutWrite {
    fn drop(&mut self) {
        self.cut.give_up(self.io.take());
    }
}

impl CutRead {
    fn io(&mut self) -> Pin<&mut ReadHalf> {
        Pin::new(self.io.as_mut().expect("it is there until dropped"))
    }
}

impl CutWrite {
    fn io(&mut self) -> Pin<&mut WriteHalf> {
        Pin::new(self.io.as_mut().expect("it is there until dropped"))
    }
}

impl AsyncRead for CutRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.cut.poll_whole(cx));
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for CutWrite {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        std::task::ready!(self.cut.poll_whole(cx));
        self.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.cut.poll_whole(cx));
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.cut.poll_whole(cx));
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.cut.poll_whole(cx));
        self.io().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(30);
    const A_WHILE: Duration = Duration::from_millis(100);

    /// A connection of which this side can be cut off.
    async fn connected(cut: &Arc<Cut>) -> (Link, Link, Box<dyn Listener>) {
        let mut listener = CutTransport::new(Arc::clone(cut)).listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr();
        let (theirs, ours) = tokio::join!(Tcp.connect(&address), listener.accept());
        (ours.unwrap(), theirs.unwrap(), listener)
    }

    #[tokio::test]
    async fn nothing_passes_while_cut_and_everything_arrives_afterwards() {
        let cut = Arc::new(Cut::default());
        let (mut ours, mut theirs, _listener) = connected(&cut).await;
        assert!(!cut.heal(), "it was whole");
        cut.off();
        theirs.write.write_all(b"in").await.unwrap();
        let (mut one, mut two) = ([0; 2], [0; 3]);
        assert!(timeout(A_WHILE, ours.read.read_exact(&mut one)).await.is_err());
        assert!(timeout(A_WHILE, ours.write.write_all(b"out")).await.is_err());
        let reading = tokio::spawn(async move {
            ours.read.read_exact(&mut one).await.unwrap();
            (ours, one)
        });
        tokio::task::yield_now().await;
        assert!(cut.heal());
        let (mut ours, one) = timeout(SOON, reading).await.unwrap().unwrap();
        assert_eq!(&one, b"in");
        ours.write.write_all(b"out").await.unwrap();
        timeout(SOON, theirs.read.read_exact(&mut two)).await.unwrap().unwrap();
        assert_eq!(&two, b"out");
    }

    #[tokio::test]
    async fn a_connection_given_up_while_cut_is_closed_afterwards() {
        let cut = Arc::new(Cut::default());
        let (ours, mut theirs, _listener) = connected(&cut).await;
        cut.off();
        drop(ours);
        let mut byte = [0];
        assert!(timeout(A_WHILE, theirs.read.read(&mut byte)).await.is_err(), "it must not be told");
        cut.heal();
        assert_eq!(timeout(SOON, theirs.read.read(&mut byte)).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn no_connection_comes_about_while_cut() {
        let cut = Arc::new(Cut::default());
        let (_ours, _theirs, mut listener) = connected(&cut).await;
        let address = listener.local_addr();
        cut.off();
        assert!(timeout(A_WHILE, CutTransport::new(Arc::clone(&cut)).connect(&address)).await.is_err());
        let _waiting = Tcp.connect(&address).await.unwrap();
        assert!(timeout(A_WHILE, listener.accept()).await.is_err());
        cut.heal();
        timeout(SOON, listener.accept()).await.unwrap().unwrap();
    }
}
