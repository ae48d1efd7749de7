//! FUSE requests as operations of the core. No logic of its own: names and flags in, attributes and errnos out.
//!
//! Architecture invariant: an answer is sent while the lock guards under which it is true are still held (the `Held` is
//! dropped after `reply`), so no revoke, and no invalidation, comes between the two.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::sync::watch;

use super::attr::{file_attr, kind_of_mode, set_time, unseen_attr};
use super::counters::{Counters, Kind};
use super::dispatch::Dispatcher;
use super::kernel::Kernel;
use super::known::Epoch;
use super::listing;
use super::opened::Opened;
use crate::core::{
    self, Attr, Caller, Clock, Cred, Extents, Fs, FsError, Ino, Locks, NAME_MAX, OpenId, SetAttr,
};

/// The largest WRITE request. Linux sends no larger ones (`/proc/sys/fs/fuse/max_pages_limit`).
const WRITE_MAX: u32 = 1 << 20;

/// Requests that the kernel may have under way on its own account (read-ahead, direct I/O).
const BACKGROUND_MAX: u16 = 64;

/// The unit in which `statfs` counts.
const BLOCK: u64 = 4096;

/// Inode numbers are never used twice, so there is one generation.
pub(super) const GENERATION: Generation = Generation(0);

/// What the operations need, shared with those that are waiting.
pub(super) struct Shared<L, E, C> {
    pub(super) fs: Fs<L, E, C>,
    pub(super) kernel: Arc<Kernel>,
}

impl<L: Locks, E: Extents, C: Clock> Shared<L, E, C> {
    fn attr_ttl(&self, ino: Ino, since: Epoch) -> Duration {
        let lease_left = self.fs.locks().lease_left(); // before the epoch is looked at, see `Kernel::attr_ttl`
        self.kernel.attr_ttl(ino, since, lease_left)
    }

    /// The attributes, once the kernel has no pages that it would wrongly take to go with them.
    async fn getattr(&self, ino: Ino) -> Result<core::Held<Attr, L::Guard>, FsError> {
        loop {
            let since = self.kernel.now();
            let held = self.fs.getattr(ino).await?;
            if !self.kernel.has_doubtful_pages(&held, since) {
                return Ok(held);
            }
            drop(held); // reads that are waited for may need the lock
            self.kernel.drop_pages(ino).await;
        }
    }

    /// As [`Shared::getattr`], by name.
    async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<core::Held<Option<Attr>, L::Guard>, FsError> {
        loop {
            let since = self.kernel.now();
            let held = self.fs.lookup(dir, name).await?;
            match &*held {
                Some(attr) if self.kernel.has_doubtful_pages(attr, since) => {
                    let ino = attr.ino;
                    drop(held);
                    self.kernel.drop_pages(ino).await;
                }
                _ => return Ok(held),
            }
        }
    }

    /// Notes a lookup and says how long its attributes may be kept.
    pub(super) fn learn(&self, ino: Ino, since: Epoch) -> Duration {
        let lease_left = self.fs.locks().lease_left();
        self.kernel.learn(ino, since, lease_left).0
    }
}

/// The file system as `fuser` wants it.
pub(super) struct Adapter<L, E, C> {
    shared: Arc<Shared<L, E, C>>,
    dispatcher: Dispatcher,
    counters: Arc<Counters>,
    /// Dropped with the adapter when the FUSE session has ended, which is how others learn of it.
    _alive: watch::Sender<()>,
}

impl<L: Locks, E: Extents, C: Clock> Adapter<L, E, C> {
    pub(super) fn new(
        fs: Fs<L, E, C>,
        kernel: Arc<Kernel>,
        dispatcher: Dispatcher,
        counters: Arc<Counters>,
        alive: watch::Sender<()>,
    ) -> Self {
        Adapter { shared: Arc::new(Shared { fs, kernel }), dispatcher, counters, _alive: alive }
    }

