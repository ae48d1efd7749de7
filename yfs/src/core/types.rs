//! The words of the file system: inode numbers, attributes, times, flags, directory entries.

use std::ops::Deref;
use std::time::Duration;

/// An inode number. It is also the id of the inode's lock and of its bulk data object.
pub type Ino = u64;

/// The root directory's inode number.
pub const ROOT: Ino = 1;

/// The lock (no inode) that a directory's move from one parent to another holds exclusively, so that the ancestors
/// of a directory stand still while it is checked that the move makes no cycle. It is taken before all other locks.
pub const RENAME_LOCK: Ino = 2;

/// The longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;

/// The longest target of a symbolic link, in bytes.
pub const SYMLINK_MAX: usize = 4095;

/// The most links an inode can have (subdirectories of a directory count).
pub const LINK_MAX: u32 = 1_000_000_000;

/// The largest size of a file, in bytes.
pub const FILE_SIZE_MAX: u64 = (1 << 62) - 1;

/// How a lock is wanted or held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Many may hold it; what it protects may be read and cached.
    Shared,
    /// One holds it; what it protects may be changed.
    Exclusive,
}

/// A moment of the wall clock: seconds since 1970 and the nanoseconds of the second (below 1,000,000,000).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since 1970-01-01 UTC; negative before it.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl Time {
    /// The moment one nanosecond later.
    pub fn next(self) -> Time {
        if self.nanos >= 999_999_999 {
            Time { secs: self.secs.saturating_add(1), nanos: 0 }
        } else {
            Time { secs: self.secs, nanos: self.nanos + 1 }
        }
    }

    /// How long after `earlier` this is; `None` when it is before.
    pub fn since(self, earlier: Time) -> Option<Duration> {
        if self < earlier {
            return None;
        }
        let secs = self.secs.checked_sub(earlier.secs)?;
        let whole = Duration::new(u64::try_from(secs).ok()?, self.nanos);
        whole.checked_sub(Duration::from_nanos(earlier.nanos.into()))
    }
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// The attributes of an inode, as `stat` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky (`mode & 0o7777`).
    pub perm: u16,
    /// Links; for a directory 2 + its subdirectories; 0 when unlinked but still open somewhere.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Bytes of a file or of a symlink's target; entries of a directory.
    pub size: u64,
    /// 512-byte units, computed from the size (holes are not counted out).
    pub blocks: u64,
    /// Last read, kept as `relatime` would and only while it costs no lock traffic.
    pub atime: Time,
    /// Last change of the contents; strictly increasing.
    pub mtime: Time,
    /// Last change of contents or attributes; strictly increasing.
    pub ctime: Time,
}

/// How `setattr` sets a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// To the clock's now.
    Now,
    /// To this moment.
    At(Time),
}

/// What `setattr` changes; `None` leaves as is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// New permission bits (`& 0o7777`).
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New size of a regular file: cut, or grown by zeros.
    pub size: Option<u64>,
    /// New access time.
    pub atime: Option<SetTime>,
    /// New modification time.
    pub mtime: Option<SetTime>,
}

/// Who asks. The kernel has checked the permissions; the core needs it for ownership and for clearing set-uid bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cred {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// `O_TRUNC`: cut to nothing.
    pub truncate: bool,
    /// `O_EXCL` (only `create` looks at it): the name must not exist.
    pub exclusive: bool,
}

/// Flags of `rename`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// `RENAME_NOREPLACE`: fail if the new name exists.
    pub no_replace: bool,
    /// `RENAME_EXCHANGE`: both names must exist and swap.
    pub exchange: bool,
}

/// One entry of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Name, without `/` and NUL.
    pub name: Vec<u8>,
    /// Inode.
    pub ino: Ino,
    /// What the inode is.
    pub kind: FileKind,
    /// Pass it as `after` to go on behind this entry. Always at least [`FIRST_COOKIE`] and below 2^63; it depends on
    /// the name only and so stays right while others create and unlink.
    pub cookie: u64,
    /// The attributes, when asked for (`None` when the entry vanished meanwhile).
    pub attr: Option<Attr>,
}

/// Cookies below are free for the adapter (`.` and `..`).
pub const FIRST_COOKIE: u64 = 16;

/// Size and space of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Bytes of the whole store.
    pub bytes_total: u64,
    /// Bytes free.
    pub bytes_free: u64,
    /// Inodes that could exist.
    pub files_total: u64,
    /// Inodes that could still be made.
    pub files_free: u64,
}

/// A result together with the lock guards under which it is true. The adapter keeps it until the kernel has the
/// reply: a lock cannot be revoked before, so a revoke's invalidation never overtakes the reply it has to invalidate.
#[derive(Debug)]
pub struct Held<T, G> {
    /// The result.
    pub value: T,
    guards: [Option<G>; 2],
}

impl<T, G> Held<T, G> {
    pub(super) fn new(value: T, guards: [Option<G>; 2]) -> Held<T, G> {
        Held { value, guards }
    }

    /// Lets go of the locks.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The same guards around something made of the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Held<U, G> {
        Held { value: f(self.value), guards: self.guards }
    }
}

impl<T, G> Deref for Held<T, G> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
