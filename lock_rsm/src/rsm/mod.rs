//! The RSM library: replicates a program of deterministic, non-blocking RPC handlers.
//!
//! A program implements [`Service`]: it registers its handlers by procedure number, as with a plain RPC server, and can
//! give and take its whole state as bytes. [`Replica::start`] makes it one replica of a group: requests come in through
//! INVOKE, are put into an order all replicas agree on ([`crate::consensus`]), and are executed by every replica in that
//! order; the master answers. [`RsmClient`] finds the master, follows it when it changes, and gets every request executed
//! exactly once.
//!
//! A whole program is in `examples/kv.rs`.

mod client;
pub mod config;
pub mod core;
mod formation;
mod replica;
mod service;
mod state;
mod store;
pub mod test_port;
mod types;
mod wire;

pub use crate::consensus::Viewstamp;

pub use client::{RsmClient, RsmClientOptions, RsmError, replica_status};
pub use formation::FormationError;
pub use replica::{CommandRefused, Replica, ReplicaFailure, StartError};
pub use service::Service;
pub use store::{
    DiskStore, Identity, LogWrite, Recovered, SaveSnapshot, SavedSnapshot, Snapshot, SnapshotPiece, Store,
    StoreError,
};
pub use types::{
    Limits, NOT_MASTER, ReplicaOptions, ReplicaStatus, StateError, Timers, View, ViewHook, procs,
};
