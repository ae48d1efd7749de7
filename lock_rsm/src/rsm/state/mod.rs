//! The replicated state itself: what a log entry says, what applying it does, and the reply table that makes every
//! request happen once. Pure: the same entries give byte-identical state everywhere.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod command;
mod hash;
mod machine;
mod replies;

pub use command::Command;
pub use hash::state_hash;
pub use machine::{Applied, Machine, REGISTER_CLIENT};
pub use replies::{Outcome, ReplyLimits};
