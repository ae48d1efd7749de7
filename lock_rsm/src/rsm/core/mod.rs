//! A replica without its input and output: pure and deterministic, so that a simulator can run a group of them in one
//! thread with its own clock, disks and network.
//!
//! [`ReplicaCore`] decides; [`Program`] executes. Between them and around them a driver carries things:
//!
//! ```text
//!   messages, proposals, "that is on disk", time ──► ReplicaCore::step
//!                                                    ReplicaCore::take_effects ──► messages, disk writes, refusals
//!                                                                              ──► tasks ──► Program::perform ──► answers
//! ```
//!
//! # What a driver does
//!
//! 1. Hands in any number of [`Input`]s by [`ReplicaCore::step`].
//! 2. Takes the [`Effects`] and carries them out: `messages` are sent at once; `writes` reach the disk in order, and each
//!    is reported by [`Input::Persisted`] when it and all before it are durable; `tasks` are performed by the [`Program`],
//!    in order; `pieces` are read from the disk and come back as [`Input::Piece`]; `reads_ready` and `reads_failed` are what
//!    became of [`ReplicaCore::read`], in a driver that uses it; when `ask_in` is set, every other replica
//!    that may be there is told by [`Input::Asked`], unless it knows from [`Effects::retired`] that this one has left for good:
//!    then this one is told so by [`Input::Retired`].
//! 3. Hands the answers in the program's [`Report`] to whoever is named by the ticket, stores its snapshot and says so by
//!    [`Input::SnapshotSaved`], and reports [`Input::Applied`].
//! 4. Calls again at [`ReplicaCore::next_tick_ms`] at the latest.
//!
//! Disk and program may lag behind as far as they like, each on its own: what must wait for the disk is kept back by the
//! core. The driver of this crate gives each a thread of its own ([`super::Replica`]).
//!
//! A *ticket* is whatever the driver finds a caller by: a number, or the sending end of a channel.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod boot;
mod confirm;
mod effects;
mod gather;
mod head_start;
mod incoming;
mod input;
mod membership;
mod numbers;
mod outputs;
mod program;
mod propose;
mod replica;
mod retire;
mod views;
mod waiting;

#[cfg(test)]
mod tests;

pub use super::state::{Applied, Command, Machine, Outcome, REGISTER_CLIENT, ReplyLimits, state_hash};
pub use boot::{Boot, BootError, boot, boot_within};
pub use effects::{Effects, Task, Write};
pub use input::{Input, Proposal, Stop};
pub use numbers::{REQUEST_SPAN, RequestNumbers};
pub use program::{Program, Report};
pub use replica::{COMMAND_BYTES_MAX, ReplicaConfig, ReplicaCore};
pub use retire::{Place, Retire, Retirement};
pub use waiting::{Answer, Refused, RequestKey, Ticket, Waiting};
