//! The core's locks over the lock client.

use std::ops::Range;
use std::time::Duration;

use lock_rsm::locks::protocol;
use lock_rsm::locks::{LockClient, LockError, LockGuard};

use crate::core::{FsError, Ino, Locks, Mode};

/// The lock service as the core's locks; a lock's id is the inode's number.
#[derive(Clone)]
pub struct RemoteLocks {
    client: LockClient,
}

impl RemoteLocks {
    /// Over a connected client.
    pub fn new(client: LockClient) -> RemoteLocks {
        RemoteLocks { client }
    }
}

/// The core's mode in the lock service's words.
pub fn server_mode(mode: Mode) -> protocol::Mode {
    match mode {
        Mode::Shared => protocol::Mode::Shared,
        Mode::Exclusive => protocol::Mode::Exclusive,
    }
}

/// The lock service's mode in the core's words.
pub fn core_mode(mode: protocol::Mode) -> Mode {
    match mode {
        protocol::Mode::Shared => Mode::Shared,
        protocol::Mode::Exclusive => Mode::Exclusive,
    }
}

fn server_wants(wants: &[(Ino, Mode)]) -> Vec<(protocol::LockId, protocol::Mode)> {
    wants.iter().map(|(ino, mode)| (*ino, server_mode(*mode))).collect()
}

fn fs_error(e: &LockError) -> FsError {
    FsError::TimedOut(format!("the lock service: {e}"))
}

impl Locks for RemoteLocks {
    type Guard = LockGuard;

    fn try_acquire(&self, wants: &[(Ino, Mode)]) -> Option<LockGuard> {
        self.client.try_acquire(&server_wants(wants))
    }

    async fn acquire(&self, wants: &[(Ino, Mode)]) -> Result<LockGuard, FsError> {
        self.client.acquire(&server_wants(wants)).await.map_err(|e| fs_error(&e))
    }

    async fn allocate(&self, n: u32) -> Result<Range<Ino>, FsError> {
        self.client.allocate(n).await.map_err(|e| fs_error(&e))
    }

    fn session(&self) -> u64 {
        self.client.session()
    }

    fn lease_left(&self) -> Duration {
        self.client.lease_left()
    }
}
