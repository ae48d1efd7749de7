//! Where a mount is at the moment.

use parking_lot::{RwLock, RwLockReadGuard};
use std::path::PathBuf;
use std::time::Duration;

/// A mount that workers use.
#[derive(Debug, Clone)]
pub struct Place {
    /// The mountpoint.
    pub root: PathBuf,
    /// Which process serves it: one that is started again is another client.
    pub client: u64,
}

/// Keeps calls on the same file through the same mount apart, by the file's number.
///
/// The kernel copies what is written into its page cache first and asks the file system then. So who reads the file on
/// the same machine meanwhile sees it a moment before anybody else can: that is no fault of what is tested here, and no
/// history with it is linearizable.
pub type Apart = [RwLock<()>; 16];

/// One of the mounts, whichever process serves it. Workers hold it while they are in a system call, so that one call
/// never begins with one process and ends with the next.
#[derive(Debug, Default)]
pub struct Seat {
    place: RwLock<Option<Place>>,
    /// Held exclusive during a write, shared during a read.
    pub apart: Apart,
}

impl Seat {
    /// The mount as it is now, if it is there, for as long as the guard lives.
    pub fn sit(&self) -> Option<Sitting<'_>> {
        let guard = self.place.read();
        guard.is_some().then_some(Sitting(guard))
    }

    /// Puts another mount in its place, or none, once nobody is in a system call. False when somebody still is after
    /// `patience`.
    pub fn set(&self, place: Option<Place>, patience: Duration) -> bool {
        match self.place.try_write_for(patience) {
            Some(mut guard) => {
                *guard = place;
                true
            }
            None => false,
        }
    }
}

/// Keeps a mount in its seat.
pub struct Sitting<'a>(RwLockReadGuard<'a, Option<Place>>);

impl std::ops::Deref for Sitting<'_> {
    type Target = Place;

    fn deref(&self) -> &Place {
        self.0.as_ref().expect("looked at when it was taken, and held since")
    }
}
