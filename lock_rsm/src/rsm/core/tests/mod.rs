//! The pure replica, driven by hand.

mod requests;
mod snapshots;
mod stopping;
mod world;
