//! How full the file system under the store is, and when to refuse.
//!
//! Running out of space in the middle of a log write would fail the whole store, so writes are refused while a reserve
//! is left. What gives space back may dip into three quarters of the reserve.

use crate::error::StoreError;
use crate::types::StatFs;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RESERVE_MAX: u64 = 256 << 20;
const RESERVE_MIN: u64 = 16 << 20;

/// Watches the space of one file system.
pub(crate) struct Space {
    path: PathBuf,
    reserve: Option<u64>,
}

/// For what room is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To keep more than before.
    Grow,
    /// To keep less than before; a little log all the same.
    Free,
}

impl Space {
    /// Watches the file system that holds `path`. Without a `reserve` a sixteenth of it is kept back, within 16 and 256 MiB.
    pub(crate) fn new(path: &Path, reserve: Option<u64>) -> Space {
        Space { path: path.to_path_buf(), reserve }
    }

    /// Space as callers may use it.
    pub(crate) fn statfs(&self) -> io::Result<StatFs> {
        let mut stat = statvfs(&self.path)?;
        stat.available = stat.available.saturating_sub(self.reserve(&stat));
        Ok(stat)
    }

    /// Refuses when `bytes` more would cut into the reserve.
    pub(crate) fn check(&self, bytes: u64, need: Need) -> Result<(), StoreError> {
        let stat = statvfs(&self.path).map_err(|e| StoreError::from_io(self.path.display(), &e))?;
        let reserve = match need {
            Need::Grow => self.reserve(&stat),
            Need::Free => self.reserve(&stat) / 4,
        };
        if stat.available >= reserve.saturating_add(bytes) { Ok(()) } else { Err(StoreError::NoSpace) }
    }

    fn reserve(&self, stat: &StatFs) -> u64 {
        self.reserve.unwrap_or_else(|| (stat.total / 16).clamp(RESERVE_MIN, RESERVE_MAX))
    }
}

fn statvfs(path: &Path) -> io::Result<StatFs> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path is NUL-terminated and `stat` is large enough for the call to fill.
    let failed = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed memory is a valid `statvfs`, and the call has filled it.
    let stat = unsafe { stat.assume_init() };
    let unit = stat.f_frsize;
    Ok(StatFs {
        total: stat.f_blocks * unit,
        free: stat.f_bfree * unit,
        available: stat.f_bavail * unit,
        files: stat.f_files,
        files_free: stat.f_favail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_kept_and_freeing_may_use_most_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let available = statvfs(dir.path()).unwrap().available;
        let full = Space::new(dir.path(), Some(available * 2));
        assert_eq!(full.check(1, Need::Grow), Err(StoreError::NoSpace));
        assert_eq!(full.check(1, Need::Free), Ok(()));
        assert_eq!(full.statfs().unwrap().available, 0);
        let roomy = Space::new(dir.path(), Some(0));
        assert_eq!(roomy.check(1, Need::Grow), Ok(()));
        assert_eq!(roomy.check(u64::MAX, Need::Grow), Err(StoreError::NoSpace));
    }
}
