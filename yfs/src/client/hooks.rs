//! What the lock client calls before it gives a lock back, and when its session is lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lock_rsm::locks::LockHooks;
use lock_rsm::locks::{LockId, Mode, SessionId};
use rpc::BoxFuture;
use tokio::runtime::Handle;

use super::clock::WallClock;
use super::extents::RemoteExtents;
use super::locks::{RemoteLocks, core_mode};
use crate::core::Fs;
use crate::fuse::Kernel;

/// The file system over the real locks and the real store.
pub type RemoteFs = Fs<RemoteLocks, RemoteExtents, WallClock>;

/// A flush that failed is tried again after this time, growing to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// The hooks of one mount. The lock client needs them before there is a file system, which needs the lock client; so the
/// file system is set afterwards, and until then there is nothing to flush.
pub struct Hooks {
    fs: OnceLock<RemoteFs>,
    kernel: Arc<Kernel>,
    closing: Arc<AtomicBool>,
    runtime: Handle,
}

impl Hooks {
    /// Hooks without a file system. To be called on the runtime.
    pub fn new(kernel: Arc<Kernel>) -> Hooks {
        Hooks { fs: OnceLock::new(), kernel, closing: Arc::default(), runtime: Handle::current() }
    }

    /// From now on the file system is asked.
    pub fn set(&self, fs: RemoteFs) {
        let first = self.fs.set(fs).is_ok();
        assert!(first, "hooks belong to one file system");
    }

    /// The mount has ended and all is flushed, or lost and said so: what cannot be flushed now keeps no lock any more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Takes back all that the kernel has, also what it has not digested yet.
    fn invalidate_all(&self) {
        for ino in self.kernel.invalidate_all() {
            let kernel = self.kernel.clone();
            self.runtime.spawn(async move { kernel.settle(ino).await });
        }
    }

    /// Flushes and drops what depends on the lock, for as long as it takes: while the flush fails, the lock must not go.
    async fn give_up(
        kernel: Arc<Kernel>,
        closing: Arc<AtomicBool>,
        fs: RemoteFs,
        lock: LockId,
        keep: Option<Mode>,
    ) {
        let mut pause = RETRY_MIN;
        while let Err(e) = fs.revoke(lock, keep.map(core_mode)).await {
            if closing.load(Ordering::Relaxed) {
                tracing::debug!("lock {lock} is given back for good: {e}");
                break;
            }
            tracing::warn!("lock {lock} is wanted elsewhere, but its changes cannot be flushed yet: {e}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        kernel.settle(lock).await;
    }
}

impl LockHooks for Hooks {
    fn before_release(&self, lock: LockId, keep: Option<Mode>) -> BoxFuture<'static, ()> {
        match self.fs.get() {
            Some(fs) => {
                Box::pin(Hooks::give_up(self.kernel.clone(), self.closing.clone(), fs.clone(), lock, keep))
            }
            None => Box::pin(std::future::ready(())),
        }
    }

    fn session_lost(&self, old: SessionId) {
        tracing::error!(
            "session {old} is lost: changes that were not flushed are gone, and fsync will say so"
        );
        if let Some(fs) = self.fs.get() {
            fs.session_lost();
        }
        self.invalidate_all();
    }

    /// What the kernel was given times out with the lease by itself, but its timers stand still while the machine is
    /// suspended, and the lease does not.
    fn lease_ran_out(&self, _: SessionId) {
        self.invalidate_all();
    }
}
