//! The lock service and the caching lock client.
//!
//! * [`protocol`]: what travels between them.
//! * [`table`]: the lock table, pure and deterministic: what the replicas agree on.
//! * [`LockService`]: the table as a replicated program; its master pushes revokes and grants and ends silent sessions.
//! * [`LockClient`]: takes locks for the operations of one process, and caches them.

mod client;
mod clock;
mod expiry;
pub mod protocol;
mod report;
mod service;
mod sessions;
mod stuck;
pub mod table;
mod timing;

pub use client::{LockClient, LockClientOptions, LockError, LockGuard, LockHooks, LockStats, NoHooks};
pub use expiry::LockServiceOptions;
pub use protocol::{LockId, Mode, SessionId};
pub use service::{LockService, LockServiceTasks};
pub use sessions::sessions;
pub use timing::LeaseError;
