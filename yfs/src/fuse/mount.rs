//! A file system on a mountpoint.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::adapter::Adapter;
use super::counters::Counters;
use super::dispatch::Dispatcher;
use super::kernel::Kernel;
use super::mountinfo;
use super::mountpoint::{self, MountpointError, Unmount};
use crate::core::{Clock, Extents, Fs, Locks};

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// An operation is answered EIO after this time, so that nothing hangs for ever.
    pub timeout: Duration,
    /// Threads that read requests from the kernel.
    pub threads: usize,
    /// How far the kernel reads ahead in a file, in KiB (only root can set it).
    pub read_ahead_kib: u32,
}

impl Default for MountOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        MountOptions { timeout: Duration::from_secs(60), threads: cores.clamp(2, 4), read_ahead_kib: 2048 }
    }
}

/// Why mounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mountpoint will not do.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
    /// FUSE is not there.
    #[error("/dev/fuse cannot be opened: {0} (load the fuse module, or run where FUSE is allowed)")]
    NoFuse(io::Error),
    /// The mount was refused.
    #[error("cannot mount at {}: {source}", path.display())]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A live mount. Dropping it unmounts, lazily if it is busy.
#[derive(Debug)]
pub struct Mounted {
    mountpoint: PathBuf,
    minor: u32,
    counters: Arc<Counters>,
    alive: watch::Receiver<()>,
    session: Option<BackgroundSession>,
}

/// Mounts the file system. Requests are served from when this returns; waiting ones run on `runtime`.
///
/// # Errors
/// One line that says what is wrong with the mountpoint or the system.
pub fn mount<L: Locks, E: Extents, C: Clock>(
    fs: Fs<L, E, C>,
    kernel: Arc<Kernel>,
    path: &Path,
    options: &MountOptions,
    runtime: Handle,
) -> Result<Mounted, MountError> {
    let path = mountpoint::check(path)?;
    std::fs::File::options().read(true).write(true).open("/dev/fuse").map_err(MountError::NoFuse)?;
    let refused = |source| MountError::Refused { path: path.clone(), source };
    let counters = Arc::new(Counters::default());
    let dispatcher = Dispatcher::new(runtime, options.timeout, counters.clone());
    let (alive, watch_alive) = watch::channel(());
    let adapter = Adapter::new(fs, kernel.clone(), dispatcher, counters.clone(), alive);
    let session = Session::new(adapter, &path, &config(options)).map_err(refused)?;
    kernel.attach(session.as_fd().try_clone_to_owned().map_err(refused)?);
    let session = session.spawn().map_err(refused)?;
    let minor = mountinfo::at(&path).map_err(refused)?.map_or(0, |entry| entry.minor);
    if let Err(e) = mountpoint::raise_readahead(minor, options.read_ahead_kib) {
        tracing::info!("read-ahead stays at the kernel's default: {e}");
    }
    Ok(Mounted { mountpoint: path, minor, counters, alive: watch_alive, session: Some(session) })
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("yfs".into()),
        // Not `MountOption::Subtype`, which is kept from the kernel when there is no mount helper between.
        MountOption::CUSTOM("subtype=yfs".into()),
        MountOption::DefaultPermissions,
    ];
    // SAFETY: geteuid has no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    config.acl = if root { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    config
}

impl Mounted {
    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Minor number of the mount's device.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Requests served so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the mount has ended: it was unmounted and its last user is gone, or its connection was aborted.
    pub fn has_ended(&self) -> bool {
        self.alive.has_changed().is_err()
    }

    /// Waits until the mount has ended.
    pub async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }

    /// Takes the mount out of the directory tree. When it is still in use after `patience`, it goes lazily and ends when
    /// its last user lets go. Says which of the two happened: `true` for a clean unmount.
    ///
    /// # Errors
    /// When it is neither; it is still mounted then.
    pub fn unmount(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            // Somebody may have unmounted it already, and mounted something else.
            let mine = mountinfo::at(&self.mountpoint)?.is_some_and(|entry| entry.minor == self.minor);
            if !mine {
                return Ok(true);
            }
            match mountpoint::unmount(&self.mountpoint, Unmount::Clean) {
                Ok(()) => return Ok(true),
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(true),
                Err(_) => return mountpoint::unmount(&self.mountpoint, Unmount::Lazy).map(|()| false),
            }
        }
    }

    /// Waits until the mount has ended and returns why, if not by being unmounted.
    ///
    /// # Errors
    /// What the FUSE session ended with.
    pub fn join(mut self) -> io::Result<()> {
        match self.session.take() {
            Some(session) => session.join(),
            None => Ok(()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        if let Err(e) = self.unmount(Duration::ZERO) {
            tracing::warn!("{} stays mounted: {e}", self.mountpoint.display());
        }
    }
}
