//! The RSM library: replicates a program of deterministic, non-blocking RPC handlers.

mod types;

pub use crate::consensus::Viewstamp;
pub use types::{
    Limits, NOT_MASTER, ReplicaOptions, ReplicaStatus, StateError, Timers, View, ViewHook, procs,
};
