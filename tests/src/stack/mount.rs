//! A mount on a simulated machine: the real lock client, extent client and file-system core, with a simulated kernel above.

use super::kernel::SimKernel;
use super::model::ClientId;
use super::network::{HostId, address};
use super::record::Record;
use super::work::{self, OBJECTS, Plan};
use extent_server::{ExtentClient, ExtentOptions};
use lock_rsm::locks::{LockClient, LockClientOptions, LockHooks, LockId, Mode, SessionId};
use rpc::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use yfs::client::clock::WallClock;
use yfs::client::extents::RemoteExtents;
use yfs::client::hooks::{Hooks, RemoteFs};
use yfs::client::locks::RemoteLocks;
use yfs::core::{Clock, Cred, Fs, Limits};
use yfs::fuse::Kernel;

/// The user of all mounts.
pub const USER: Cred = Cred { uid: 0, gid: 0 };
/// An operation fails after so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// The kernel keeps attributes for so long at most.
const ATTR_TIMEOUT: Duration = Duration::from_secs(60);

/// A mount's machine.
#[derive(Clone)]
pub struct MountSetup {
    /// Its machine.
    pub host: HostId,
    /// The process.
    pub client: ClientId,
    /// The lock servers.
    pub locks: Vec<HostId>,
    /// The extent server.
    pub extents: HostId,
    /// Changes are flushed when they are so old.
    pub flush_after: Duration,
    /// What follows from the seed.
    pub seed: u64,
}

/// A file system and the kernel above it.
#[derive(Clone)]
pub struct Mount {
    /// Who it is.
    pub client: ClientId,
    /// The file system.
    pub fs: RemoteFs,
    /// The kernel.
    pub kernel: Arc<SimKernel>,
    /// Who looks on.
    pub record: Record,
}

/// The main program of a mount's machine: mounts, and works as planned.
pub async fn serve(setup: MountSetup, plan: Plan, record: Record) {
    let mount = loop {
        match connect(&setup, &record).await {
            Ok(mount) => break mount,
            Err(why) => {
                tracing::info!("client {}: {why}", setup.client);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    };
    background(&mount.fs);
    work::run(mount, setup, plan).await;
}

async fn connect(setup: &MountSetup, record: &Record) -> Result<Mount, String> {
    let options = ExtentOptions { timeout: PATIENCE, connect_timeout: PATIENCE, ..ExtentOptions::default() };
    let extents = ExtentClient::connect(&address(setup.extents), options).await.map_err(|e| e.to_string())?;
    let rules = Arc::new(Kernel::new(ATTR_TIMEOUT));
    let kernel = Arc::new(SimKernel::new(rules.clone()));
    let hooks = Arc::new(Hooks::new(rules));
    let watched = Arc::new(Watched { hooks: hooks.clone(), client: setup.client, record: record.clone() });
    let options = LockClientOptions {
        wait_max: PATIENCE,
        connect_max: PATIENCE,
        name: format!("client {}", setup.client),
        ..LockClientOptions::default()
    };
    let addresses: Vec<String> = setup.locks.iter().map(|host| address(*host)).collect();
    let locks = LockClient::connect(&addresses, options, watched).await.map_err(|e| e.to_string())?;
    let fs = Fs::new(
        RemoteLocks::new(locks.clone()),
        RemoteExtents::new(extents, locks),
        WallClock,
        kernel.clone(),
        Limits { flush_after: setup.flush_after, allocate_batch: 32, ..Limits::default() },
    );
    hooks.set(fs.clone());
    fs.make_root(USER).await.map_err(|e| e.to_string())?;
    Ok(Mount { client: setup.client, fs, kernel, record: record.clone() })
}

/// What goes on beside the operations, as in the program that mounts.
fn background(fs: &RemoteFs) {
    let (flusher, worker, reclaimer) = (fs.clone(), fs.clone(), fs.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let _ = flusher.flush_due(WallClock.now()).await; // it comes again
        }
    });
    tokio::spawn(async move { worker.background().await });
    tokio::spawn(async move {
        loop {
            let _ = reclaimer.reclaim_orphans().await; // it comes again
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
}

/// The mount's hooks, and somebody who looks on.
struct Watched {
    hooks: Arc<Hooks>,
    client: ClientId,
    record: Record,
}

impl LockHooks for Watched {
    fn before_release(&self, lock: LockId, keep: Option<Mode>) -> BoxFuture<'static, ()> {
        self.hooks.before_release(lock, keep)
    }

    fn session_lost(&self, old: SessionId) {
        self.hooks.session_lost(old);
        self.record.loses(self.client, Some(old), OBJECTS);
    }
}
