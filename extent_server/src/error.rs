//! What can go wrong, seen from the store and seen from a client.

use rpc::RpcError;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why the store refused. It travels to the client as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum StoreError {
    /// The session was fenced; nothing of it is taken any more, ever.
    #[error("session {session} is fenced; open a new session")]
    Fenced {
        /// The session refused.
        session: u64,
    },
    /// No room; nothing was changed. Deleting is still possible.
    #[error("no space left in the extent store")]
    NoSpace,
    /// A commit named writes of an earlier life of the server; they may be lost. Send the writes and the commit again.
    #[error("the extent server restarted since the data was written; write it again")]
    Restarted,
    /// A checksum does not match; what is stored there is not served.
    #[error(
        "corrupt data: {what}; restore it from a backup, and check the disk with `extent_server --verify`"
    )]
    Corrupt {
        /// The key or block, in words.
        what: String,
    },
    /// Over one of the bounds of this crate's `types` module.
    #[error("{what} is too large: {size}, at most {max}")]
    TooLarge {
        /// What is.
        what: String,
        /// How large it is.
        size: u64,
        /// How large it may be.
        max: u64,
    },
    /// The request makes no sense.
    #[error("invalid request: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// A write or sync of the store failed before: its state on disk is unknown until it is opened again.
    #[error("the extent store failed ({reason}) and takes no more writes; restart the extent server")]
    Failed {
        /// The first failure.
        reason: String,
    },
    /// An input/output error that harmed nothing but this call.
    #[error("input/output error on {what}")]
    Io {
        /// The file or key, and the system's words.
        what: String,
    },
}

impl StoreError {
    /// The number that stands for this error where only a number can be sent (the fence call).
    pub fn code(&self) -> i32 {
        match self {
            StoreError::Fenced { .. } => 1,
            StoreError::NoSpace => 2,
            StoreError::Restarted => 3,
            StoreError::Corrupt { .. } => 4,
            StoreError::TooLarge { .. } => 5,
            StoreError::Invalid { .. } => 6,
            StoreError::Failed { .. } => 7,
            StoreError::Io { .. } => 8,
        }
    }

    /// An `Io` error, or `NoSpace` where that is what the system says.
    pub(crate) fn from_io(what: impl std::fmt::Display, e: &std::io::Error) -> StoreError {
        if is_no_space(e) { StoreError::NoSpace } else { StoreError::Io { what: format!("{what}: {e}") } }
    }
}

pub(crate) fn is_no_space(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded)
}

/// Why a call of [`ExtentClient`](crate::ExtentClient) failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// See [`StoreError::Fenced`].
    #[error("session {session} is fenced; open a new session")]
    Fenced {
        /// The session refused.
        session: u64,
    },
    /// See [`StoreError::NoSpace`].
    #[error("no space left in the extent store")]
    NoSpace,
    /// See [`StoreError::Restarted`].
    #[error("the extent server restarted since the data was written; write it again")]
    Restarted,
    /// See [`StoreError::Corrupt`].
    #[error(
        "corrupt data: {what}; restore it from a backup, and check the disk with `extent_server --verify`"
    )]
    Corrupt {
        /// The key or block, in words.
        what: String,
    },
    /// See [`StoreError::TooLarge`].
    #[error("{what} is too large: {size}, at most {max}")]
    TooLarge {
        /// What is.
        what: String,
        /// How large it is.
        size: u64,
        /// How large it may be.
        max: u64,
    },
    /// See [`StoreError::Invalid`].
    #[error("invalid request: {what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
    },
    /// The server answered with an error of its own, and went on doing so until the deadline where that could help.
    #[error("the extent server failed: {what}")]
    Io {
        /// The server's words.
        what: String,
    },
    /// No answer in time. A commit that timed out may still take effect until its session is fenced.
    #[error("no answer from the extent server at {addr} within {waited:?}")]
    Timeout {
        /// The server's address.
        addr: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Not reached in all the time allowed.
    #[error("cannot reach the extent server at {addr}: {why}; is it running?")]
    Unreachable {
        /// The server's address.
        addr: String,
        /// The last failure.
        why: String,
    },
    /// The far side does not speak this protocol, or the client was closed.
    #[error("cannot talk to the extent server at {addr}: {what}")]
    Protocol {
        /// The server's address.
        addr: String,
        /// What went wrong.
        what: String,
    },
}

impl From<StoreError> for ExtentError {
    fn from(e: StoreError) -> ExtentError {
        match e {
            StoreError::Fenced { session } => ExtentError::Fenced { session },
            StoreError::NoSpace => ExtentError::NoSpace,
            StoreError::Restarted => ExtentError::Restarted,
            StoreError::Corrupt { what } => ExtentError::Corrupt { what },
            StoreError::TooLarge { what, size, max } => ExtentError::TooLarge { what, size, max },
            StoreError::Invalid { what } => ExtentError::Invalid { what },
            e @ (StoreError::Failed { .. } | StoreError::Io { .. }) => {
                ExtentError::Io { what: e.to_string() }
            }
        }
    }
}

impl ExtentError {
    /// How a failed call reads to the user, when it will not be tried again.
    pub(crate) fn from_rpc(addr: &str, e: RpcError, waited: Duration) -> ExtentError {
        let addr = addr.to_string();
        match e {
            RpcError::Timeout { .. } => ExtentError::Timeout { addr, waited },
            RpcError::Unreachable { .. } => ExtentError::Unreachable { addr, why: e.to_string() },
            other => ExtentError::Protocol { addr, what: other.to_string() },
        }
    }
}
