//! A small file that is overwritten as a whole.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Object;
use serde::{Deserialize, Serialize};

/// Its contents are one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register;

/// A system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterOp {
    /// `pread`.
    Read,
    /// `pwrite`.
    Write(u64),
}

impl Object for Register {
    type State = u64;
    type Op = RegisterOp;
    /// What it holds afterwards.
    type Answer = u64;

    fn apply(state: &u64, op: &RegisterOp) -> (u64, u64) {
        let after = match op {
            RegisterOp::Read => *state,
            RegisterOp::Write(value) => *value,
        };
        (after, after)
    }
}
