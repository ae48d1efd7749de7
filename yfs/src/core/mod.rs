//! The file-system core: operations on inodes under cached locks, with write-back in generations.
//!
//! It knows no FUSE, socket, disk, clock, thread or runtime: locks, store, clock and invalidations come in as the
//! traits of [`traits`]. Every operation is an `async fn` that is ready at its first poll when the locks and the data
//! are cached.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod blocks;
mod cache;
mod dir;
pub mod errors;
mod event;
mod flush;
pub mod format;
mod fs;
mod generation;
mod load;
mod locking;
mod merge;
mod ops;
mod paths;
mod reports;
mod revoke;
pub mod testing;
pub mod traits;
mod tx;
pub mod types;

pub use errors::{FsError, StoreError};
pub use fs::{Fs, Limits};
pub use reports::{Caller, OpenId};
pub use traits::{BootId, Clock, Extents, Invalidate, Locks, NoKernel, Op, ScanPage};
pub use types::*;
