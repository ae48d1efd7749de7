//! At-most-once remote procedure calls, both ways over one connection.
//!
//! A [`Client`] binds to a server and sends calls; the server runs each at most once, whatever the network does to
//! frames and connections, and may itself push one-way messages to the client or call it, over the client's own
//! connection ([`Peer`]), so clients need no listening port.
//!
//! ```text
//!   Client::call ──► outbox ══ frames over one Transport link ══► session ──► Handler / AsyncHandler
//!        ▲                                                           │
//!        └── pending by xid ◄══════════ replies, pushes, calls ══════┘  window (NEW / IN PROGRESS / DONE / FORGOTTEN)
//! ```
//!
//! How at-most-once works (after Birrell and Nelson, "Implementing remote procedure calls", 1984, sections 3.2 to 3.4, and
//! the YFS labs): every call carries the client's nonce (once, in the hello), its own number `xid`, and `xid_rep`: all
//! replies up to it were received or are no longer wanted. The server keeps the replies above `xid_rep` in a bounded
//! [`window`] per client and answers a repeated call from it. A client the server no longer remembers states in its
//! hello the highest `xid` it ever sent: nothing up to it is ever executed again. A restarted server is recognised by
//! its own nonce, handed out in the welcome.
//!
//! Everything is bounded: frames ([`frame`]), calls in flight on both sides, write queues, remembered replies and clients.

pub mod addr;
mod budget;
mod calls;
pub mod client;
mod clients;
pub mod codec;
mod conn;
pub mod count;
pub mod deferred;
pub mod error;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod handler;
mod handshake;
pub mod lossy;
pub mod open_files;
mod outbox;
pub mod peer;
pub mod quiet;
mod ranges;
mod reader;
pub mod record;
mod resend;
pub mod server;
mod session;
pub mod transport;
pub mod window;

pub use client::{Client, ClientOptions, OnRestart};
pub use deferred::{DeferredFn, Replies, Responder};
pub use error::{RpcError, Status};
pub use handler::{
    AsyncHandler, BoxFuture, CallInfo, Handler, Notify, NotifyFn, Proc, Register, Request, Response,
    asynchronous, typed,
};
pub use lossy::Loss;
pub use peer::Peer;
pub use server::{Server, ServerBuilder, ServerOptions, ServerStats};

/// The bound on a frame's arguments and payload together, in bytes, unless options say otherwise.
pub const MAX_FRAME_DEFAULT: usize = 16 << 20;
