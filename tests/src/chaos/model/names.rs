//! A directory with a few names, each of which may lead to something made under a number of its own.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Object;
use serde::{Deserialize, Serialize};

/// So many names there are.
pub const NAMES: usize = 4;

/// The directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names;

/// A system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamesOp {
    /// `symlink`: a name that leads to `number`.
    Make {
        /// Which name.
        name: usize,
        /// Never used twice.
        number: u64,
    },
    /// `unlink`.
    Remove {
        /// Which name.
        name: usize,
    },
    /// `rename`, over what is there.
    Rename {
        /// The old name.
        from: usize,
        /// The new one, which is another.
        to: usize,
    },
    /// `readlink`.
    Look {
        /// Which name.
        name: usize,
    },
    /// `getdents`.
    List,
}

/// What a system call says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamesAnswer {
    /// Success.
    Done,
    /// EEXIST.
    Exists,
    /// ENOENT.
    Missing,
    /// Where the name leads.
    Leads(u64),
    /// Which names there are.
    Listed([bool; NAMES]),
}

impl Object for Names {
    type State = [Option<u64>; NAMES];
    type Op = NamesOp;
    type Answer = NamesAnswer;

    fn apply(state: &Self::State, op: &NamesOp) -> (NamesAnswer, Self::State) {
        let mut after = *state;
        let answer = match *op {
            NamesOp::Make { name, .. } if state[name].is_some() => NamesAnswer::Exists,
            NamesOp::Make { name, number } => {
                after[name] = Some(number);
                NamesAnswer::Done
            }
            NamesOp::Remove { name } => match after[name].take() {
                Some(_) => NamesAnswer::Done,
                None => NamesAnswer::Missing,
            },
            NamesOp::Rename { from, to } => match after[from].take() {
                Some(number) => {
                    after[to] = Some(number);
                    NamesAnswer::Done
                }
                None => NamesAnswer::Missing,
            },
            NamesOp::Look { name } => state[name].map_or(NamesAnswer::Missing, NamesAnswer::Leads),
            NamesOp::List => NamesAnswer::Listed(state.map(|number| number.is_some())),
        };
        (answer, after)
    }

    /// The kernel looks up both names, one after the other, before it asks for a rename. If another mount has renamed the
    /// same file in the same way in between, both lead to one inode: that counts as done, and nobody is asked.
    fn excused(state: &Self::State, op: &NamesOp, answer: &NamesAnswer) -> bool {
        match *op {
            NamesOp::Rename { from, to } => {
                *answer == NamesAnswer::Done && state[from].is_none() && state[to].is_some()
            }
            _ => false,
        }
    }
}
