//! The way to the lock service through the RSM client.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
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
    let rsm = RsmClient::connect(addrs, rsm_opts.clone()).await.map_err(|error| match error {
        RsmError::BadAddress(error) => LockError::BadAddress(error.to_string()),
        error => LockError::Unreachable { servers: addrs.join(","), cause: error.to_string() },
    })?;
    let link = Arc::new(RsmLink {
        addrs: addrs.to_vec(),
        opts: rsm_opts,
        rsm: Mutex::new(rsm.clone()),
        inner: OnceLock::new(),
    });
    let client = LockClient::start(opts, link.clone(), hooks);
    link.inner.get_or_init(|| Arc::downgrade(&client.inner));
    link.listen(&rsm);
    client.opened(addrs).await
}

/// The group remembers a bounded number of clients. One that it has forgotten cannot use its session any more: it becomes
/// a new client, and opens a new session.
struct RsmLink {
    addrs: Vec<String>,
    opts: RsmClientOptions,
    rsm: Mutex<RsmClient>,
    /// Who takes the pushes.
    inner: OnceLock<Weak<Inner>>,
}

impl RsmLink {
    fn listen(&self, rsm: &RsmClient) {
        if let Some(inner) = self.inner.get() {
            rsm.on_push(REVOKE, receiver(inner, Inner::pushed_revoke));
            rsm.on_push(GRANT, receiver(inner, Inner::pushed_grant));
        }
    }

    fn invoke<'a, A, R>(&'a self, proc: Proc, args: A, patience: Duration) -> Answer<'a, R>
    where
        A: Serialize + Send + Sync + 'a,
        R: DeserializeOwned + Send + 'a,
    {
        Box::pin(async move {
            let rsm = self.rsm.lock().clone();
            match rsm.invoke(proc, &args, patience).await {
                Err(RsmError::Forgotten) => Err(self.forgotten(rsm.id()).await),
                answer => answer.map_err(error),
            }
        })
    }

    /// Becomes a new client, unless another call has seen to that already.
    async fn forgotten(&self, id: u64) -> LinkError {
        tracing::warn!(client = id, "the lock service has forgotten this client; it starts anew");
        match RsmClient::connect(&self.addrs, self.opts.clone()).await {
            Ok(rsm) => {
                self.listen(&rsm);
                let mut current = self.rsm.lock();
                if current.id() == id {
                    *current = rsm;
                }
                LinkError::NoSession
            }
            Err(error) => LinkError::Unanswered(error.to_string()),
        }
    }
}

/// Hands pushes to the client as long as there is one; what does not decode is no push of a lock service.
fn receiver<T: DeserializeOwned + 'static>(inner: &Weak<Inner>, take: fn(&Inner, &T)) -> NotifyFn {
    let inner = inner.clone();
    Arc::new(move |push: Notify| {
        let Some(inner) = inner.upgrade() else { return };
        match push.decode::<T>() {
            Ok(message) => take(&inner, &message),
            Err(error) => tracing::warn!(%error, "a push of the lock service does not decode; it is ignored"),
        }
    })
}

fn error(error: RsmError) -> LinkError {
    match error {
        RsmError::Status(NO_SESSION) => LinkError::NoSession,
        RsmError::Status(TOO_LONG) => LinkError::Refused("the batch or the name is too long"),
        RsmError::Status(FULL) => LinkError::Refused("it holds as many sessions or locks as it may"),
        error => LinkError::Unanswered(error.to_string()),
    }
}

impl Link for RsmLink {
    fn open_session(&self, args: OpenSession, patience: Duration) -> Answer<'_, SessionId> {
        self.invoke(OPEN_SESSION, args, patience)
    }

    fn acquire(&self, args: Acquire, patience: Duration) -> Answer<'_, Standings> {
        self.invoke(ACQUIRE, args, patience)
    }

    fn release(&self, args: Release, patience: Duration) -> Answer<'_, Standings> {
        self.invoke(RELEASE, args, patience)
    }

    fn allocate(&self, args: Allocate, patience: Duration) -> Answer<'_, Allocated> {
        self.invoke(ALLOCATE, args, patience)
    }

    fn close_session(&self, args: EndSession, patience: Duration) -> Answer<'_, Ended> {
        self.invoke(CLOSE_SESSION, args, patience)
    }

    fn keepalive(&self, args: Keepalive, patience: Duration) -> Answer<'_, Alive> {
        let rsm = self.rsm.lock().clone();
        Box::pin(async move { rsm.call_master(KEEPALIVE, &args, patience).await.map_err(error) })
    }
}
