//! Keeps a session open: opens it, keeps it alive, opens another when it is lost.
//!
//! A keepalive is sent when a third of the lease has passed, so two can fail before anything stops. The lease counts from
//! before the keepalive was *sent*, on a clock that goes on while the machine is suspended: when the master hears it
//! later, its own count begins later. `docs/leases.md` has the whole timeline.

use std::sync::Arc;
use std::time::Duration;

use super::inner::Inner;
use super::link::LinkError;
use crate::locks::clock::now_ns;
use crate::locks::protocol::{Keepalive, OpenSession, SessionId};

/// How long to wait after a failed attempt to open a session.
const BACKOFF: Duration = Duration::from_millis(200);
/// How often the end of the lease is looked for.
const LOOK: Duration = Duration::from_millis(100);

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
    loop {
        tokio::select! {
            biased;
            () = inner.reopen.notified() => return,
            () = inner.hurry.notified() => {}
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
            }
            Err(LinkError::NoSession) => {
                inner.lose(epoch);
                inner.reopen.notified().await;
                return;
            }
            Err(trouble) => {
                *inner.trouble.lock() = Some(trouble);
                pause = every / 8;
            }
        }
    }
}

/// Looks whether the lease has run out, for as long as the client lives: then the owner must take back what others may
/// still serve for it, and the master is asked at once. Timers do not count suspended time, so after a suspend this is
/// how the end of the lease is noticed.
pub(super) async fn watch_lease(inner: Arc<Inner>) {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let until = inner.lease_until();
        if until == 0 || until == told || now_ns() < until {
            continue;
        }
        let Some(session) = inner.session.borrow().session else { continue };
        told = until;
        let trouble = inner.trouble.lock().as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(session, trouble, "the lease of the lock session has run out; operations wait");
        inner.hooks.lease_ran_out(session);
        inner.hurry.notify_one();
    }
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u64::from_le_bytes(bytes)
}
