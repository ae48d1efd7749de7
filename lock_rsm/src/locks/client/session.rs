//! Keeps a session open: opens it, keeps it alive, opens another when it is lost.

use std::sync::Arc;
use std::time::Duration;

use super::inner::Inner;
use super::link::LinkError;
use crate::locks::clock::now_ns;
use crate::locks::protocol::{Keepalive, OpenSession, SessionId};

/// How long to wait after a failed attempt to open a session.
const BACKOFF: Duration = Duration::from_millis(200);

/// Runs as long as the client.
pub(super) async fn keep_open(inner: Arc<Inner>) {
    loop {
        let epoch = inner.epoch();
        match open(&inner, epoch).await {
            Ok((session, lease_ms)) => keep_alive(&inner, epoch, session, lease_ms).await,
            Err(trouble) => {
                tracing::debug!(%trouble, "cannot open a lock session yet");
                *inner.trouble.lock() = Some(trouble);
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

/// The lease is asked for first because it becomes part of the session, and counts from a keepalive of the session
/// itself.
async fn open(inner: &Inner, epoch: u64) -> Result<(SessionId, u32), LinkError> {
    let patience = inner.opts.wait_max;
    let lease_ms = inner.link.keepalive(Keepalive { session: 0 }, patience).await?.lease_ms;
    let args = OpenSession { name: inner.opts.name.clone(), nonce: random(), lease_ms };
    let session = inner.link.open_session(args, patience).await?;
    let sent = now_ns();
    let alive = inner.link.keepalive(Keepalive { session }, patience).await?;
    inner.counters.sessions.add(1);
    inner.renew(epoch, sent, alive.lease_ms);
    inner.opened(epoch, session);
    tracing::debug!(session, lease_ms = alive.lease_ms, client = %inner.opts.name, "lock session open");
    Ok((session, alive.lease_ms))
}

/// Returns when the session is lost and cleared away.
async fn keep_alive(inner: &Inner, epoch: u64, session: SessionId, lease_ms: u32) {
    let every = Duration::from_millis(lease_ms.into()) / 3;
    let mut pause = every;
    let mut warned = false;
    loop {
        tokio::select! {
            biased;
            () = inner.reopen.notified() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let sent = now_ns();
        match inner.link.keepalive(Keepalive { session }, every).await {
            Ok(alive) => {
                #[cfg(feature = "planted")]
                let sent = match crate::planted::is_in_stack(crate::planted::StackBug::LeaseFromAnswer) {
                    true => now_ns(),
                    false => sent,
                };
                inner.renew(epoch, sent, alive.lease_ms);
                inner.counters.keepalives.add(1);
                pause = every;
                warned = false;
            }
            Err(LinkError::NoSession) => {
                inner.lose(epoch);
                inner.reopen.notified().await;
                return;
            }
            Err(trouble) => {
                if !warned && now_ns() >= inner.lease_until() {
                    tracing::warn!(session, %trouble, "the lease of the lock session has run out; operations wait");
                    warned = true;
                }
                *inner.trouble.lock() = Some(trouble);
                pause = every / 8;
            }
        }
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u64::from_le_bytes(bytes)
}
