//! The benchmark: workloads on a mount beside a plain directory, what locks cost, and how long a fail-over takes;
//! and the replicated state machine beside those of others.

pub mod acquires;
pub mod fail_over;
pub mod leases;
pub mod load;
pub mod report;
pub mod rsm;
