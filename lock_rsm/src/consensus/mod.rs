//! The consensus core: a pure, deterministic state machine that follows the rules of Raft.
//!
//! The rules are those of Diego Ongaro's dissertation, *Consensus: Bridging Theory and Practice* (2014); "§"
//! in these pages is a section of it. It speaks this project's words:
//!
//! | here | there |
//! | --- | --- |
//! | view number | term |
//! | sequence number, seq | log index |
//! | [`Viewstamp`] (view, seq) of an entry | (term, index) |
//! | master, slave | leader, follower |
//! | [`Membership`] | configuration |
//!
//! [`Core`] does no input or output. Its driver hands it what happened (a message, the time, a proposal,
//! "that is on disk now") and then takes [`Outputs`]: what to write, what to send, what was committed.
//! Nothing here reads a clock, opens a socket, starts a thread or asks the operating system for randomness,
//! so a run is a function of its inputs.
//!
//! # What the driver does
//!
//! 1. Call any number of inputs: [`Core::tick`], [`Core::receive`], [`Core::propose`], [`Core::read`],
//!    [`Core::persisted`], …
//! 2. Call [`Core::take_outputs`]. That is where messages are batched: one `Append` carries all that was
//!    proposed since.
//! 3. Send [`Outputs::messages`] at once.
//! 4. If [`Outputs::must_persist`], write, in this order and as one atomic batch: `hard_state`,
//!    `install_snapshot`, `truncate_from`, `append`. Writing may take its time: steps 1 to 3 go on meanwhile, and
//!    several batches may wait; one fsync may serve them all.
//! 5. When this and all earlier batches are on disk, send [`Outputs::after_persist`] and call
//!    [`Core::persisted`] with [`Outputs::number`]. Batches reach the disk in order.
//! 6. Apply `install_snapshot`, then `committed`, in order. This need not wait for the disk: committed means
//!    that a majority has it on disk.
//!
//! A failed write must stop the replica: the core cannot take back what it believes durable.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod config;
mod core;
mod election;
mod error;
mod log;
mod master;
mod membership;
mod message;
mod outputs;
mod progress;
mod read;
mod replication;
mod rng;
mod role;
mod snapshot;
mod types;
mod wire_bytes;

pub use config::Config;
pub use core::Core;
pub use error::{HandOverError, MembershipError, ProposeError, ReadError, RestoreError, SnapshotError};
pub use message::{Body, Message};
pub use outputs::{InstallSnapshot, Outputs, ReadReady, SnapshotChunk, SnapshotWanted};
pub use types::{
    Entry, FORMER_MAX, Follower, Former, HardState, Member, Membership, Payload, ReplicaId, Restored, Role,
    SnapshotMeta, ViewInfo, Viewstamp,
};

#[cfg(test)]
pub(crate) mod tests;
