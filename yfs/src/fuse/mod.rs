//! The kernel's requests turned into operations of the core.
//!
//! * `adapter`: one method per request, no logic; `listing` for directories; `attr` and `errno` translate.
//! * `dispatch`: polls an operation once on the FUSE thread, moves it to the runtime if it must wait; `caller`: whether who
//!   waits was killed; `opened`: an open that nobody waited for.
//! * `kernel`, `known`, `notify`: what the kernel caches, and taking it back when a lock goes.
//! * `mount`: putting it all on a mountpoint; `mountinfo`, `mountpoint`: looking at mountpoints from outside.
//!
//! `fuser` is named in this module only: its next release changes its interfaces.

mod adapter;
pub mod attr;
mod caller;
pub mod counters;
pub mod dispatch;
pub mod errno;
pub mod kernel;
pub mod known;
mod listing;
pub mod mount;
pub mod mountinfo;
pub mod mountpoint;
pub mod notify;
mod opened;

pub use kernel::Kernel;
pub use mount::{MountError, MountOptions, Mounted, mount};
