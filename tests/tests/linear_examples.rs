//! The checker on histories by hand: what must pass, what must fail, and what it says then.

mod linear_support;

use linear_support::{check, must_fail};
use lock_rsm::locks::Mode::{self, Exclusive, Shared};
use lock_rsm::locks::protocol::Standing;
use yfs_tests::linear::models::{
    Allocation, GuardOp, Guards, Ids, LockOp, LockTable, RegisterAnswer, RegisterOp, Registers,
};
use yfs_tests::linear::{AnyHistory, Failure, History, HistoryOf, Limits, Model};

/// Adds operations, each (asked, answered, what, the answer).
fn history<M: Model>(ops: impl IntoIterator<Item = (u64, u64, M::Input, Option<M::Output>)>) -> HistoryOf<M> {
    let mut history = History::new();
    for (process, (asked, answered, input, output)) in (1..).zip(ops) {
        let id = history.invoke(process, asked, input);
        if let Some(output) = output {
            history.answer(id, answered, output);
        }
    }
    history
}

fn put(asked: u64, answered: u64, value: u64) -> (u64, u64, RegisterOp, Option<RegisterAnswer>) {
    (asked, answered, RegisterOp::Put { key: 1, value }, Some(RegisterAnswer::Done))
}

fn lost_put(asked: u64, value: u64) -> (u64, u64, RegisterOp, Option<RegisterAnswer>) {
    (asked, 0, RegisterOp::Put { key: 1, value }, None)
}

fn get(asked: u64, answered: u64, value: u64) -> (u64, u64, RegisterOp, Option<RegisterAnswer>) {
    let value = (value != 0).then_some(value);
    (asked, answered, RegisterOp::Get { key: 1 }, Some(RegisterAnswer::Value(value)))
}

fn cas(
    asked: u64,
    answered: u64,
    expected: u64,
    value: u64,
    ok: bool,
) -> (u64, u64, RegisterOp, Option<RegisterAnswer>) {
    let expected = (expected != 0).then_some(expected);
    let answer = if ok { RegisterAnswer::Swapped } else { RegisterAnswer::Differs(None) };
    (asked, answered, RegisterOp::Cas { key: 1, expected, value }, Some(answer))
}

#[test]
fn nothing_and_one_after_the_other() {
    assert_eq!(check(&Registers, &History::new()).unwrap().operations, 0);
    let checked =
        check(&Registers, &history::<Registers>([get(1, 2, 0), put(3, 4, 5), get(5, 6, 5)])).unwrap();
    assert_eq!((checked.operations, checked.unknown, checked.parts), (3, 0, 1));
}

#[test]
fn what_overlaps_may_have_happened_in_any_order() {
    let ops = [put(1, 10, 5), put(2, 9, 6), get(3, 8, 5), get(4, 7, 6), get(11, 12, 6)];
    check(&Registers, &history::<Registers>(ops)).unwrap();
}

#[test]
fn a_stale_read_is_found_and_explained() {
    let ops = [put(1, 2, 5), put(3, 4, 6), get(5, 6, 5), get(7, 8, 6), put(9, 10, 7)];
    let violation = must_fail(&Registers, &history::<Registers>(ops));
    assert_eq!(violation.at, 6, "the answer that cannot be explained: {violation}");
    assert_eq!(violation.prefix.len(), 2, "the two writes before it: {violation}");
    assert_eq!(violation.state, "Some(6)");
    assert_eq!(violation.stuck.len(), 1, "and nothing from later: {violation}");
    assert!(violation.stuck[0].contains("Get { key: 1 } -> Value(Some(5))"), "{violation}");
}

#[test]
fn a_lost_write_is_found() {
    must_fail(&Registers, &history::<Registers>([put(1, 2, 5), get(3, 4, 0)]));
    must_fail(&Registers, &history::<Registers>([put(1, 2, 5), put(3, 4, 6), cas(5, 6, 5, 7, true)]));
}

#[test]
fn reads_that_go_back_are_found_although_each_is_allowed() {
    let ops = [put(1, 2, 5), put(3, 20, 6), get(4, 5, 6), get(6, 7, 5)];
    must_fail(&Registers, &history::<Registers>(ops));
}

