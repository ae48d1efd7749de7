//! What can go wrong with a call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::codec::CodecError;
use crate::handler::Proc;

/// An application status other than success, sent instead of a reply.
///
/// Positive numbers are the application's. Negative ones belong to this crate and travel in the same field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[error("status {0}")]
pub struct Status(pub i32);

impl Status {
    /// Success, as it stands in a reply frame. A handler never returns it as an error.
    pub(crate) const OK: Status = Status(0);
    /// The arguments do not decode.
    pub const BAD_ARGS: Status = Status(-2);
    /// The call may have been executed before and its reply is gone.
    pub const FORGOTTEN: Status = Status(-4);
    /// Nobody registered this procedure.
    pub const NO_SUCH_PROC: Status = Status(-8);
    /// The reply would exceed what the caller accepts in a frame.
    pub const TOO_LARGE: Status = Status(-9);
    /// The server refuses more work from this caller now.
    pub const OVERLOADED: Status = Status(-10);
    /// The handler panicked.
    pub const FAULT: Status = Status(-11);
}

/// Why a call has no reply.
///
/// After [`Timeout`](RpcError::Timeout), [`Unreachable`](RpcError::Unreachable), [`ServerRestarted`](RpcError::ServerRestarted),
/// [`Forgotten`](RpcError::Forgotten) and [`Closed`](RpcError::Closed) the call was executed once or not at all; after the
/// others it is certain which, as each says.
#[derive(Debug, Clone, Error)]
pub enum RpcError {
    /// No answer before the deadline, though the server was connected.
    #[error("{addr} did not answer call {proc:#x} within {after:?}")]
    Timeout {
        /// The server.
        addr: String,
        /// The procedure called.
        proc: Proc,
        /// The time it was given.
        after: Duration,
    },
    /// There was no connection to the server before the deadline (at once, with `fail_fast`).
    #[error("cannot reach {addr}: {source}")]
    Unreachable {
        /// The server.
        addr: String,
        /// Why the last attempt to connect failed.
        source: Arc<io::Error>,
    },
    /// The server that may have executed the call is gone, and with it the memory of what it did.
    #[error("{addr} was restarted since this client bound to it")]
    ServerRestarted {
        /// The server.
        addr: String,
    },
    /// A repeated call whose reply the server no longer keeps; it is not executed again.
    #[error("the server no longer remembers the reply to this call")]
    Forgotten,
    /// Arguments, or the reply, exceed the frame bound. Too large arguments were not sent.
    #[error("{size} bytes exceed the bound of {max} on one message")]
    TooLarge {
        /// Bytes of header and payload.
        size: usize,
        /// The bound.
        max: usize,
    },
    /// Executed, but the reply does not decode as the wanted type.
    #[error("unexpected reply: {0}")]
    BadReply(#[source] CodecError),
    /// Not executed: the server cannot decode the arguments.
    #[error("the server cannot decode the arguments")]
    BadArgs,
    /// Not executed: the server has no such procedure.
    #[error("the server has no procedure {0:#x}")]
    NoSuchProc(Proc),
    /// Executed; the application answered with a status other than success.
    #[error("status {0}")]
    Status(i32),
    /// Not executed: the other side refuses more calls now.
    #[error("the server is overloaded")]
    Overloaded,
    /// The client was closed, or the peer's connection is gone.
    #[error("the connection is closed")]
    Closed,
}

impl RpcError {
    /// The application's status, if that is what the call came back with.
    pub fn status(&self) -> Option<i32> {
        match self {
            RpcError::Status(status) => Some(*status),
            _ => None,
        }
    }
}