    /// Runs an operation whose answer says nothing but that it worked.
    fn run_empty<F>(&self, request: &Request, kind: Kind, operation: F, reply: ReplyEmpty)
    where
        F: Future<Output = Result<(), FsError>> + Send + 'static,
    {
        self.dispatcher.run(request.pid(), kind, operation, move |result| match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }

    /// Runs an operation that makes a new inode and answers with it.
    fn run_entry<F>(&self, request: &Request, kind: Kind, operation: F, reply: ReplyEntry)
    where
        F: Future<Output = Result<core::Held<Attr, L::Guard>, FsError>> + Send + 'static,
    {
        let since = self.shared.kernel.now();
        let shared = self.shared.clone();
        self.dispatcher.run(request.pid(), kind, operation, move |result| match result {
            Ok(held) => {
                let ttl = shared.learn(held.ino, since);
                reply.entry_with_ttls(&ttl, &Duration::ZERO, &file_attr(&held), GENERATION);
            }
            Err(errno) => reply.error(errno),
        });
    }
}

impl<L, E, C> Drop for Adapter<L, E, C> {
    fn drop(&mut self) {
        self.shared.kernel.detach();
    }
}

fn cred(request: &Request) -> Cred {
    Cred { uid: request.uid(), gid: request.gid() }
}

fn name_of(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

fn open_flags(flags: i32) -> core::OpenFlags {
    core::OpenFlags { truncate: flags & libc::O_TRUNC != 0, exclusive: flags & libc::O_EXCL != 0 }
}

/// How the kernel treats an opened file. Pages are kept from one open to the next: they are checked against size and
/// modification time before every use. Appending handles go around the page cache, because the kernel's idea of the
/// file's end may be old; the core appends at the true one.
fn fopen_flags(flags: i32) -> FopenFlags {
    if flags & libc::O_APPEND != 0 { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::FOPEN_KEEP_CACHE }
}

fn rename_flags(flags: RenameFlags) -> Result<core::RenameFlags, Errno> {
    let known = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE;
    if !known.contains(flags) {
        return Err(Errno::EINVAL); // RENAME_WHITEOUT, and what is yet to come
    }
    Ok(core::RenameFlags {
        no_replace: flags.contains(RenameFlags::RENAME_NOREPLACE),
        exchange: flags.contains(RenameFlags::RENAME_EXCHANGE),
    })
}

/// The capabilities asked of the kernel, each if it has it.
///
/// Never among them: `WRITEBACK_CACHE` (the kernel would own size and mtime), `HANDLE_KILLPRIV_V2` (set-uid would
/// survive a chown), and what `fuser` does not implement. Nor `READDIRPLUS_AUTO`, with which the kernel asks for names
/// with attributes only if it sees them used, which it does not see of entries that it may not cache: listing 5000 files
/// with their attributes, written by another mount, took 24 s with it and 2 s without, since their locks come in batches
/// then.
const CAPABILITIES: [InitFlags; 7] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
];

impl<L: Locks, E: Extents, C: Clock> Filesystem for Adapter<L, E, C> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::info!("this kernel has no {capability:?}");
            }
        }
        let required = InitFlags::FUSE_AUTO_INVAL_DATA | InitFlags::FUSE_ATOMIC_O_TRUNC;
        if !config.capabilities().contains(required) {
            return Err(io::Error::from_raw_os_error(libc::EPROTONOSUPPORT));
        }
        // Both are clamped by the library to what the kernel offers; the nearest possible value is taken.
        if let Err(nearest) = config.set_max_write(WRITE_MAX) {
            let _ = config.set_max_write(nearest);
        }
        if let Err(nearest) = config.set_max_readahead(WRITE_MAX) {
            let _ = config.set_max_readahead(nearest);
        }
        let _ = config.set_max_background(BACKGROUND_MAX); // fails for 0 only
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name.len() > NAME_MAX {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let since = self.shared.kernel.now();
        let (shared, name) = (self.shared.clone(), name_of(name));
        let looking = shared.clone();
        let operation = async move { looking.lookup(parent.0, &name).await };
        self.dispatcher.run(request.pid(), Kind::Lookup, operation, move |result| match result {
            Ok(held) => match &*held {
                Some(attr) => {
                    let ttl = shared.learn(attr.ino, since);
                    reply.entry_with_ttls(&ttl, &Duration::ZERO, &file_attr(attr), GENERATION);
                }
                None => reply.error(Errno::ENOENT),
            },
            Err(errno) => reply.error(errno),
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, nlookup: u64) {
        self.counters.count(Kind::Forget);
        self.shared.kernel.forget(ino.0, nlookup);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let since = self.shared.kernel.now();
        let shared = self.shared.clone();
        let looking = shared.clone();
        let operation = async move { looking.getattr(ino.0).await };
        self.dispatcher.run(request.pid(), Kind::Getattr, operation, move |result| match result {
            Ok(held) => reply.attr(&shared.attr_ttl(held.ino, since), &file_attr(&held)),
            Err(errno) => reply.error(errno),
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr { mode, uid, gid, size, atime: atime.map(set_time), mtime: mtime.map(set_time) };
        let (fs, cred) = (self.shared.fs.clone(), cred(request));
        let operation = async move { fs.setattr(ino.0, set, cred).await };
        self.dispatcher.run(request.pid(), Kind::Setattr, operation, move |result| match result {
            // The kernel applies this answer even when an invalidation has overtaken it, so it must not be kept.
            Ok(held) => reply.attr(&Duration::ZERO, &unseen_attr(&held)),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, request: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.shared.fs.clone();
        let operation = async move { fs.readlink(ino.0).await };
        self.dispatcher.run(request.pid(), Kind::Readlink, operation, move |result| match result {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32, // applied by the kernel
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = kind_of_mode(mode) else { return reply.error(Errno::EINVAL) };
        let (fs, name, cred) = (self.shared.fs.clone(), name_of(name), cred(request));
        let operation = async move { fs.mknod(parent.0, &name, kind, mode & 0o7777, rdev, cred).await };
        self.run_entry(request, Kind::Mknod, operation, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let (fs, name, cred) = (self.shared.fs.clone(), name_of(name), cred(request));
        let operation = async move { fs.mkdir(parent.0, &name, mode & 0o7777, cred).await };
        self.run_entry(request, Kind::Mkdir, operation, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.shared.fs.clone(), name_of(name));
        self.run_empty(request, Kind::Unlink, async move { fs.unlink(parent.0, &name).await }, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (fs, name) = (self.shared.fs.clone(), name_of(name));
        self.run_empty(request, Kind::Rmdir, async move { fs.rmdir(parent.0, &name).await }, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (fs, name, cred) = (self.shared.fs.clone(), name_of(name), cred(request));
        let target = name_of(target.as_os_str());
        let operation = async move { fs.symlink(parent.0, &name, &target, cred).await };
        self.run_entry(request, Kind::Symlink, operation, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = match rename_flags(flags) {
            Ok(flags) => flags,
            Err(errno) => return reply.error(errno),
        };
        let (fs, name, new_name) = (self.shared.fs.clone(), name_of(name), name_of(new_name));
        let operation = async move { fs.rename(parent.0, &name, new_parent.0, &new_name, flags).await };
        self.run_empty(request, Kind::Rename, operation, reply);
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let since = self.shared.kernel.now();
        let (shared, name) = (self.shared.clone(), name_of(new_name));
        let fs = shared.fs.clone();
        let operation = async move { fs.link(ino.0, new_parent.0, &name).await };
        self.dispatcher.run(request.pid(), Kind::Link, operation, move |result| match result {
            Ok(held) => {
                shared.learn(held.ino, since);
                // As with setattr, the kernel applies this one unconditionally.
                reply.entry_with_ttls(&Duration::ZERO, &Duration::ZERO, &unseen_attr(&held), GENERATION);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.shared.fs.clone();
        let operation = async move {
            let held = fs.open(ino.0, open_flags(flags.0)).await?;
            Ok((Opened::new(fs, ino.0), held))
        };
        self.dispatcher.run(request.pid(), Kind::Open, operation, move |result| match result {
            Ok((opened, _held)) => reply.opened(opened.hand_over(), fopen_flags(flags.0)),
            Err(errno) => reply.error(errno),
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let since = self.shared.kernel.now();
        let (shared, name, cred) = (self.shared.clone(), name_of(name), cred(request));
        let fs = shared.fs.clone();
        let operation = async move {
            let held = fs.create(parent.0, &name, mode & 0o7777, cred, open_flags(flags)).await?;
            Ok((Opened::new(fs, held.ino), held))
        };
        self.dispatcher.run(request.pid(), Kind::Create, operation, move |result| match result {
            Ok((opened, held)) => {
                shared.learn(held.ino, since);
                // One timeout for both the entry and the attributes, and entries get none; and the file may be one the
                // kernel has, in which case it applies these attributes unconditionally.
                let attr = unseen_attr(&held);
                let handle = opened.hand_over();
                reply.created(&Duration::ZERO, &attr, GENERATION, handle, fopen_flags(flags));
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let fs = self.shared.fs.clone();
        let operation = async move { fs.read(ino.0, offset, size).await };
        self.dispatcher.run(request.pid(), Kind::Read, operation, move |result| match result {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let from_page_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        // Pages written back (after a write through a mapping) have their place, whoever's handle carries them.
        let append = flags.0 & libc::O_APPEND != 0 && !from_page_cache;
        let (fs, cred, data) = (self.shared.fs.clone(), cred(request), Bytes::copy_from_slice(data));
        let caller = if from_page_cache { Caller::Kernel } else { Caller::Open(OpenId(fh.0)) };
        let operation = async move { fs.write_by(caller, ino.0, offset, data, append, cred).await };
        self.dispatcher.run(request.pid(), Kind::Write, operation, move |result| match result {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, request: &Request, ino: INodeNo, fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        let (fs, caller) = (self.shared.fs.clone(), Caller::Open(OpenId(fh.0)));
        self.run_empty(request, Kind::Flush, async move { fs.flush_by(caller, ino.0).await }, reply);
    }

    fn release(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let fs = self.shared.fs.clone();
        fs.closed(OpenId(fh.0));
        self.run_empty(request, Kind::Release, async move { fs.release(ino.0).await }, reply);
    }

    fn fsync(&self, request: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let (fs, caller) = (self.shared.fs.clone(), Caller::Open(OpenId(fh.0)));
        self.run_empty(request, Kind::Fsync, async move { fs.fsync_by(caller, ino.0).await }, reply);
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.shared.fs.clone();
        let operation = async move { fs.open(ino.0, core::OpenFlags::default()).await };
        self.dispatcher.run(request.pid(), Kind::Opendir, operation, move |result| match result {
            Ok(_held) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, request: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let operation = listing::names(self.shared.fs.clone(), ino.0, offset);
        self.dispatcher.run(request.pid(), Kind::Readdir, operation, move |result| match result {
            Ok(listing) => listing::reply_names(&listing, reply),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let since = self.shared.kernel.now();
        let shared = self.shared.clone();
        let operation = listing::with_attributes(shared.fs.clone(), ino.0, offset);
        self.dispatcher.run(request.pid(), Kind::Readdirplus, operation, move |result| match result {
            Ok(listing) => listing::reply_with_attributes(&listing, &shared, since, reply),
            Err(errno) => reply.error(errno),
        });
    }

    fn releasedir(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let fs = self.shared.fs.clone();
        self.run_empty(request, Kind::Releasedir, async move { fs.release(ino.0).await }, reply);
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        let fs = self.shared.fs.clone();
        self.run_empty(request, Kind::Fsyncdir, async move { fs.fsync(ino.0).await }, reply);
    }

    fn statfs(&self, request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let fs = self.shared.fs.clone();
        let operation = async move { fs.statfs().await };
        self.dispatcher.run(request.pid(), Kind::Statfs, operation, move |result| match result {
            Ok(space) => {
                let (total, free) = (space.bytes_total / BLOCK, space.bytes_free / BLOCK);
                let block = BLOCK as u32;
                let names = NAME_MAX as u32;
                reply.statfs(total, free, free, space.files_total, space.files_free, block, names, block);
            }
            Err(errno) => reply.error(errno),
        });
    }

    // What follows is refused for good: after one ENOSYS the kernel asks no more and does without (a range is copied by
    // reading and writing, every byte of a file counts as data), or tells the application that it is not supported.

    fn getxattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _request: &Request, _ino: INodeNo, _size: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _request: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_goes_around_the_page_cache() {
        assert_eq!(fopen_flags(libc::O_WRONLY | libc::O_APPEND), FopenFlags::FOPEN_DIRECT_IO);
        assert_eq!(fopen_flags(libc::O_RDWR), FopenFlags::FOPEN_KEEP_CACHE);
    }

    #[test]
    fn rename_flags_are_checked() {
        let both = rename_flags(RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE).unwrap();
        assert!(both.no_replace && both.exchange);
        assert_eq!(rename_flags(RenameFlags::empty()).unwrap(), core::RenameFlags::default());
        assert_eq!(rename_flags(RenameFlags::RENAME_WHITEOUT), Err(Errno::EINVAL));
        assert_eq!(rename_flags(RenameFlags::from_bits_retain(1 << 20)), Err(Errno::EINVAL));
    }

    #[test]
    fn open_flags_are_understood() {
        let flags = open_flags(libc::O_CREAT | libc::O_TRUNC);
        assert!(flags.truncate && !flags.exclusive);
        assert!(open_flags(libc::O_CREAT | libc::O_EXCL).exclusive);
    }
}
