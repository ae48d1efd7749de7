//! A replicated state machine library, and a lock service replicated by it.
//!
//! * [`consensus`]: the pure core. Raft's rules, no input or output, no clock.
//! * [`rsm`]: the library: any program with deterministic, non-blocking RPC handlers can be replicated by it.
//! * [`locks`]: the lock service, its first user, and the caching lock client.
//! * [`programs`]: what the command-line programs of this crate share.

pub mod consensus;
#[doc(hidden)]
pub mod fuzzing;
pub mod locks;
#[cfg(feature = "planted")]
pub mod planted;
pub mod programs;
pub mod rsm;