#[test]
fn a_write_seen_before_it_was_asked_is_found() {
    must_fail(&Registers, &history::<Registers>([get(1, 2, 5), put(3, 4, 5)]));
}

#[test]
fn a_command_executed_twice_is_found() {
    // The swap from 5 to 6 happens once; who writes 5 again cannot see 6 again.
    let ops = [put(1, 2, 5), cas(3, 4, 5, 6, true), put(5, 6, 5), get(7, 8, 6)];
    must_fail(&Registers, &history::<Registers>(ops));
    let ids = Ids { first: 100, gaps: false };
    let once = [(1, 2, Allocation { count: 10 }, Some(100)), (3, 4, Allocation { count: 1 }, Some(110))];
    check(&ids, &history::<Ids>(once)).unwrap();
    let twice = [(1, 2, Allocation { count: 10 }, Some(100)), (3, 4, Allocation { count: 1 }, Some(120))];
    must_fail(&ids, &history::<Ids>(twice));
    check(&Ids { gaps: true, ..ids }, &history::<Ids>(twice)).unwrap();
}

#[test]
fn an_unknown_write_may_happen_late_or_never_but_once() {
    check(&Registers, &history::<Registers>([put(1, 2, 5), lost_put(3, 6), get(4, 5, 5), get(6, 7, 5)]))
        .unwrap();
    let late = [put(1, 2, 5), lost_put(3, 6), get(4, 5, 5), put(6, 7, 7), get(8, 9, 7), get(10, 11, 6)];
    check(&Registers, &history::<Registers>(late)).unwrap();
    let twice = [lost_put(1, 6), get(2, 3, 6), put(4, 5, 7), get(6, 7, 6)];
    must_fail(&Registers, &history::<Registers>(twice));
    let two = [lost_put(1, 6), lost_put(1, 6), get(2, 3, 6), put(4, 5, 7), get(6, 7, 6)];
    check(&Registers, &history::<Registers>(two)).unwrap();
    must_fail(&Registers, &history::<Registers>([get(1, 2, 6), lost_put(3, 6)]));
}

#[test]
fn many_unknown_writes_cost_little() {
    let mut ops: Vec<_> = (1..=80).map(|value| lost_put(value, value)).collect();
    ops.extend((1..=80).map(|value| get(100 + 2 * value, 101 + 2 * value, value * 7 % 81)));
    let checked = check(&Registers, &history::<Registers>(ops.clone())).unwrap();
    assert!(checked.tries < 20_000, "{checked}");
    ops.push(get(300, 301, 1));
    must_fail(&Registers, &history::<Registers>(ops));
}

fn acquire(asked: u64, answered: u64, guard: u64, mode: Mode) -> (u64, u64, GuardOp, Option<()>) {
    (asked, answered, GuardOp::Acquire { lock: 9, mode, guard }, Some(()))
}

fn release(asked: u64, answered: u64, guard: u64) -> (u64, u64, GuardOp, Option<()>) {
    (asked, answered, GuardOp::Release { lock: 9, guard }, Some(()))
}

#[test]
fn a_lock_granted_twice_is_found() {
    let good = [acquire(1, 2, 1, Exclusive), release(3, 5, 1), acquire(2, 6, 2, Exclusive), release(7, 8, 2)];
    check(&Guards, &history::<Guards>(good)).unwrap();
    let readers = [acquire(1, 2, 1, Shared), acquire(3, 4, 2, Shared), release(5, 6, 1), release(7, 8, 2)];
    check(&Guards, &history::<Guards>(readers)).unwrap();
    let double =
        [acquire(1, 2, 1, Exclusive), acquire(3, 4, 2, Exclusive), release(5, 6, 1), release(7, 8, 2)];
    let violation = must_fail(&Guards, &history::<Guards>(double));
    assert_eq!(violation.at, 4, "{violation}");
    let mixed = [acquire(1, 2, 1, Shared), acquire(3, 4, 2, Exclusive), release(5, 6, 1)];
    must_fail(&Guards, &history::<Guards>(mixed));
}

