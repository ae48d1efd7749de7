//! What locking costs a create: the calls to the lock service, with locks cached as they are, and with every lock given
//! back at once, as the labs had it before caching.

use super::report::Acquires;
use extent_server::{ExtentClient, ExtentError, ExtentOptions};
use lock_rsm::locks::{LockClient, LockClientOptions, LockError};
use std::sync::Arc;
use std::time::Duration;
use yfs::client::clock::WallClock;
use yfs::client::extents::RemoteExtents;
use yfs::client::hooks::Hooks;
use yfs::client::locks::RemoteLocks;
use yfs::core::{Cred, FileKind, Fs, FsError, Limits, ROOT};
use yfs::fuse::Kernel;

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum AcquiresError {
    /// The lock service.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The extent server.
    #[error(transparent)]
    Extents(#[from] ExtentError),
    /// The file system.
    #[error("the file system: {0}")]
    Fs(#[from] FsError),
}

/// Creates `files` files with and without caching of locks, through the file system's core without a kernel.
pub async fn measure(locks: &[String], extents: &str, files: usize) -> Result<Acquires, AcquiresError> {
    let cached = calls_per_file(locks, extents, files, true).await?;
    let uncached = calls_per_file(locks, extents, files, false).await?;
    Ok(Acquires { files, cached, uncached })
}

async fn calls_per_file(
    locks: &[String],
    extents: &str,
    files: usize,
    cache: bool,
) -> Result<f64, AcquiresError> {
    let kernel = Arc::new(Kernel::new(Duration::ZERO));
    let hooks = Arc::new(Hooks::new(kernel.clone()));
    let options = LockClientOptions { cache, ..LockClientOptions::default() };
    let client = LockClient::connect(locks, options, hooks.clone()).await?;
    let extents = ExtentClient::connect(extents, ExtentOptions::default()).await?;
    let store = RemoteExtents::new(extents, client.clone());
    let fs = Fs::new(RemoteLocks::new(client.clone()), store, WallClock, kernel, Limits::default());
    hooks.set(fs.clone());

    let owner = Cred { uid: 0, gid: 0 };
    let dir = fs.mkdir(ROOT, format!("acquires-{cache}").as_bytes(), 0o755, owner).await?.into_value();
    let before = client.stats();
    for i in 0..files {
        // Made, not opened: who has a file open keeps one lock as a sign of life, whatever he does with the others.
        let name = format!("file-{i}");
        fs.mknod(dir.ino, name.as_bytes(), FileKind::Regular, 0o644, 0, owner).await?;
    }
    let after = client.stats();
    for i in 0..files {
        fs.unlink(dir.ino, format!("file-{i}").as_bytes()).await?;
    }
    fs.rmdir(ROOT, format!("acquires-{cache}").as_bytes()).await?;
    fs.flush_all().await?;
    client.close().await?;
    // Fresh inode numbers come with their locks, in ranges; asking for a range counts like asking for a lock.
    let calls = after.acquire_rpcs - before.acquire_rpcs + after.allocate_rpcs - before.allocate_rpcs;
    Ok(calls as f64 / files as f64)
}
