//! Locks as those who work under them see them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::linear::Model;
use lock_rsm::locks::Mode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Guards of locks: one exclusive, or any number of shared ones, at a time. Each lock is a part.
///
/// A guard protects until it is released, or until the lease of its session was last seen to hold. How to record the
/// latter: a [`GuardOp::Release`] asked at the last moment when the lease was seen to hold, without an answer; the guard
/// may then end at any time after that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards;

/// What is done with guards. The answer is that it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardOp {
    /// To hold the lock.
    Acquire {
        /// Which lock.
        lock: u64,
        /// In which mode.
        mode: Mode,
        /// Names this guard; no other has this number.
        guard: u64,
    },
    /// To hold it no longer.
    Release {
        /// Which lock.
        lock: u64,
        /// Which guard.
        guard: u64,
    },
}

impl Model for Guards {
    type Key = u64;
    type State = BTreeMap<u64, Mode>;
    type Input = GuardOp;
    type Output = ();

    fn key(&self, input: &GuardOp) -> u64 {
        match input {
            GuardOp::Acquire { lock, .. } | GuardOp::Release { lock, .. } => *lock,
        }
    }

    fn initial(&self, _: &u64) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, held: &Self::State, input: &GuardOp, _: Option<&()>) -> Option<Self::State> {
        let mut held = held.clone();
        match *input {
            GuardOp::Acquire { mode, guard, .. } => {
                let free = held.values().all(|other| other.goes_with(mode));
                (free && held.insert(guard, mode).is_none()).then_some(held)
            }
            GuardOp::Release { guard, .. } => held.remove(&guard).is_some().then_some(held),
        }
    }
}
