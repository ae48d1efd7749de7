//! The lock service and the caching lock client.
//!
//! * [`protocol`]: what travels between them.
//! * [`table`]: the lock table, pure and deterministic: what the replicas agree on.

pub mod protocol;
pub mod table;
