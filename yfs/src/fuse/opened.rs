//! An open that the kernel may not hear of.

use fuser::FileHandle;
use tokio::runtime::Handle;

use crate::core::{Clock, Extents, Fs, Ino, Locks, OpenId};

/// A file that was opened for the kernel. Unless it is handed over it is closed again when dropped: whoever asked for it
/// was answered with an error meanwhile, because it took too long or they were killed.
pub(super) struct Opened<L: Locks, E: Extents, C: Clock> {
    fs: Fs<L, E, C>,
    ino: Ino,
    id: OpenId,
    handed_over: bool,
    runtime: Handle,
}

impl<L: Locks, E: Extents, C: Clock> Opened<L, E, C> {
    /// `ino` has just been opened; on the runtime, which also closes it if need be.
    pub(super) fn new(fs: Fs<L, E, C>, ino: Ino) -> Self {
        let id = fs.opened(ino);
        Opened { fs, ino, id, handed_over: false, runtime: Handle::current() }
    }

    /// The handle under which the kernel has it from now on, and will release it.
    pub(super) fn hand_over(mut self) -> FileHandle {
        self.handed_over = true;
        FileHandle(self.id.0)
    }
}

impl<L: Locks, E: Extents, C: Clock> Drop for Opened<L, E, C> {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        self.fs.closed(self.id);
        let (fs, ino) = (self.fs.clone(), self.ino);
        self.runtime.spawn(async move {
            if let Err(e) = fs.release(ino).await {
                tracing::debug!("inode {ino}: closing what nobody waited for: {e}");
            }
        });
    }
}
