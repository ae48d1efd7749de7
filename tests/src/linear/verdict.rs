//! What a check came to.

use super::model::Model;
use super::search::{Farthest, Op};
use std::fmt::{Display, Write};

/// A history that is linearizable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Operations.
    pub operations: usize,
    /// Those without an answer.
    pub unknown: usize,
    /// Parts that were checked one by one.
    pub parts: usize,
    /// How often an operation was tried somewhere.
    pub tries: u64,
}

impl Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Checked { operations, unknown, parts, tries } = self;
        write!(f, "{operations} operations ({unknown} of unknown outcome) in {parts} parts, {tries} tries")
    }
}

/// A history that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no order of its operations that explains it.
    #[error("{0}")]
    NotLinearizable(Box<Violation>),
    /// Nobody knows.
    #[error("{0}")]
    GaveUp(GaveUp),
}

/// The check took too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "gave up on part {part} after {tries} tries: an order of {placed} of its {answered} answered operations was found \
     ({unknown} more are of unknown outcome); record fewer operations for each part, fewer time-outs, or allow more tries"
)]
pub struct GaveUp {
    /// Which part.
    pub part: String,
    /// The limit that was reached.
    pub tries: u64,
    /// The answered operations in the longest prefix found.
    pub placed: usize,
    /// All answered operations of the part.
    pub answered: usize,
    /// The other operations of the part.
    pub unknown: usize,
}

/// Why a history is not linearizable: about the shortest beginning of one part that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which part.
    pub part: String,
    /// The longest prefix of an order, one operation a line.
    pub prefix: Vec<String>,
    /// The state after it.
    pub state: String,
    /// One of these would have to come next, and none can; the first was answered the earliest.
    pub stuck: Vec<String>,
    /// Asked by then and not placed, nor needed.
    pub open: usize,
    /// The moment up to which everything can be explained but for the answer given then.
    pub at: u64,
}

/// So many operations of the prefix are printed.
const SHOWN_MAX: usize = 12;

impl Violation {
    pub(super) fn new<M: Model>(key: &M::Key, ops: &[Op<M>], farthest: &Farthest<M::State>) -> Violation {
        let line = |i: &usize| line::<M>(&ops[*i]);
        let at = ops.iter().filter_map(|op| op.answer.as_ref().map(|answer| answer.at)).max();
        Violation {
            part: format!("{key:?}"),
            prefix: farthest.placed.iter().map(line).collect(),
            state: format!("{:?}", farthest.state),
            stuck: farthest.stuck.iter().map(line).collect(),
            open: ops.len() - farthest.placed.len() - farthest.stuck.len(),
            at: at.unwrap_or(0),
        }
    }
}

fn line<M: Model>(op: &Op<M>) -> String {
    match &op.answer {
        Some(answer) => {
            format!("[{} .. {}] {}: {:?} -> {:?}", op.invoked, answer.at, op.process, op.input, answer.output)
        }
        None => format!("[{} ..] {}: {:?} -> (no answer)", op.invoked, op.process, op.input),
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        writeln!(text, "not linearizable: part {}, by the answer at {}", self.part, self.at)?;
        let hidden = self.prefix.len().saturating_sub(SHOWN_MAX);
        writeln!(text, "the longest order that can be explained has {} operations:", self.prefix.len())?;
        if hidden > 0 {
            writeln!(text, "    ({hidden} more)")?;
        }
        for line in &self.prefix[hidden..] {
            writeln!(text, "    {line}")?;
        }
        writeln!(text, "after it the state is {}, and none of these can come next:", self.state)?;
        for line in &self.stuck {
            writeln!(text, "  ! {line}")?;
        }
        write!(text, "({} more are open at that moment; times in [asked .. answered])", self.open)?;
        f.write_str(&text)
    }
}
