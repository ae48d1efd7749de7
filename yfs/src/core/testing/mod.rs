//! The world around the core, simulated in memory: for tests of the core and for the simulation of the whole stack.
//! Deterministic: the same seeds give the same runs.

pub mod check;
pub mod executor;
pub mod locks;
pub mod model;
pub mod rng;
pub mod store;
pub mod world;

pub use executor::{Stalled, run, run_all};
pub use rng::Rng;
pub use world::{Client, World};
