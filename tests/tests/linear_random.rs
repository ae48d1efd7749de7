//! The checker against histories made by an object that is atomic, and against one that tries everything.

mod linear_support;

use linear_support::{brute_force, check};
use lock_rsm::locks::Mode;
use proptest::prelude::*;
use std::collections::BTreeMap;
use yfs_tests::linear::models::{Allocation, Ids, LockOp, LockTable, RegisterAnswer, RegisterOp, Registers};
use yfs_tests::linear::{Answer, Failure, History, HistoryOf, Limits, Model, Operation};

/// When an operation of an atomic object is asked, how much later it happens, and how much later it is answered.
#[derive(Debug, Clone)]
struct Timing {
    asked: u64,
    happens: u64,
    answered: u64,
    /// It has no answer; and then it may happen much later, or never.
    unknown: Option<Option<u64>>,
}

fn timing(span: u64) -> impl Strategy<Value = Timing> {
    let unknown = prop_oneof![
        8 => Just(None),
        1 => Just(Some(None)),
        1 => (0..span).prop_map(|late| Some(Some(late))),
    ];
    (0..span, 0u64..20, 0u64..20, unknown).prop_map(|(asked, happens, answered, unknown)| Timing {
        asked,
        happens,
        answered,
        unknown,
    })
}

/// What clients see of an object that does everything at one moment between question and answer.
fn atomic<M: Model>(
    model: &M,
    ops: &[(M::Input, Timing)],
    apply: impl Fn(&M::State, &M::Input) -> (M::Output, M::State),
) -> HistoryOf<M> {
    let mut moments: Vec<(u64, usize)> = Vec::new();
    for (i, (_, timing)) in ops.iter().enumerate() {
        match timing.unknown {
            None => moments.push((timing.asked + timing.happens, i)),
            Some(Some(late)) => moments.push((timing.asked + late, i)),
            Some(None) => {}
        }
    }
    moments.sort_unstable();
    let mut states: BTreeMap<M::Key, M::State> = BTreeMap::new();
    let mut outputs = BTreeMap::new();
    for (_, i) in moments {
        let key = model.key(&ops[i].0);
        let state = states.entry(key.clone()).or_insert_with(|| model.initial(&key));
        let (output, after) = apply(state, &ops[i].0);
        *state = after;
        outputs.insert(i, output);
    }
    let operation = |(i, (input, timing)): (usize, &(M::Input, Timing))| {
        let at = timing.asked + timing.happens + timing.answered;
        let output = outputs.get(&i).filter(|_| timing.unknown.is_none()).cloned();
        let answer = output.map(|output| Answer { at, output });
        Operation { process: i as u64, invoked: timing.asked, input: input.clone(), answer }
    };
    ops.iter().enumerate().map(operation).collect()
}

fn value() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 4 => (1u64..4).prop_map(Some)]
}

fn register_op(keys: u64) -> impl Strategy<Value = RegisterOp> {
    (0..keys, 1u64..4, value(), 0..3).prop_map(|(key, value, expected, what)| match what {
        0 => RegisterOp::Get { key },
        1 => RegisterOp::Put { key, value },
        _ => RegisterOp::Cas { key, expected, value },
    })
}

fn register_answer() -> impl Strategy<Value = RegisterAnswer> {
    prop_oneof![
        value().prop_map(RegisterAnswer::Value),
        Just(RegisterAnswer::Done),
        Just(RegisterAnswer::Swapped),
        value().prop_map(RegisterAnswer::Differs),
    ]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Shared), Just(Mode::Exclusive)]
}

fn lock_op() -> impl Strategy<Value = LockOp> {
    (0u64..2, 1u64..5, mode(), 0..5).prop_map(|(lock, session, mode, what)| match what {
        0 | 1 => LockOp::Acquire { lock, session, mode },
        2 | 3 => LockOp::Release { lock, session, keep: None },
        _ => LockOp::Release { lock, session, keep: Some(Mode::Shared) },
    })
}

fn many<T: std::fmt::Debug>(
    op: impl Strategy<Value = T>,
    n: usize,
) -> impl Strategy<Value = Vec<(T, Timing)>> {
    prop::collection::vec((op, timing(3 * n as u64)), 1..n)
}

/// One thing that goes wrong in a recorded history: an answer replaced, an answer that comes from another operation, an
/// operation that was never recorded, or one that is said to have been later.
#[derive(Debug, Clone)]
enum Damage {
    Replaced(prop::sample::Index, RegisterAnswer),
    Swapped(prop::sample::Index, prop::sample::Index),
    Lost(prop::sample::Index),
    Moved(prop::sample::Index, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), register_answer()).prop_map(|(i, answer)| Damage::Replaced(i, answer)),
        (index(), index()).prop_map(|(i, j)| Damage::Swapped(i, j)),
        index().prop_map(Damage::Lost),
        (index(), 1u64..60).prop_map(|(i, by)| Damage::Moved(i, by)),
    ]
}

fn damaged(history: &HistoryOf<Registers>, damage: &Damage) -> HistoryOf<Registers> {
    let mut ops: Vec<_> = history.operations().cloned().collect();
    let n = ops.len();
    match damage {
        Damage::Replaced(i, output) => {
            if let Some(answer) = &mut ops[i.index(n)].answer {
                answer.output = *output;
            }
        }
        Damage::Swapped(i, j) => {
            let (i, j) = (i.index(n), j.index(n));
            let (a, b) = (ops[i].answer.clone(), ops[j].answer.clone());
            if let (Some(a), Some(b)) = (a, b) {
                ops[i].answer = Some(Answer { at: a.at, output: b.output });
                ops[j].answer = Some(Answer { at: b.at, output: a.output });
            }
        }
        Damage::Lost(i) => drop(ops.remove(i.index(n))),
        Damage::Moved(i, by) => {
            let op = &mut ops[i.index(n)];
            op.invoked += by;
            if let Some(answer) = &mut op.answer {
                answer.at += by;
            }
        }
    }
    ops.into_iter().collect()
}

