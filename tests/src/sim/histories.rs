//! The link to the linearizability checker: what the clients of a run asked of the registers and of the lock service, and
//! what they were answered. At the end of a run that must be what one copy could have answered.
//!
//! The moments are the numbers of the simulator's steps, so no two events have the same. What a client gave up, or had
//! no answer to when the run ended, stays unknown.

use super::world::Broken;
use crate::linear::models::{Allocation, Ids, LockOp, LockTable, RegisterAnswer, RegisterOp, Registers};
use crate::linear::{Checked, Failure, HistoryOf, Limits, Model, OpId, check};
use lock_rsm::locks::protocol::{FIRST_ALLOCATED, Standing};

/// The ids that the lock service gives out: nobody else asks for any, so there are no gaps.
const IDS: Ids = Ids { first: FIRST_ALLOCATED, gaps: false };

/// What all clients together saw.
#[derive(Debug, Default)]
pub struct Histories {
    registers: HistoryOf<Registers>,
    locks: HistoryOf<LockTable>,
    ids: HistoryOf<Ids>,
}

impl Histories {
    /// `client` asks something of a register.
    pub fn register(&mut self, client: usize, at: u64, op: RegisterOp) -> OpId {
        self.registers.invoke(client as u64, at, op)
    }

    /// The answer to that.
    pub fn register_answered(&mut self, id: OpId, at: u64, answer: RegisterAnswer) {
        self.registers.answer(id, at, answer);
    }

    /// `client` asks something of a lock.
    pub fn lock(&mut self, client: usize, at: u64, op: LockOp) -> OpId {
        self.locks.invoke(client as u64, at, op)
    }

    /// The answer to that.
    pub fn lock_answered(&mut self, id: OpId, at: u64, standing: Standing) {
        self.locks.answer(id, at, standing);
    }

    /// `client` asks for `count` ids.
    pub fn allocation(&mut self, client: usize, at: u64, count: u64) -> OpId {
        self.ids.invoke(client as u64, at, Allocation { count })
    }

    /// The first of them.
    pub fn allocated(&mut self, id: OpId, at: u64, first: u64) {
        self.ids.answer(id, at, first);
    }

    /// Whether one copy could have answered all that. How many operations there were, and how many of them are unknown.
    pub fn check(&self) -> Result<(u64, u64), Broken> {
        let checked = [
            explained("registers", &Registers, &self.registers)?,
            explained("locks", &LockTable, &self.locks)?,
            explained("ids", &IDS, &self.ids)?,
        ];
        let sum = |of: fn(&Checked) -> usize| checked.iter().map(of).sum::<usize>() as u64;
        Ok((sum(|checked| checked.operations), sum(|checked| checked.unknown)))
    }
}

fn explained<M: Model>(what: &str, model: &M, history: &HistoryOf<M>) -> Result<Checked, Broken> {
    let broken = |failure: Failure| Broken {
        invariant: "what clients saw is linearizable",
        what: format!("{what}: {failure}"),
    };
    check(model, history, &Limits::default()).map_err(broken)
}
