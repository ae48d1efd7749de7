//! The life of a mount's process: connect, mount, serve, flush, unmount.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use extent_server::{ExtentClient, ExtentError, ExtentOptions};
use lock_rsm::locks::{LockClient, LockClientOptions, LockError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::clock::WallClock;
use super::control::{self, UnmountRequest, Unmounted};
use super::extents::RemoteExtents;
use super::hooks::{Hooks, RemoteFs};
use super::locks::RemoteLocks;
use crate::core::{Clock, Cred, Fs, FsError, Limits};
use crate::fuse::{self, Kernel, MountError, MountOptions, Mounted};

/// How long a server may take to answer when the mount begins.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// The kernel keeps attributes for this long at most; the lease of the locks usually ends it sooner.
const ATTR_TIMEOUT: Duration = Duration::from_secs(60);
/// How often old changes are looked for.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// How often unlinked files of dead clients are looked for.
const ORPHANS_EVERY: Duration = Duration::from_secs(60);
/// A busy mount is asked again for this long before it is unmounted lazily.
const BUSY_PATIENCE: Duration = Duration::from_secs(2);
/// How long the last users of a mount may take when its process was told to end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// How long fencing one's own session may take when not everything could be flushed.
const FENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the locks may take to be given back at the end.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);

/// What to mount.
#[derive(Clone, Debug)]
pub struct MountRequest {
    /// Where.
    pub mountpoint: PathBuf,
    /// Addresses of the lock replicas.
    pub locks: Vec<String>,
    /// Address of the extent server.
    pub extents: String,
    /// Identity the extent server's store must have, when known.
    pub store: Option<String>,
    /// An operation fails after this time.
    pub timeout: Duration,
}

