//! The pure replica, driven by hand.

mod members;
mod requests;
mod snapshots;
mod stopping;
mod world;
