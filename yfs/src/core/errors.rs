//! What can go wrong: in the file system's words ([`FsError`]) and in the store's ([`StoreError`]).

use super::types::Ino;

/// Why an operation failed. The adapter turns each into one errno, in one place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// No such name (ENOENT).
    #[error("no such file or directory")]
    NotFound,
    /// The name exists (EEXIST).
    #[error("the name exists already")]
    Exists,
    /// A directory is needed (ENOTDIR).
    #[error("not a directory")]
    NotDir,
    /// Not for directories (EISDIR).
    #[error("is a directory")]
    IsDir,
    /// The directory has entries (ENOTEMPTY).
    #[error("the directory is not empty")]
    NotEmpty,
    /// Longer than [`super::types::NAME_MAX`] or [`super::types::SYMLINK_MAX`] (ENAMETOOLONG).
    #[error("the name is too long")]
    NameTooLong,
    /// The store is full (ENOSPC).
    #[error("no space left in the extent store")]
    NoSpace,
    /// The inode is gone (ESTALE).
    #[error("inode {0} does not exist any more")]
    Stale(Ino),
    /// A lock or the store did not answer in time (EIO).
    #[error("timed out waiting for {0}")]
    TimedOut(String),
    /// The session was lost; what it had not flushed is gone (EIO).
    #[error("the session was lost before the changes were flushed")]
    Lost,
    /// An argument makes no sense, such as moving a directory below itself (EINVAL).
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// [`super::types::LINK_MAX`] reached (EMLINK).
    #[error("too many links")]
    TooManyLinks,
    /// Beyond [`super::types::FILE_SIZE_MAX`] (EFBIG).
    #[error("the file would be too large")]
    FileTooBig,
    /// Operation not permitted on this object (EPERM), such as a hard link to a directory.
    #[error("operation not permitted")]
    NotPermitted,
    /// The target cannot be changed now (EBUSY), such as the root directory.
    #[error("the object is in use")]
    Busy,
    /// The store or the lock service failed (EIO).
    #[error("{0}")]
    Io(String),
}

/// Why the extent store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The session may not write any more: it was expired.
    #[error("session {0} is fenced at the extent server")]
    Fenced(u64),
    /// Full.
    #[error("no space left in the extent store")]
    NoSpace,
    /// The server restarted since the data was written: write it again, then commit again.
    #[error("the extent server restarted; unsynced writes may be lost")]
    Restarted,
    /// It did not answer within the implementation's own timeout.
    #[error("the extent server does not answer: {0}")]
    Unreachable(String),
    /// What was read fails its checksum or makes no sense.
    #[error("corrupt record: {0}")]
    Corrupt(String),
    /// Anything else.
    #[error("extent server: {0}")]
    Io(String),
}

impl From<StoreError> for FsError {
    fn from(e: StoreError) -> FsError {
        match e {
            StoreError::Fenced(_) => FsError::Lost,
            StoreError::NoSpace => FsError::NoSpace,
            StoreError::Unreachable(why) => FsError::TimedOut(format!("the extent server: {why}")),
            StoreError::Restarted | StoreError::Corrupt(_) | StoreError::Io(_) => FsError::Io(e.to_string()),
        }
    }
}

/// Why one attempt at an operation ended.
#[derive(Debug)]
pub(super) enum Step {
    /// What it built on changed meanwhile: from the start.
    Again,
    /// For good.
    Fail(FsError),
}

impl From<FsError> for Step {
    fn from(e: FsError) -> Step {
        Step::Fail(e)
    }
}

impl From<StoreError> for Step {
    fn from(e: StoreError) -> Step {
        Step::Fail(e.into())
    }
}

/// Attempts at one operation. Only lost sessions and others' renames in the same directories use them up.
pub(super) const ATTEMPTS_MAX: u32 = 100;

/// Runs an attempt (an expression that makes its future) until it is not [`Step::Again`].
macro_rules! attempt {
    ($once:expr) => {{
        let mut attempts = 0;
        loop {
            match $once.await {
                Ok(value) => break Ok(value),
                Err($crate::core::errors::Step::Fail(error)) => break Err(error),
                Err($crate::core::errors::Step::Again) => attempts += 1,
            }
            if attempts == $crate::core::errors::ATTEMPTS_MAX {
                break Err($crate::core::FsError::TimedOut("locks that are lost again and again".into()));
            }
        }
    }};
}
pub(super) use attempt;