/// Why a mount did not come up, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The extent server.
    #[error("{source} (--extents {addr})")]
    Extents {
        /// The address given.
        addr: String,
        /// What is wrong.
        source: ExtentError,
    },
    /// It answers, but not as an extent server.
    #[error("{addr} does not answer as an extent server: {source} (is --extents right?)")]
    NotExtents {
        /// The address given.
        addr: String,
        /// What is wrong.
        source: ExtentError,
    },
    /// It does not answer.
    #[error(
        "no extent server answers at {0} within {CONNECT_PATIENCE:?}: is it running, and is --extents right?"
    )]
    NoExtents(String),
    /// Another cluster's.
    #[error(
        "the extent server at {addr} holds store {found}, but this cluster was made with store {expected}"
    )]
    OtherStore {
        /// The address given.
        addr: String,
        /// The store it has.
        found: String,
        /// The store it should have.
        expected: String,
    },
    /// The lock service.
    #[error("cannot open a session with the lock service at {addrs}: {source}")]
    Locks {
        /// The addresses given.
        addrs: String,
        /// What is wrong.
        source: LockError,
    },
    /// It does not answer.
    #[error(
        "no lock service answers at {0} within {CONNECT_PATIENCE:?}: are the lock servers running, and is --locks right?"
    )]
    NoLocks(String),
    /// The root directory cannot be read or made.
    #[error("cannot read the root directory: {0}")]
    Root(#[source] FsError),
    /// The mount.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The process cannot listen for signals or requests.
    #[error("cannot serve the mount: {0}")]
    Serve(#[source] std::io::Error),
    /// The last flush.
    #[error("not everything could be flushed before the mount ended: {0}")]
    Flush(#[source] FsError),
}

/// Connects, mounts, calls `ready` with the mountpoint, and serves until the mount is taken away or the process is told
/// to end; then everything is flushed.
///
/// # Errors
/// One line that says why there is no mount, or what was lost at its end.
pub async fn run(request: &MountRequest, ready: impl FnOnce(&Path)) -> Result<(), ProgramError> {
    fuse::mountpoint::check(&request.mountpoint).map_err(MountError::from)?; // before bothering any server
    let kernel = Arc::new(Kernel::new(ATTR_TIMEOUT));
    let servers = connect(request, &kernel).await?;
    let fs = servers.fs.clone();
    let mut events = match serve(request, &fs, kernel).await {
        Ok(events) => events,
        Err(e) => {
            servers.close(true).await;
            return Err(e);
        }
    };
    ready(events.mounted.mountpoint());
    let tasks = background(&fs);
    let outcome = events.until_ended(&fs).await;
    events.requests.close(); // nothing is mounted any more that could be unmounted
    tracing::debug!("requests served: {}", events.mounted.counters());
    let flushed = fs.flush_all().await.map_err(ProgramError::Flush);
    tasks.iter().for_each(JoinHandle::abort);
    servers.close(flushed.is_ok()).await;
    let result = outcome.and(flushed);
    if let Some(request) = events.answer.take() {
        let told = result.as_ref().map(|()| Unmounted::Clean).map_err(ToString::to_string);
        request.answer(told).await;
    }
    result
}

/// A file system on its servers.
struct Servers {
    fs: RemoteFs,
    locks: LockClient,
    extents: ExtentClient,
    hooks: Arc<Hooks>,
}

impl Servers {
    /// Gives all locks back and ends the session, so that nobody has to wait for its lease.
    ///
    /// If not everything was flushed, a write that was given up may still be on its way to the extent server, and must not
    /// land when others have the locks: then the session is fenced first, or if that cannot be done, left to the lock
    /// service, which does it when the lease has run out.
    async fn close(self, flushed: bool) {
        if !flushed && !self.fenced().await {
            return;
        }
        self.hooks.close();
        match tokio::time::timeout(CLOSE_PATIENCE, self.locks.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!("the session was not closed in order: {e}"),
            Err(_) => {
                tracing::warn!("the session was not closed in order: no answer within {CLOSE_PATIENCE:?}")
            }
        }
    }
}

impl Servers {
    /// Whether nothing of this session lands any more.
    async fn fenced(&self) -> bool {
        let session = self.locks.session();
        if session == 0 {
            return true; // lost already, and so fenced
        }
        let trouble = match tokio::time::timeout(FENCE_PATIENCE, self.extents.fence(session)).await {
            Ok(Ok(())) => return true,
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no answer within {FENCE_PATIENCE:?}"),
        };
        tracing::warn!("the locks stay taken until the lease of session {session} has run out: {trouble}");
        false
    }
}

async fn connect(request: &MountRequest, kernel: &Arc<Kernel>) -> Result<Servers, ProgramError> {
    let extents = connect_extents(request).await?;
    let hooks = Arc::new(Hooks::new(kernel.clone()));
    let locks = connect_locks(request, hooks.clone()).await?;
    let fs = Fs::new(
        RemoteLocks::new(locks.clone()),
        RemoteExtents::new(extents.clone(), locks.clone()),
        WallClock,
        kernel.clone(),
        Limits::default(),
    );
    hooks.set(fs.clone());
    // SAFETY: these have no preconditions.
    let owner = unsafe { Cred { uid: libc::geteuid(), gid: libc::getegid() } };
    let servers = Servers { fs, locks, extents, hooks };
    match servers.fs.make_root(owner).await {
        Ok(()) => Ok(servers),
        Err(e) => {
            servers.close(false).await;
            Err(ProgramError::Root(e))
        }
    }
}

async fn connect_extents(request: &MountRequest) -> Result<ExtentClient, ProgramError> {
    let addr = request.extents.clone();
    let options = ExtentOptions {
        timeout: request.timeout,
        connect_timeout: CONNECT_PATIENCE,
        ..ExtentOptions::default()
    };
    let asked = async {
        let client = ExtentClient::connect(&addr, options).await?;
        client.status().await.map(|status| (client, status))
    };
    let (client, status) = match tokio::time::timeout(CONNECT_PATIENCE, asked).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(source @ ExtentError::Protocol { .. })) => {
            return Err(ProgramError::NotExtents { addr, source });
        }
        Ok(Err(source)) => return Err(ProgramError::Extents { addr, source }),
        Err(_) => return Err(ProgramError::NoExtents(addr)),
    };
    match &request.store {
        Some(expected) if *expected != status.store => {
            Err(ProgramError::OtherStore { addr, found: status.store, expected: expected.clone() })
        }
        _ => Ok(client),
    }
}

async fn connect_locks(request: &MountRequest, hooks: Arc<Hooks>) -> Result<LockClient, ProgramError> {
    let addrs = request.locks.join(",");
    let name = format!("yfs mount {} (process {})", request.mountpoint.display(), std::process::id());
    let options = LockClientOptions {
        wait_max: request.timeout,
        connect_max: CONNECT_PATIENCE,
        name,
        ..LockClientOptions::default()
    };
    match tokio::time::timeout(CONNECT_PATIENCE, LockClient::connect(&request.locks, options, hooks)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(source)) => Err(ProgramError::Locks { addrs, source }),
        Err(_) => Err(ProgramError::NoLocks(addrs)),
    }
}

