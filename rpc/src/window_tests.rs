use super::*;
use proptest::prelude::*;

fn window(entries_max: usize, bytes_max: usize) -> Window<u64> {
    Window::new(WindowLimits { entries_max, bytes_max }, 0)
}

#[test]
fn a_call_is_new_then_in_progress_then_done_then_forgotten() {
    let mut w = window(10, 100);
    assert_eq!(w.admit(1, 0), Admission::New);
    assert_eq!(w.admit(1, 0), Admission::InProgress);
    assert!(w.complete(1, 11, 5));
    assert_eq!(w.admit(1, 0), Admission::Done(11));
    assert_eq!((w.len(), w.bytes()), (1, 5));
    assert_eq!(w.admit(2, 1), Admission::New);
    assert_eq!(w.admit(1, 0), Admission::Forgotten);
    assert_eq!((w.len(), w.bytes()), (1, 0));
}

#[test]
fn calls_may_arrive_out_of_order() {
    let mut w = window(10, 100);
    assert_eq!(w.admit(3, 0), Admission::New);
    assert_eq!(w.admit(1, 0), Admission::New);
    assert!(w.complete(3, 33, 1));
    assert_eq!(w.admit(2, 0), Admission::New);
    assert_eq!(w.admit(3, 0), Admission::Done(33));
}

#[test]
fn a_call_given_up_while_in_progress_leaves_nothing_behind() {
    let mut w = window(10, 100);
    assert_eq!(w.admit(1, 0), Admission::New);
    assert_eq!(w.admit(2, 1), Admission::New); // the client gave 1 up
    assert_eq!(w.admit(1, 0), Admission::InProgress);
    assert!(!w.complete(1, 11, 5), "nobody wants it");
    assert_eq!(w.admit(1, 0), Admission::Forgotten);
    assert!(w.complete(2, 22, 5));
    assert_eq!((w.len(), w.bytes()), (1, 5));
}

#[test]
fn what_was_sent_to_an_evicted_window_is_forgotten() {
    let mut w: Window<u64> = Window::new(WindowLimits::default(), 7);
    assert_eq!(w.admit(7, 0), Admission::Forgotten);
    assert_eq!(w.admit(3, 0), Admission::Forgotten);
    assert_eq!(w.admit(8, 0), Admission::New);
}

#[test]
fn one_slow_call_does_not_let_the_window_grow() {
    let mut w = window(8, 1 << 20);
    assert_eq!(w.admit(1, 0), Admission::New);
    for xid in 2..10_000 {
        assert_eq!(w.admit(xid, 0), Admission::New);
        assert!(w.complete(xid, xid, 10));
        assert!(w.len() <= 9 && w.bytes() <= 80 && w.evicted.len() <= 1);
    }
    assert_eq!(w.admit(2, 0), Admission::Forgotten);
    assert_eq!(w.admit(9_999, 0), Admission::Done(9_999));
    assert!(w.complete(1, 1, 10));
}

#[test]
fn large_replies_leave_by_bytes_but_the_newest_stays() {
    let mut w = window(100, 1000);
    for xid in 1..=3 {
        assert_eq!(w.admit(xid, 0), Admission::New);
    }
    assert!(w.complete(1, 1, 600) && w.complete(2, 2, 600));
    assert_eq!(w.admit(1, 0), Admission::Forgotten);
    assert_eq!(w.admit(2, 0), Admission::Done(2));
    assert!(w.complete(3, 3, 5000));
    assert_eq!(w.admit(3, 0), Admission::Done(3));
    assert_eq!(w.bytes(), 5000);
}

#[test]
fn gaps_cannot_grow_without_bound() {
    let mut w = window(4, 1 << 20);
    for xid in (1..10_000).step_by(2) {
        assert_eq!(w.admit(xid, 0), Admission::New);
        w.complete(xid, xid, 1);
        assert!(w.evicted.len() <= 5 && w.len() <= 5);
    }
    assert_eq!(w.admit(2, 0), Admission::Forgotten);
    assert_eq!(w.admit(10_000, 0), Admission::New);
}

#[test]
fn too_many_in_progress_are_refused_and_may_come_again() {
    let mut w = window(2, 100);
    assert_eq!(w.admit(1, 0), Admission::New);
    assert_eq!(w.admit(2, 0), Admission::New);
    assert_eq!(w.admit(3, 0), Admission::Full);
    assert!(w.complete(1, 1, 1));
    assert_eq!(w.admit(3, 0), Admission::New);
}

#[derive(Debug, Clone)]
enum Step {
    Send(u64),
    Finish(prop::sample::Index),
    Acknowledge(u64),
    Shrink(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u64..40).prop_map(Step::Send),
        4 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => (0u64..40).prop_map(Step::Acknowledge),
        1 => (0usize..100).prop_map(Step::Shrink),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Against every sequence: nothing runs twice, a replayed reply is the right one, an unacknowledged reply in
    /// bounds is not lost, and the bounds hold.
    #[test]
    fn nothing_runs_twice_and_everything_stays_bounded(steps in steps(), entries_max in 1usize..12, bytes_max in 1usize..200) {
        let mut w = window(entries_max, bytes_max);
        let (mut executed, mut running, mut acknowledged) = (BTreeSet::new(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Send(xid) => match w.admit(xid, acknowledged) {
                    Admission::New => {
                        prop_assert!(executed.insert(xid), "call {xid} would run twice");
                        prop_assert!(xid > acknowledged);
                        running.push(xid);
                    }
                    Admission::InProgress => prop_assert!(running.contains(&xid)),
                    Admission::Done(reply) => {
                        prop_assert_eq!(reply, xid * 7);
                        prop_assert!(executed.contains(&xid) && !running.contains(&xid));
                    }
                    Admission::Forgotten => prop_assert!(!running.contains(&xid)),
                    Admission::Full => prop_assert!(running.len() >= entries_max),
                },
                Step::Finish(which) if !running.is_empty() => {
                    let xid = running.swap_remove(which.index(running.len()));
                    let kept = w.complete(xid, xid * 7, xid as usize);
                    prop_assert!(kept || xid <= w.floor);
                }
                Step::Finish(_) => {}
                Step::Acknowledge(upto) => acknowledged = acknowledged.max(upto),
                Step::Shrink(bytes) => w.shrink_to(bytes),
            }
            prop_assert!(w.done.len() <= entries_max);
            prop_assert!(w.bytes <= bytes_max || w.done.len() == 1);
            prop_assert!(w.evicted.len() <= entries_max);
            prop_assert_eq!(w.bytes, w.done.values().map(|k| k.bytes).sum::<usize>());
            prop_assert!(w.done.keys().all(|&xid| xid > w.floor));
        }
    }
}
