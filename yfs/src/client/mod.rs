//! The core put onto the lock client and the extent client.
//!
//! * [`locks`], [`extents`], [`clock`]: the core's traits over the two clients and the wall clock.
//! * [`hooks`]: what the lock client calls before it gives a lock back.
//! * [`program`]: the life of a mount's process, from connecting to the last flush.
//! * [`daemon`], [`control`]: going to the background, and being asked to unmount.

pub mod clock;
pub mod control;
pub mod daemon;
pub mod extents;
pub mod hooks;
pub mod locks;
pub mod program;