#[test]
fn a_guard_whose_lease_is_not_seen_to_hold_protects_until_it_was() {
    let end = (4, 0, GuardOp::Release { lock: 9, guard: 1 }, None);
    let taken = [acquire(1, 2, 1, Exclusive), end, acquire(3, 6, 2, Exclusive)];
    check(&Guards, &history::<Guards>(taken)).unwrap();
    let too_soon = [acquire(1, 2, 1, Exclusive), end, acquire(2, 3, 2, Exclusive)];
    must_fail(&Guards, &history::<Guards>(too_soon));
}

const HELD_X: Standing = Standing { held: Some(Exclusive), waiting: None };
const WAITS_X: Standing = Standing { held: None, waiting: Some(Exclusive) };
const NOTHING: Standing = Standing { held: None, waiting: None };

#[test]
fn the_queue_of_a_lock_is_first_come_first_served() {
    let want = |at, session, standing| {
        (at, at, LockOp::Acquire { lock: 3, session, mode: Exclusive }, Some(standing))
    };
    let give = |at, session| (at, at, LockOp::Release { lock: 3, session, keep: None }, Some(NOTHING));
    let fair = [want(1, 1, HELD_X), want(2, 2, WAITS_X), want(3, 3, WAITS_X), give(4, 1), want(5, 2, HELD_X)];
    check(&LockTable, &history::<LockTable>(fair)).unwrap();
    let unfair =
        [want(1, 1, HELD_X), want(2, 2, WAITS_X), want(3, 3, WAITS_X), give(4, 1), want(5, 3, HELD_X)];
    must_fail(&LockTable, &history::<LockTable>(unfair));
    let forgotten = [want(1, 1, HELD_X), want(2, 2, WAITS_X), give(4, 1), want(5, 2, NOTHING)];
    must_fail(&LockTable, &history::<LockTable>(forgotten));
    // The release got no answer, and the next in the queue had to wait a while: it may have come late.
    let unknown = (4, 0, LockOp::Release { lock: 3, session: 1, keep: None }, None);
    let late = [want(1, 1, HELD_X), want(2, 2, WAITS_X), unknown, want(5, 2, WAITS_X), want(6, 2, HELD_X)];
    check(&LockTable, &history::<LockTable>(late)).unwrap();
    let ended = (4, 5, LockOp::End { lock: 3, session: 1 }, Some(NOTHING));
    check(
        &LockTable,
        &history::<LockTable>([want(1, 1, HELD_X), want(2, 2, WAITS_X), ended, want(6, 2, HELD_X)]),
    )
    .unwrap();
}

#[test]
fn giving_up_is_neither_right_nor_wrong_and_says_how_far_it_got() {
    let ops: Vec<_> = (0..100).map(|i| put(2 * i, 2 * i + 1, i)).collect();
    let ops = history::<Registers>(ops);
    let Err(Failure::GaveUp(gave_up)) = yfs_tests::linear::check(&Registers, &ops, &Limits { tries_max: 40 })
    else {
        panic!("40 tries are not enough for 100 operations");
    };
    assert_eq!((gave_up.placed, gave_up.answered), (40, 100), "{gave_up}");
}

#[test]
fn a_history_goes_to_a_file_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.json");
    let mut stale = history::<Registers>([put(1, 2, 5), lost_put(3, 6), get(3, 4, 0)]);
    let refused = stale.invoke(9, 5, RegisterOp::Get { key: 1 });
    stale.never(refused);
    let any = AnyHistory::Registers(Registers, stale);
    any.write(&path).unwrap();
    let again = AnyHistory::read(&path).unwrap();
    assert_eq!(again.check(&Limits::default()), any.check(&Limits::default()));
    assert!(
        matches!(again, AnyHistory::Registers(_, history) if history.len() == 3 && history.unknown() == 1)
    );
    let text = std::fs::read_to_string(&path).unwrap().replace("\"at\":2", "\"at\":0");
    std::fs::write(&path, text).unwrap();
    let error = AnyHistory::read(&path).unwrap_err().to_string();
    assert!(error.contains("operation 0 is answered before it was asked"), "{error}");
}
