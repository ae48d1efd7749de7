//! What the tests of the checker share.
#![allow(dead_code, reason = "every test program uses its own part")]

use yfs_tests::linear::{Checked, Failure, HistoryOf, Limits, Model, Operation};

/// A checker that tries everything and remembers nothing: for small histories only.
pub fn brute_force<M: Model>(model: &M, history: &HistoryOf<M>) -> bool {
    let mut parts: Vec<(M::Key, Vec<&Op<M>>)> = Vec::new();
    for operation in history.operations() {
        let key = model.key(&operation.input);
        match parts.iter_mut().find(|(known, _)| *known == key) {
            Some((_, part)) => part.push(operation),
            None => parts.push((key, vec![operation])),
        }
    }
    parts.into_iter().all(|(key, mut part)| try_all(model, &model.initial(&key), &mut part))
}

type Op<M> = Operation<<M as Model>::Input, <M as Model>::Output>;

fn try_all<M: Model>(model: &M, state: &M::State, left: &mut Vec<&Op<M>>) -> bool {
    if left.iter().all(|op| op.answer.is_none()) {
        return true;
    }
    (0..left.len()).any(|i| {
        let op = left[i];
        if left.iter().any(|other| other.answer.as_ref().is_some_and(|answer| answer.at < op.invoked)) {
            return false;
        }
        let output = op.answer.as_ref().map(|answer| &answer.output);
        let Some(after) = model.step(state, &op.input, output) else { return false };
        left.remove(i);
        let found = try_all(model, &after, left);
        left.insert(i, op);
        found
    })
}

/// The check, with the default limits.
pub fn check<M: Model>(model: &M, history: &HistoryOf<M>) -> Result<Checked, Failure> {
    yfs_tests::linear::check(model, history, &Limits::default())
}

/// That the history is found out, and how it was explained.
#[track_caller]
pub fn must_fail<M: Model>(model: &M, history: &HistoryOf<M>) -> yfs_tests::linear::Violation {
    match check(model, history) {
        Err(Failure::NotLinearizable(violation)) => *violation,
        other => panic!("this must fail, and not like that: {other:?}"),
    }
}
