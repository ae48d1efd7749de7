//! A simulated kernel on a mount: it caches attributes and pages as the real one does, and believes what it was told.
//!
//! Attributes are believed for as long as [`yfs::fuse::Kernel`] allowed, or until they are invalidated. Pages are used when
//! the attributes are believed, or when those fetched anew show the same modification time.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;
use yfs::client::hooks::RemoteFs;
use yfs::core::{FsError, Ino, Invalidate, Locks, Time};
use yfs::fuse::Kernel;

#[derive(Debug)]
struct Cached {
    believed_until: Instant,
    mtime: Time,
    /// The pages, and the modification time they belong to.
    pages: Option<(Time, Bytes)>,
}

/// The kernel of one mount.
#[derive(Debug)]
pub struct SimKernel {
    /// What decides how long things may be believed.
    rules: Arc<Kernel>,
    inodes: Mutex<BTreeMap<Ino, Cached>>,
}

impl SimKernel {
    /// A kernel that knows nothing.
    pub fn new(rules: Arc<Kernel>) -> SimKernel {
        SimKernel { rules, inodes: Mutex::default() }
    }

    /// What a process reads of the first `len` bytes, and whether the file system was not asked.
    pub async fn read(&self, fs: &RemoteFs, ino: Ino, len: u32) -> Result<(Bytes, bool), FsError> {
        if let Some(pages) = self.believed(ino) {
            return Ok((pages, true));
        }
        let mtime = self.refresh(fs, ino).await?;
        if let Some(pages) = self.pages(ino, mtime) {
            return Ok((pages, false));
        }
        let pages = fs.read(ino, 0, len).await?;
        if let Some(cached) = self.inodes.lock().get_mut(&ino) {
            cached.pages = Some((mtime, pages.clone()));
        }
        Ok((pages, false))
    }

    /// A process has written: pages and attributes are fetched anew.
    pub fn wrote(&self, ino: Ino) {
        self.inodes.lock().remove(&ino);
    }

    fn believed(&self, ino: Ino) -> Option<Bytes> {
        let inodes = self.inodes.lock();
        let cached = inodes.get(&ino).filter(|cached| Instant::now() < cached.believed_until)?;
        cached.pages.as_ref().filter(|(mtime, _)| *mtime == cached.mtime).map(|(_, pages)| pages.clone())
    }

    fn pages(&self, ino: Ino, mtime: Time) -> Option<Bytes> {
        let inodes = self.inodes.lock();
        let (of, pages) = inodes.get(&ino)?.pages.as_ref()?;
        (*of == mtime).then(|| pages.clone())
    }

    /// Fetches the attributes. They are noted before the lock can go.
    async fn refresh(&self, fs: &RemoteFs, ino: Ino) -> Result<Time, FsError> {
        let since = self.rules.now();
        let held = fs.getattr(ino).await?;
        let ttl = self.rules.attr_ttl(ino, since, fs.locks().lease_left());
        let (believed_until, mtime) = (Instant::now() + ttl, held.mtime);
        let mut inodes = self.inodes.lock();
        let cached = inodes.entry(ino).or_insert(Cached { believed_until, mtime, pages: None });
        (cached.believed_until, cached.mtime) = (believed_until, mtime);
        drop(inodes);
        drop(held);
        Ok(mtime)
    }
}

impl Invalidate for SimKernel {
    fn attributes(&self, ino: Ino) {
        self.rules.attributes(ino);
        if let Some(cached) = self.inodes.lock().get_mut(&ino) {
            cached.believed_until = Instant::now();
        }
    }

    fn entries(&self, dir: Ino) {
        self.rules.entries(dir);
    }

    fn everything(&self) {
        self.rules.everything();
        for cached in self.inodes.lock().values_mut() {
            cached.believed_until = Instant::now();
        }
    }
}