async fn serve(request: &MountRequest, fs: &RemoteFs, kernel: Arc<Kernel>) -> Result<Events, ProgramError> {
    let terminate = signal(SignalKind::terminate()).map_err(ProgramError::Serve)?;
    let interrupt = signal(SignalKind::interrupt()).map_err(ProgramError::Serve)?;
    let options = MountOptions { timeout: request.timeout, ..MountOptions::default() };
    let (fs, path) = (fs.clone(), request.mountpoint.clone());
    let runtime = tokio::runtime::Handle::current();
    // The kernel asks for the root while it mounts, so this thread must be free to answer.
    let mounting = tokio::task::spawn_blocking(move || fuse::mount(fs, kernel, &path, &options, runtime));
    let mounted = mounting.await.map_err(|e| ProgramError::Serve(std::io::Error::other(e)))??;
    let requests = control::listen(mounted.minor()).map_err(ProgramError::Serve)?;
    Ok(Events { mounted: Arc::new(mounted), requests, terminate, interrupt, answer: None })
}

/// Work that goes on while the mount lives.
fn background(fs: &RemoteFs) -> Vec<JoinHandle<()>> {
    let (flusher, worker, reclaimer) = (fs.clone(), fs.clone(), fs.clone());
    vec![
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_EVERY).await;
                if let Err(e) = flusher.flush_due(WallClock.now()).await {
                    tracing::warn!("flushing in the background: {e}");
                }
            }
        }),
        tokio::spawn(async move { worker.background().await }),
        tokio::spawn(async move {
            loop {
                match reclaimer.reclaim_orphans().await {
                    Ok(0) => {}
                    Ok(n) => tracing::info!("removed {n} unlinked files that nobody has open any more"),
                    Err(e) => tracing::debug!("looking for unlinked files: {e}"),
                }
                tokio::time::sleep(ORPHANS_EVERY).await;
            }
        }),
    ]
}

/// What can end a mount.
struct Events {
    mounted: Arc<Mounted>,
    requests: mpsc::Receiver<UnmountRequest>,
    terminate: Signal,
    interrupt: Signal,
    /// Who waits to hear how it ended.
    answer: Option<UnmountRequest>,
}

impl Events {
    /// Until the mount has ended. An unmount on request that fails leaves the mount as it was.
    async fn until_ended(&mut self, fs: &RemoteFs) -> Result<(), ProgramError> {
        loop {
            let told_to_end = tokio::select! {
                () = self.mounted.ended() => return Ok(()),
                Some(request) = self.requests.recv() => {
                    self.on_request(fs, request).await;
                    false
                }
                _ = self.terminate.recv() => true,
                _ = self.interrupt.recv() => true,
            };
            if told_to_end {
                return self.end(fs).await;
            }
        }
    }

    /// `yfs umount`.
    async fn on_request(&mut self, fs: &RemoteFs, request: UnmountRequest) {
        if let Err(e) = fs.flush_all().await {
            return request
                .answer(Err(format!("not everything can be flushed: {e}; it stays mounted")))
                .await;
        }
        match unmount(&self.mounted).await {
            // Whoever asked hears how the end went, which comes soon: nobody uses the mount any more.
            Ok(true) => self.answer = Some(request),
            Ok(false) => {
                tracing::info!("{} was busy and is unmounted lazily", self.mounted.mountpoint().display());
                request.answer(Ok(Unmounted::Busy)).await;
            }
            Err(e) => request.answer(Err(format!("cannot unmount: {e}"))).await,
        }
    }

    /// A signal: unmount whatever happens, and give the last users a little time.
    async fn end(&self, fs: &RemoteFs) -> Result<(), ProgramError> {
        let flushed = fs.flush_all().await.map_err(ProgramError::Flush);
        if let Err(e) = unmount(&self.mounted).await {
            tracing::warn!("{} stays mounted: {e}", self.mounted.mountpoint().display());
        }
        if tokio::time::timeout(DRAIN_PATIENCE, self.mounted.ended()).await.is_err() {
            tracing::warn!("{} is still in use; ending all the same", self.mounted.mountpoint().display());
        }
        flushed
    }
}

/// Off the runtime's threads: the kernel may call back while it unmounts.
async fn unmount(mounted: &Arc<Mounted>) -> std::io::Result<bool> {
    let mounted = mounted.clone();
    tokio::task::spawn_blocking(move || mounted.unmount(BUSY_PATIENCE))
        .await
        .map_err(std::io::Error::other)?
}
