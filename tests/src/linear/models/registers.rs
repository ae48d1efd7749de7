//! Registers that are read, written, and compared and swapped.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::linear::Model;
use serde::{Deserialize, Serialize};

/// A map from numbers to numbers; at first every register is empty. Each register is a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers;

/// What is asked of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterOp {
    /// Its value.
    Get {
        /// Which register.
        key: u64,
    },
    /// To hold `value`.
    Put {
        /// Which register.
        key: u64,
        /// The new value.
        value: u64,
    },
    /// To hold `value` if it holds `expected`.
    Cas {
        /// Which register.
        key: u64,
        /// What it must hold.
        expected: Option<u64>,
        /// The new value.
        value: u64,
    },
}

impl RegisterOp {
    /// The register.
    pub fn key(&self) -> u64 {
        match self {
            RegisterOp::Get { key } | RegisterOp::Put { key, .. } | RegisterOp::Cas { key, .. } => *key,
        }
    }
}

/// What a register answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegisterAnswer {
    /// To a get: the value.
    Value(Option<u64>),
    /// To a put.
    Done,
    /// To a compare-and-swap: it held what was expected, and holds the new value now.
    Swapped,
    /// To a compare-and-swap: it holds this instead.
    Differs(Option<u64>),
}

impl RegisterOp {
    /// What a register that holds `value` answers, and what it holds afterwards. A register service can be built on this
    /// too.
    pub fn apply(&self, value: Option<u64>) -> (RegisterAnswer, Option<u64>) {
        match *self {
            RegisterOp::Get { .. } => (RegisterAnswer::Value(value), value),
            RegisterOp::Put { value: new, .. } => (RegisterAnswer::Done, Some(new)),
            RegisterOp::Cas { expected, value: new, .. } if expected == value => {
                (RegisterAnswer::Swapped, Some(new))
            }
            RegisterOp::Cas { .. } => (RegisterAnswer::Differs(value), value),
        }
    }
}

impl Model for Registers {
    type Key = u64;
    type State = Option<u64>;
    type Input = RegisterOp;
    type Output = RegisterAnswer;

    fn key(&self, input: &RegisterOp) -> u64 {
        input.key()
    }

    fn initial(&self, _: &u64) -> Option<u64> {
        None
    }

    fn step(
        &self,
        state: &Option<u64>,
        input: &RegisterOp,
        output: Option<&RegisterAnswer>,
    ) -> Option<Option<u64>> {
        let (answer, after) = input.apply(*state);
        output.is_none_or(|output| *output == answer).then_some(after)
    }
}
