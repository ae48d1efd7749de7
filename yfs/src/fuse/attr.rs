//! The core's words into FUSE's and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use crate::core::{Attr, FileKind, SetTime, Time};

/// What `stat` shows as the preferred size of reads and writes.
const BLKSIZE: u32 = 4096;

/// Attributes as the kernel takes them.
pub fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH, // macOS only
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLKSIZE,
        flags: 0, // macOS only
    }
}

/// Attributes for an answer that the kernel applies without asking whether they are out of date (SETATTR, LINK).
///
/// The kernel notices that its pages are stale by a modification time that differs from the one it knows. If such an
/// answer told it the true time, it would know the newest one without having dropped the pages of an older version. So
/// it gets one that is off by a nanosecond and a timeout of 0: nobody sees it, and the next look at the file differs.
pub fn unseen_attr(attr: &Attr) -> FileAttr {
    let mut out = file_attr(attr);
    if attr.kind == FileKind::Regular {
        let tick = Duration::from_nanos(1);
        out.mtime = out.mtime.checked_sub(tick).or_else(|| out.mtime.checked_add(tick)).unwrap_or(UNIX_EPOCH);
    }
    out
}

/// The kind of an inode as FUSE names it.
pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind that `mknod`'s mode asks for; `None` for those it cannot make. No type at all means a regular file.
pub fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileKind::Regular),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

/// A time of the core as the system's. Times the system cannot hold become the epoch.
pub fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let base = if time.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    base.and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// A time of the system as the core's.
pub fn time(system: SystemTime) -> Time {
    match system.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Time { secs: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos: after.subsec_nanos() }
        }
        Err(e) => {
            let before = e.duration();
            let secs = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => Time { secs: -secs, nanos: 0 },
                nanos => Time { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

/// How `utimensat` sets a time. `fuser` hands on a time before 1970 with its nanoseconds counted backwards from the
/// second (it subtracts both), where the kernel means forwards; put right here.
pub fn set_time(time_or_now: TimeOrNow) -> SetTime {
    match time_or_now {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(at) => SetTime::At(match at.duration_since(UNIX_EPOCH) {
            Ok(_) => time(at),
            Err(e) => {
                let before = e.duration();
                Time {
                    secs: -i64::try_from(before.as_secs()).unwrap_or(i64::MAX),
                    nanos: before.subsec_nanos(),
                }
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for (secs, nanos) in [(0, 0), (1, 999_999_999), (-1, 0), (-2, 800_000_000), (4_000_000_000, 1)] {
            let t = Time { secs, nanos };
            assert_eq!(time(system_time(t)), t);
        }
        for secs in [i64::MIN, i64::MAX] {
            system_time(Time { secs, nanos: 999_999_999 }); // must not panic
        }
    }

    #[test]
    fn a_time_before_1970_is_understood_as_the_kernel_means_it() {
        // (-2 s, +0.8 s) arrives as 1970 - (2 s + 0.8 s).
        let handed_on = UNIX_EPOCH - Duration::new(2, 800_000_000);
        let SetTime::At(t) = set_time(TimeOrNow::SpecificTime(handed_on)) else { panic!("not a moment") };
        assert_eq!(t, Time { secs: -2, nanos: 800_000_000 });
        assert_eq!(set_time(TimeOrNow::Now), SetTime::Now);
    }

    #[test]
    fn an_unseen_answer_differs_in_the_modification_time() {
        let t = Time { secs: 5, nanos: 0 };
        let attr = Attr {
            ino: 9,
            kind: FileKind::Regular,
            perm: 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 3,
            blocks: 1,
            atime: t,
            mtime: t,
            ctime: t,
        };
        assert_ne!(unseen_attr(&attr).mtime, file_attr(&attr).mtime);
        assert_eq!(unseen_attr(&attr).ctime, file_attr(&attr).ctime);
    }

    #[test]
    fn node_kinds() {
        assert_eq!(kind_of_mode(libc::S_IFREG | 0o644), Some(FileKind::Regular));
        assert_eq!(kind_of_mode(0o644), Some(FileKind::Regular));
        assert_eq!(kind_of_mode(libc::S_IFIFO), Some(FileKind::Fifo));
        assert_eq!(kind_of_mode(libc::S_IFDIR), None);
    }
}
