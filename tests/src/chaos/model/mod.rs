//! What a mount promises, for the linearizability checker.

pub mod names;
pub mod prefix;
pub mod register;
pub mod volatile;

#[cfg(test)]
mod tests;

pub use volatile::{Event, Input, Object, Volatile};
