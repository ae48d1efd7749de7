//! The whole stack simulated: lock replicas, the extent server and several mounts in one thread, over a network, disks and
//! clocks that follow from a seed. The same seed is the same run, to the last byte ([`Report::digest`]).
//!
//! What runs is the product: the replica with its driver, the lock service, the RPC layer, the lock client, the extent
//! client and the file-system core, each machine on a runtime of its own ([`host`]) whose clock is virtual ([`clock`]). In
//! place of the real thing stand the [`network`], the disks ([`store`], [`replica`]) and the kernel above each mount
//! ([`kernel`]).
//!
//! A run ([`run()`]) has two phases. In the first there are faults ([`faults`]): directions that are cut, connections that
//! break, slow networks and disks, frames lost and repeated, crashes of replicas, of the extent server and of clients that
//! lose what was not synced, machines that stand still, clients among them past their lease. Then all that ends, and every
//! client must work again. [`invariants`] has what is checked; [`model`] says what clients may see.
//!
//! A program that runs it includes `shim.rs`: `yfs_stack` does, and the tests `stack_*`.

pub mod clock;
pub mod faults;
pub mod host;
pub mod invariants;
pub mod kernel;
pub mod model;
pub mod mount;
pub mod network;
pub mod record;
pub mod replica;
mod run;
pub mod setup;
pub mod store;
pub mod work;
pub mod world;

pub use run::{Failure, Report, run, run_as, run_with};
pub use setup::{FaultMix, Setup};
