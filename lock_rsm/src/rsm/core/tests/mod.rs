//! The pure replica, driven by hand.

mod members;
mod requests;
mod retire;
mod snapshots;
mod stopping;
mod world;
