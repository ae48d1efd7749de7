//! The way to the lock service through the RSM client.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rpc::{Notify, NotifyFn, Proc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inner::Inner;
use super::link::{Answer, Link, LinkError};
use super::{LockClient, LockClientOptions, LockError, LockHooks};
use crate::locks::protocol::*;
use crate::rsm::{RsmClient, RsmClientOptions, RsmError};

/// Connects a lock client and opens its first session.
pub(super) async fn connect(
    addrs: &[String],
    opts: LockClientOptions,
    hooks: Arc<dyn LockHooks>,
) -> Result<LockClient, LockError> {
    let rsm_opts = RsmClientOptions { connect_timeout: opts.connect_max, ..RsmClientOptions::default() };
    let rsm = RsmClient::connect(addrs, rsm_opts).await.map_err(|error| match error {
        RsmError::BadAddress(error) => LockError::BadAddress(error.to_string()),
        error => LockError::Unreachable { servers: addrs.join(","), cause: error.to_string() },
    })?;
    let client = LockClient::start(opts, Arc::new(rsm.clone()), hooks);
    rsm.on_push(REVOKE, receiver(&client.inner, Inner::pushed_revoke));
    rsm.on_push(GRANT, receiver(&client.inner, Inner::pushed_grant));
    client.opened(addrs).await
}

/// Hands pushes to the client as long as there is one; what does not decode is no push of a lock service.
fn receiver<T: DeserializeOwned + 'static>(inner: &Arc<Inner>, take: fn(&Inner, &T)) -> NotifyFn {
    let inner: Weak<Inner> = Arc::downgrade(inner);
    Arc::new(move |push: Notify| {
        let Some(inner) = inner.upgrade() else { return };
        match push.decode::<T>() {
            Ok(message) => take(&inner, &message),
            Err(error) => tracing::warn!(%error, "a push of the lock service does not decode; it is ignored"),
        }
    })
}

fn invoke<'a, A, R>(rsm: &'a RsmClient, proc: Proc, args: A, patience: Duration) -> Answer<'a, R>
where
    A: Serialize + Send + Sync + 'a,
    R: DeserializeOwned + Send + 'a,
{
    Box::pin(async move { rsm.invoke(proc, &args, patience).await.map_err(error) })
}

fn error(error: RsmError) -> LinkError {
    match error {
        RsmError::Status(NO_SESSION) => LinkError::NoSession,
        RsmError::Status(TOO_LONG) => LinkError::Refused("the batch or the name is too long"),
        RsmError::Status(FULL) => LinkError::Refused("it holds as many sessions or locks as it may"),
        error => LinkError::Unanswered(error.to_string()),
    }
}

impl Link for RsmClient {
    fn open_session(&self, args: OpenSession, patience: Duration) -> Answer<'_, SessionId> {
        invoke(self, OPEN_SESSION, args, patience)
    }

    fn acquire(&self, args: Acquire, patience: Duration) -> Answer<'_, Standings> {
        invoke(self, ACQUIRE, args, patience)
    }

    fn release(&self, args: Release, patience: Duration) -> Answer<'_, Standings> {
        invoke(self, RELEASE, args, patience)
    }

    fn allocate(&self, args: Allocate, patience: Duration) -> Answer<'_, Allocated> {
        invoke(self, ALLOCATE, args, patience)
    }

    fn close_session(&self, args: EndSession, patience: Duration) -> Answer<'_, Ended> {
        invoke(self, CLOSE_SESSION, args, patience)
    }

    fn keepalive(&self, args: Keepalive, patience: Duration) -> Answer<'_, Alive> {
        Box::pin(async move { self.call_master(KEEPALIVE, &args, patience).await.map_err(error) })
    }
}