/// Whether the check and the one that tries everything are of one mind.
fn agree<M: Model>(model: &M, history: &HistoryOf<M>) -> Result<bool, TestCaseError> {
    let right = brute_force(model, history);
    match check(model, history) {
        Ok(_) => prop_assert!(right, "passed, but no order exists"),
        Err(Failure::NotLinearizable(violation)) => prop_assert!(!right, "an order exists, but: {violation}"),
        Err(Failure::GaveUp(gave_up)) => prop_assert!(false, "{gave_up}"),
    }
    Ok(right)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_an_atomic_register_does_always_passes(ops in many(register_op(3), 120)) {
        let history = atomic(&Registers, &ops, |state, op| op.apply(*state));
        prop_assert!(check(&Registers, &history).is_ok(), "{}", check(&Registers, &history).unwrap_err());
    }

    #[test]
    fn what_an_atomic_lock_table_does_always_passes(ops in many(lock_op(), 40)) {
        let history = atomic(&LockTable, &ops, |place, op| op.apply(place));
        prop_assert!(check(&LockTable, &history).is_ok(), "{}", check(&LockTable, &history).unwrap_err());
    }

    #[test]
    fn what_an_atomic_counter_gives_out_always_passes(
        ops in many((1u64..4).prop_map(|count| Allocation { count }), 60),
    ) {
        let ids = Ids { first: 1000, gaps: false };
        let history = atomic(&ids, &ops, |next, op| (*next, next + op.count));
        prop_assert!(check(&ids, &history).is_ok(), "{}", check(&ids, &history).unwrap_err());
        let loose = Ids { gaps: true, ..ids };
        prop_assert!(check(&loose, &history).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn small_register_histories_of_any_kind_are_judged_right(
        ops in prop::collection::vec((register_op(1), 0u64..12, 0u64..6, prop::option::weighted(0.8, register_answer())), 1..7),
    ) {
        let history: HistoryOf<Registers> = ops.into_iter().enumerate().map(|(i, (input, invoked, takes, output))| {
            // Nearly always an answer that fits the question, else there is nothing to find out.
            let output = output.map(|output| match (input, output) {
                (RegisterOp::Get { .. }, RegisterAnswer::Differs(value)) => RegisterAnswer::Value(value),
                (RegisterOp::Put { .. }, _) => RegisterAnswer::Done,
                (RegisterOp::Cas { .. }, RegisterAnswer::Value(value)) => RegisterAnswer::Differs(value),
                (_, output) => output,
            });
            let answer = output.map(|output| Answer { at: invoked + takes, output });
            Operation { process: i as u64, invoked, input, answer }
        }).collect();
        agree(&Registers, &history)?;
    }

    #[test]
    fn a_damaged_history_is_judged_as_by_one_that_tries_everything(
        ops in prop::collection::vec((register_op(1), timing(40)), 2..8),
        damage in damage(),
    ) {
        let history = atomic(&Registers, &ops, |state, op| op.apply(*state));
        prop_assert!(agree(&Registers, &history)?);
        agree(&Registers, &damaged(&history, &damage))?;
    }

    #[test]
    fn a_lock_table_that_mixes_up_answers_is_judged_as_by_one_that_tries_everything(
        ops in prop::collection::vec((lock_op(), timing(30)), 2..7),
        (i, j) in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let right = atomic(&LockTable, &ops, |place, op| op.apply(place));
        prop_assert!(agree(&LockTable, &right)?);
        let mut ops: Vec<_> = right.operations().cloned().collect();
        let (i, j) = (i.index(ops.len()), j.index(ops.len()));
        let (a, b) = (ops[i].answer.clone(), ops[j].answer.clone());
        if let (Some(a), Some(b)) = (a, b) {
            ops[i].answer = Some(Answer { at: a.at, output: b.output });
            ops[j].answer = Some(Answer { at: b.at, output: a.output });
        }
        agree(&LockTable, &ops.into_iter().collect())?;
    }
}

/// The beginning that a violation is about is the shortest: without its last answer everything can be explained.
#[test]
fn an_explanation_ends_with_the_first_answer_that_is_wrong() {
    let mut history: HistoryOf<Registers> = History::new();
    for i in 0..2000u64 {
        let id = history.invoke(1, 10 * i, RegisterOp::Put { key: 0, value: i });
        history.answer(id, 10 * i + 5, RegisterAnswer::Done);
        let read = if i == 1234 { i - 1 } else { i };
        let id = history.invoke(2, 10 * i + 6, RegisterOp::Get { key: 0 });
        history.answer(id, 10 * i + 8, RegisterAnswer::Value(Some(read)));
    }
    let Err(Failure::NotLinearizable(violation)) =
        yfs_tests::linear::check(&Registers, &history, &Limits::default())
    else {
        panic!("one read is stale");
    };
    assert_eq!((violation.at, violation.prefix.len(), violation.stuck.len()), (12348, 2 * 1234 + 1, 1));
    assert!(violation.to_string().lines().count() < 25, "{violation}");
}
