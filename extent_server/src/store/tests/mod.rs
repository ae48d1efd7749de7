//! Tests of the embedded store: against a model, with crashes, with damage, with failing disks, with many threads.

mod concurrency;
mod crash;
mod damage;
mod faults;
mod harness;
mod model;
mod pieces;
mod snapshots;
