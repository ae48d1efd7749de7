//! Checks a history part by part.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::history::HistoryOf;
use super::model::Model;
use super::search::{Farthest, Found, Op, search};
use super::verdict::{Checked, Failure, GaveUp, Violation};
use std::collections::BTreeMap;

/// How much a check may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most times that an operation is tried somewhere, over the whole history. Memory grows with it too, by about
    /// 200 bytes a try and the size of a state.
    pub tries_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { tries_max: 5_000_000 }
    }
}

/// Whether `history` is linearizable with respect to `model`. The same history always gives the same result.
pub fn check<M: Model>(model: &M, history: &HistoryOf<M>, limits: &Limits) -> Result<Checked, Failure> {
    let mut parts: BTreeMap<M::Key, Vec<&Op<M>>> = BTreeMap::new();
    for operation in history.operations() {
        parts.entry(model.key(&operation.input)).or_default().push(operation);
    }
    let mut budget = limits.tries_max;
    let mut gave_up = None;
    for (key, ops) in &parts {
        match search(model, key, ops, &mut budget) {
            Found::Order => {}
            Found::Nothing(farthest) => {
                return Err(Failure::NotLinearizable(Box::new(explain(model, key, ops, farthest, budget))));
            }
            Found::GaveUp(farthest) => {
                let answered = ops.iter().filter(|op| op.answer.is_some()).count();
                gave_up = Some(GaveUp {
                    part: format!("{key:?}"),
                    tries: limits.tries_max,
                    placed: farthest.answered,
                    answered,
                    unknown: ops.len() - answered,
                });
                break;
            }
        }
    }
    match gave_up {
        Some(gave_up) => Err(Failure::GaveUp(gave_up)),
        None => Ok(Checked {
            operations: history.len(),
            unknown: history.unknown(),
            parts: parts.len(),
            tries: limits.tries_max - budget,
        }),
    }
}

/// Says what is wrong with the shortest beginning of the part that is wrong already.
fn explain<M: Model>(
    model: &M,
    key: &M::Key,
    ops: &[&Op<M>],
    farthest: Farthest<M::State>,
    budget: u64,
) -> Violation {
    let mut ends: Vec<u64> = ops.iter().filter_map(|op| op.answer.as_ref().map(|answer| answer.at)).collect();
    ends.sort_unstable();
    ends.dedup();
    // If the beginning up to some moment is wrong, so is every longer one.
    let (mut right, mut wrong) = (0, ends.len() - 1);
    let mut shortest = (ops.iter().map(|op| (*op).clone()).collect::<Vec<Op<M>>>(), farthest);
    while right < wrong {
        let middle = right.midpoint(wrong);
        let beginning = until::<M>(ops, ends[middle]);
        let refs: Vec<&Op<M>> = beginning.iter().collect();
        match search(model, key, &refs, &mut budget.clone()) {
            Found::Nothing(farthest) => {
                shortest = (beginning, farthest);
                wrong = middle;
            }
            Found::Order | Found::GaveUp(_) => right = middle + 1,
        }
    }
    let (ops, farthest) = shortest;
    Violation::new::<M>(key, &ops, &farthest)
}

/// What was known at a moment: what was asked by then, and the answers there were.
fn until<M: Model>(ops: &[&Op<M>], moment: u64) -> Vec<Op<M>> {
    let asked = ops.iter().filter(|op| op.invoked <= moment);
    let known = asked.map(|op| {
        let mut op = (*op).clone();
        op.answer = op.answer.filter(|answer| answer.at <= moment);
        op
    });
    known.collect()
}
