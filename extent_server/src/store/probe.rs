//! The moments at which a crash or an error of the disk is interesting, so that tests can cause one there.

use crate::types::ObjectId;
use std::io;

/// A moment in the work of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Bulk data is about to be written over or into blocks of a file; marks, if needed, are on disk.
    BeforeData(ObjectId),
    /// Bulk data was written, into the page cache.
    AfterData(ObjectId),
    /// A file is about to be synced.
    BeforeSync(ObjectId),
    /// A file was synced.
    AfterSync(ObjectId),
    /// A group of commits is about to be written to the log.
    BeforeGroup,
    /// A group of commits is on disk, nobody was told yet.
    AfterGroup,
    /// A backing file is about to be cut or unlinked, after the commit that says so.
    BeforeReclaim(ObjectId),
}

/// Whoever wants to be told; an error it returns is taken for an error of the disk.
pub(crate) trait Probe: Send + Sync {
    /// Called at each point.
    fn at(&self, point: Point) -> io::Result<()>;
}
