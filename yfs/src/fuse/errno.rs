//! The one place where an error of the core becomes an errno.

use fuser::Errno;

use crate::core::FsError;

/// The errno an application sees. Exhaustive on purpose: a new kind of error must be decided here.
pub fn errno(error: &FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::Exists => Errno::EEXIST,
        FsError::NotDir => Errno::ENOTDIR,
        FsError::IsDir => Errno::EISDIR,
        FsError::NotEmpty => Errno::ENOTEMPTY,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::NoSpace => Errno::ENOSPC,
        FsError::Stale(_) => Errno::ESTALE,
        FsError::TimedOut(_) | FsError::Lost | FsError::Io(_) => Errno::EIO,
        FsError::Invalid(_) => Errno::EINVAL,
        FsError::TooManyLinks => Errno::EMLINK,
        FsError::FileTooBig => Errno::EFBIG,
        FsError::NotPermitted => Errno::EPERM,
        FsError::Busy => Errno::EBUSY,
    }
}

/// Whether the error says that something is wrong with the cluster, as opposed to what an application asked for.
pub fn is_failure(error: &FsError) -> bool {
    matches!(error, FsError::TimedOut(_) | FsError::Lost | FsError::Io(_) | FsError::NoSpace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_errno() {
        let table = [
            (FsError::NotFound, libc::ENOENT),
            (FsError::Exists, libc::EEXIST),
            (FsError::NotDir, libc::ENOTDIR),
            (FsError::IsDir, libc::EISDIR),
            (FsError::NotEmpty, libc::ENOTEMPTY),
            (FsError::NameTooLong, libc::ENAMETOOLONG),
            (FsError::NoSpace, libc::ENOSPC),
            (FsError::Stale(9), libc::ESTALE),
            (FsError::TimedOut("lock 7".into()), libc::EIO),
            (FsError::Lost, libc::EIO),
            (FsError::Io("disk".into()), libc::EIO),
            (FsError::Invalid("why"), libc::EINVAL),
            (FsError::TooManyLinks, libc::EMLINK),
            (FsError::FileTooBig, libc::EFBIG),
            (FsError::NotPermitted, libc::EPERM),
            (FsError::Busy, libc::EBUSY),
        ];
        for (error, expected) in table {
            assert_eq!(errno(&error).code(), expected, "{error}");
        }
    }

    #[test]
    fn failures_of_the_cluster_are_told_from_mistakes_of_the_caller() {
        assert!(is_failure(&FsError::Lost) && is_failure(&FsError::Io("x".into())));
        assert!(!is_failure(&FsError::NotFound) && !is_failure(&FsError::Exists));
    }
}
