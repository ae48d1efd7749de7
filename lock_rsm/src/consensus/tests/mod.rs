//! Tests of the core: the rules one by one, and whole clusters under faults.
//!
//! [`cluster`] is the simulated world: virtual time, a network, disks, crashes; everything follows from a
//! seed. [`invariants`] watches it after every step. Other tests of this crate may use both.

pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod invariants;
pub(crate) mod network;
pub(crate) mod program;
pub(crate) mod replica;
pub(crate) mod setup;

mod driven;
mod durability;
mod elections;
mod hand_over;
mod limits;
mod memberships;
mod messages;
mod random;
mod reads;
mod replication;
mod restart;
mod sabotage;
mod snapshots;
mod throughput;
