//! Whether the store still works. Failing is for ever: after a failed write or sync nobody knows what is on the disk.

use crate::error::StoreError;
use tokio::sync::watch;

/// The latch.
pub(crate) struct Health {
    reason: watch::Sender<Option<String>>,
}

impl Default for Health {
    fn default() -> Health {
        Health { reason: watch::Sender::new(None) }
    }
}

impl Health {
    /// Fails the store; the first reason stays.
    pub(crate) fn fail(&self, reason: String) -> StoreError {
        self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!("the store failed: {reason}");
                *known = Some(reason.clone());
            }
            first
        });
        StoreError::Failed { reason: self.reason().unwrap_or(reason) }
    }

    /// Why the store failed, if it did.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Refuses once the store has failed.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &*self.reason.borrow() {
            None => Ok(()),
            Some(reason) => Err(StoreError::Failed { reason: reason.clone() }),
        }
    }

    /// Resolves when the store has failed.
    pub(crate) fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut watch = self.reason.subscribe();
        async move {
            let reason = watch.wait_for(Option::is_some).await.ok().and_then(|r| r.clone());
            match reason {
                Some(reason) => reason,
                // The store was closed without having failed: it never will.
                None => std::future::pending().await,
            }
        }
    }
}
