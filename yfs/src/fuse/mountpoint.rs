//! Mountpoints: may one be mounted on, and how is one taken away again.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::mountinfo::{self, MountEntry};

/// Why a directory cannot be mounted on or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    /// There is nothing at this path.
    #[error("mountpoint {} does not exist: create the directory first", .0.display())]
    Missing(PathBuf),
    /// It is a file or something else.
    #[error("mountpoint {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// It holds files, which the mount would hide.
    #[error("mountpoint {} is not empty: choose an empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error("mountpoint {} is in use: {kind} is mounted there already{}", path.display(), remedy(kind, path))]
    Mounted {
        /// The mountpoint.
        path: PathBuf,
        /// Type of what is mounted.
        kind: String,
    },
    /// Nothing is mounted there.
    #[error("{} is not mounted", .0.display())]
    NotMounted(PathBuf),
    /// Something else is mounted there.
    #[error("{} is a mount of {kind}, not of yfs: use umount(8)", path.display())]
    NotYfs {
        /// The mountpoint.
        path: PathBuf,
        /// Type of what is mounted.
        kind: String,
    },
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn remedy(kind: &str, path: &Path) -> String {
    match kind {
        "fuse.yfs" => format!(" (`yfs umount {}` takes it away, with --force if it is dead)", path.display()),
        _ => String::new(),
    }
}

/// Checks that a file system can be mounted here, and returns the path without symbolic links.
///
/// # Errors
/// One line that names what is wrong.
pub fn check(path: &Path) -> Result<PathBuf, MountpointError> {
    let io_error = |source| MountpointError::Io { path: path.to_path_buf(), source };
    let resolved = mountinfo::resolve(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => MountpointError::Missing(path.to_path_buf()),
        io::ErrorKind::NotADirectory => MountpointError::NotADirectory(path.to_path_buf()),
        _ => io_error(e),
    })?;
    if let Some(entry) = mountinfo::at(&resolved).map_err(io_error)? {
        return Err(MountpointError::Mounted { path: resolved, kind: entry.kind });
    }
    let mut entries = std::fs::read_dir(&resolved).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => MountpointError::Missing(path.to_path_buf()),
        io::ErrorKind::NotADirectory => MountpointError::NotADirectory(path.to_path_buf()),
        _ => io_error(e),
    })?;
    match entries.next() {
        None => Ok(resolved),
        Some(_) => Err(MountpointError::NotEmpty(resolved)),
    }
}

/// The mount of this program at `path`.
///
/// # Errors
/// When nothing, or something else, is mounted there.
pub fn find(path: &Path) -> Result<MountEntry, MountpointError> {
    let io_error = |source| MountpointError::Io { path: path.to_path_buf(), source };
    let resolved = match mountinfo::resolve(path) {
        Ok(resolved) => resolved,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(MountpointError::Missing(path.to_path_buf()));
        }
        Err(e) => return Err(io_error(e)),
    };
    match mountinfo::at(&resolved).map_err(io_error)? {
        None => Err(MountpointError::NotMounted(resolved)),
        Some(entry) if !entry.is_yfs() => Err(MountpointError::NotYfs { path: resolved, kind: entry.kind }),
        Some(entry) => Ok(entry),
    }
}

/// How to take a mount away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmount {
    /// Only when nobody uses it; fails with EBUSY otherwise.
    Clean,
    /// Out of the directory tree at once; it ends when its last user lets go.
    Lazy,
    /// Abort the connection: every request waiting or to come fails at once. Then as `Lazy`.
    Force,
}

/// Takes the mount away. Bounded in time whatever state the server is in: no call here waits for it except a `Clean`
/// unmount, whose caller is the server itself.
///
/// # Errors
/// EBUSY when in use, EINVAL when not mounted (any more), EPERM when the caller may not.
pub fn unmount(path: &Path, how: Unmount) -> io::Result<()> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::UMOUNT_NOFOLLOW
        | match how {
            Unmount::Clean => 0,
            Unmount::Lazy => libc::MNT_DETACH,
            Unmount::Force => libc::MNT_FORCE | libc::MNT_DETACH,
        };
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    if unsafe { libc::umount2(c_path.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::EPERM) => {
            if how == Unmount::Force
                && let Err(e) = abort_connection(path)
            {
                tracing::warn!("{}: requests under way are not ended: {e}", path.display());
            }
            unmount_by_helper(path, how)
        }
        e => Err(e),
    }
}

/// Who is not root may not force an unmount, but may abort the connection of a mount of their own.
fn abort_connection(path: &Path) -> io::Result<()> {
    let entry = mountinfo::at(path)?.ok_or(io::ErrorKind::NotFound)?;
    let abort = format!("/sys/fs/fuse/connections/{}/abort", entry.minor);
    std::fs::write(&abort, "1").map_err(|e| io::Error::new(e.kind(), format!("{abort}: {e}")))
}

/// Who is not root unmounts through the setuid helper of the FUSE package.
fn unmount_by_helper(path: &Path, how: Unmount) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u").arg("-q");
    if how != Unmount::Clean {
        command.arg("-z");
    }
    let output = command.arg("--").arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("fusermount3 -u: {}: {words}", output.status)))
}

/// Lets the kernel read ahead further than FUSE's 128 KiB: sequential reads then arrive as few large requests. Only
/// root may; without it reads are merely slower.
pub fn raise_readahead(minor: u32, kib: u32) -> io::Result<()> {
    std::fs::write(format!("/sys/class/bdi/0:{minor}/read_ahead_kb"), kib.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountpoints_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(check(dir.path()).unwrap(), real);

        let missing = dir.path().join("missing");
        assert!(matches!(check(&missing), Err(MountpointError::Missing(_))));
        assert!(matches!(check(&missing.join("deeper")), Err(MountpointError::Missing(_))));

        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(check(&file), Err(MountpointError::NotADirectory(_))));
        assert!(matches!(check(dir.path()), Err(MountpointError::NotEmpty(_))));
        assert!(matches!(check(Path::new("/proc")), Err(MountpointError::Mounted { .. })));
    }

    #[test]
    fn only_our_mounts_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(find(dir.path()), Err(MountpointError::NotMounted(_))));
        assert!(matches!(find(Path::new("/proc")), Err(MountpointError::NotYfs { .. })));
        assert!(matches!(find(&dir.path().join("a/b")), Err(MountpointError::Missing(_))));
    }

    #[test]
    fn errors_are_one_line_and_name_the_path() {
        let error = check(Path::new("/no/such/place")).unwrap_err().to_string();
        assert!(error.contains("/no/such/place") && error.lines().count() == 1, "{error}");
        let mounted = MountpointError::Mounted { path: "/m".into(), kind: "fuse.yfs".into() }.to_string();
        assert!(mounted.contains("yfs umount /m"), "{mounted}");
    }

    #[test]
    fn unmounting_what_is_not_mounted_fails() {
        let dir = tempfile::tempdir().unwrap();
        for how in [Unmount::Clean, Unmount::Lazy, Unmount::Force] {
            assert!(unmount(dir.path(), how).is_err());
        }
    }
}
