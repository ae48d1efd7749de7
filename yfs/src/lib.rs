//! YFS: a shared file system with coherent write-back caching.
//!
//! * [`core`]: the file-system operations, the cache and the write-back, without FUSE, sockets, disks or clocks.
//! * [`client`]: the core put onto the lock client and the extent client.
//! * [`fuse`]: the kernel's requests turned into operations of the core.
//! * [`fsck`]: whether what stands in the store agrees with itself, and mending it.
//! * [`cluster`]: starting, stopping and watching a cluster's processes.

pub mod client;
pub mod cluster;
pub mod core;
pub mod fsck;
pub mod fuse;
#[doc(hidden)]
pub mod fuzzing;
