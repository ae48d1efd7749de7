//! A deterministic simulator of replicated groups: the real consensus core and the real replica around it
//! ([`lock_rsm::rsm::core`]), over a network, disks, clocks and clients that are simulated in one thread. Everything follows from a seed: the same seed,
//! the same run, to the last message ([`Report::digest`]).
//!
//! A run ([`run()`]) has two phases. In the first there are faults: messages lost, repeated, delayed and overtaken, cut
//! directions, pauses, crashes that lose what was not synced, slow and failing disks, clocks that differ and drift, clean
//! shutdowns, joins, removals of the silent, replicas that come back without their disk, changes of the membership by hand
//! ([`faults`]). Then they end, and the group must heal, answer every request, and
//! have everything it ever acknowledged. All the while [`invariants`] watches; and what the clients saw of registers and of
//! the lock service must be linearizable ([`histories`]).
//!
//! What the seed decides besides is in [`Setup`]. The program that runs it is `yfs_sim`.

pub mod client;
pub mod digest;
pub mod disk;
pub mod faults;
pub mod histories;
pub mod invariants;
pub mod load;
pub mod network;
pub mod node;
#[cfg(all(test, feature = "planted"))]
mod planted;
pub mod reads;
mod run;
pub mod services;
pub mod setup;
pub mod world;

pub use run::{Failure, Report, run, run_as};
pub use setup::{FaultMix, Setup};
