//! Numbers that are given out once.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::linear::Model;
use serde::{Deserialize, Serialize};

/// `allocate(count)` answers the first of `count` numbers that nobody was given before, larger than all of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The first number of all.
    pub first: u64,
    /// Whether numbers may be passed over. If not, an allocation that was executed twice shows.
    pub gaps: bool,
}

/// A request for so many numbers. Its answer is the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// How many.
    pub count: u64,
}

impl Model for Ids {
    type Key = ();
    type State = u64;
    type Input = Allocation;
    type Output = u64;

    fn key(&self, _: &Allocation) {}

    fn initial(&self, (): &()) -> u64 {
        self.first
    }

    fn step(&self, next: &u64, input: &Allocation, output: Option<&u64>) -> Option<u64> {
        match output {
            Some(first) => (first == next || self.gaps && first > next).then_some(first + input.count),
            // Where gaps are allowed, one that nobody saw explains nothing that a gap does not.
            None => Some(if self.gaps { *next } else { next + input.count }),
        }
    }
}
