//! The client's way to the lock service, as the rest of the client sees it: one typed call for each command.

use std::time::Duration;

use rpc::BoxFuture;

use crate::locks::protocol::{
    Acquire, Alive, Allocate, Allocated, EndSession, Ended, Keepalive, OpenSession, Release, SessionId,
    Standings,
};

/// An answer to come.
pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, LinkError>>;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// The session is void.
    #[error("the session is unknown to the lock service or has expired")]
    NoSession,
    /// The service has no room for this.
    #[error("the lock service refuses: {0}")]
    Refused(&'static str),
    /// No answer in time; whether the command was executed is unknown.
    #[error("no answer from the lock service: {0}")]
    Unanswered(String),
}

/// Calls to the lock service. Replicated ones are executed exactly once if they are answered.
pub(super) trait Link: Send + Sync + 'static {
    fn open_session(&self, args: OpenSession, patience: Duration) -> Answer<'_, SessionId>;
    fn acquire(&self, args: Acquire, patience: Duration) -> Answer<'_, Standings>;
    fn release(&self, args: Release, patience: Duration) -> Answer<'_, Standings>;
    fn allocate(&self, args: Allocate, patience: Duration) -> Answer<'_, Allocated>;
    fn close_session(&self, args: EndSession, patience: Duration) -> Answer<'_, Ended>;
    fn keepalive(&self, args: Keepalive, patience: Duration) -> Answer<'_, Alive>;
}
