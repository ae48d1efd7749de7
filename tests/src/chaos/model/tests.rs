//! What the models allow, and what they do not.

use super::names::{Names, NamesAnswer, NamesOp};
use super::prefix::{Entry, Loss, Outcome, Step, Tree, TreeOp, Wrong, check as check_prefix};
use super::register::{Register, RegisterOp};
use super::{Event, Input, Object, Volatile};
use crate::linear::{Failure, History, HistoryOf, Limits, check};

/// A history in which one thing happens after the other.
struct Story<O: Object> {
    now: u64,
    history: HistoryOf<Volatile<O>>,
}

impl<O: Object> Story<O> {
    fn new() -> Self {
        Story { now: 0, history: History::new() }
    }

    fn event(&mut self, client: u64, event: Event<O::Op>, answer: Option<O::Answer>) -> &mut Self {
        self.now += 10;
        let id = self.history.invoke(client, self.now, Input { object: 1, client, event });
        self.history.answer(id, self.now + 5, answer);
        self
    }

    fn call(&mut self, client: u64, op: O::Op, answer: O::Answer) -> &mut Self {
        self.event(client, Event::Do(op), Some(answer))
    }

    /// May have happened from now on.
    fn perhaps(&mut self, client: u64, event: Event<O::Op>) -> &mut Self {
        self.now += 10;
        self.history.invoke(client, self.now, Input { object: 1, client, event });
        self
    }

    fn holds(&self) -> bool {
        match check(&Volatile::<O>::default(), &self.history, &Limits::default()) {
            Ok(_) => true,
            Err(Failure::NotLinearizable(_)) => false,
            Err(gave_up) => panic!("{gave_up}"),
        }
    }
}

fn write(value: u64) -> RegisterOp {
    RegisterOp::Write(value)
}

#[test]
fn what_was_synced_or_seen_elsewhere_is_not_lost() {
    let lost_after = |what: &dyn Fn(&mut Story<Register>)| {
        let mut story = Story::<Register>::new();
        story.call(1, write(7), 7);
        what(&mut story);
        story.event(1, Event::Lost, None).call(2, RegisterOp::Read, 0);
        story.holds()
    };
    assert!(lost_after(&|_| ()), "what nobody knew of may go");
    assert!(
        !lost_after(&|story| {
            story.event(1, Event::Synced, None);
        }),
        "P2: synced"
    );
    assert!(
        !lost_after(&|story| {
            story.call(2, RegisterOp::Read, 7);
        }),
        "P2: seen by another mount"
    );
    assert!(
        lost_after(&|story| {
            story.call(1, RegisterOp::Read, 7);
        }),
        "seen by the same mount only"
    );
}

#[test]
fn without_a_loss_nothing_goes() {
    let mut story = Story::<Register>::new();
    assert!(!story.call(1, write(7), 7).call(2, RegisterOp::Read, 0).holds());
}

#[test]
fn a_loss_must_be_told_before_a_sync_succeeds() {
    let story = |told: bool| {
        let mut story = Story::<Register>::new();
        story.call(1, write(7), 7).event(1, Event::Lost, None).call(2, RegisterOp::Read, 0);
        if told {
            story.event(1, Event::Told, None);
        }
        story.event(1, Event::Synced, None).holds()
    };
    assert!(story(true));
    assert!(!story(false), "P4: no silent loss");
}

#[test]
fn a_flush_in_the_background_explains_what_survives() {
    let survives = |flushed: bool| {
        let mut story = Story::<Register>::new();
        story.call(1, write(7), 7);
        if flushed {
            story.perhaps(1, Event::Flushed);
        }
        // The older of two unsynced changes is left, and the sync that follows says nothing of a loss of the newer one.
        story.call(1, write(8), 8).event(1, Event::Lost, None).event(1, Event::Told, None);
        story.call(2, RegisterOp::Read, 7).holds()
    };
    assert!(survives(true));
    assert!(!survives(false));
}

#[test]
fn another_mounts_change_is_not_lost_with_ours() {
    let mut story = Story::<Register>::new();
    story.call(1, write(7), 7).call(2, write(8), 8).event(1, Event::Lost, None);
    assert!(!story.call(3, RegisterOp::Read, 0).holds());
}

#[test]
fn names_are_those_of_a_directory() {
    let mut story = Story::<Names>::new();
    story.call(1, NamesOp::Make { name: 0, number: 5 }, NamesAnswer::Done);
    story.call(2, NamesOp::Make { name: 0, number: 6 }, NamesAnswer::Exists);
    story.call(2, NamesOp::Rename { from: 0, to: 2 }, NamesAnswer::Done);
    story.call(1, NamesOp::Look { name: 2 }, NamesAnswer::Leads(5));
    story.call(1, NamesOp::List, NamesAnswer::Listed([false, false, true, false]));
    assert!(story.holds());
    story.call(3, NamesOp::Look { name: 0 }, NamesAnswer::Leads(5));
    assert!(!story.holds(), "the old name is gone");
}

#[test]
fn a_rename_that_another_mount_has_just_done_counts_as_done() {
    let mut story = Story::<Names>::new();
    story.call(1, NamesOp::Make { name: 0, number: 5 }, NamesAnswer::Done);
    story.call(1, NamesOp::Rename { from: 0, to: 1 }, NamesAnswer::Done);
    story.call(2, NamesOp::Rename { from: 0, to: 1 }, NamesAnswer::Done);
    story.call(3, NamesOp::Look { name: 1 }, NamesAnswer::Leads(5));
    assert!(story.holds());
    story.call(2, NamesOp::Rename { from: 0, to: 2 }, NamesAnswer::Done);
    assert!(!story.holds(), "nothing is there");
}

fn log(ops: &[(TreeOp, Outcome)]) -> Vec<Step> {
    let step = |(i, (op, outcome)): (usize, &(TreeOp, Outcome))| {
        let began = 10 * (i as u64 + 1);
        Step { began, ended: began + 5, op: op.clone(), outcome: *outcome }
    };
    ops.iter().enumerate().map(step).collect()
}

/// Names with the runs of equal bytes in the files.
type Files<'a> = &'a [(&'a str, &'a [(u64, u8)])];

fn tree(files: Files) -> Tree {
    files.iter().map(|(name, runs)| ((*name).to_owned(), Entry::File(runs.to_vec()))).collect()
}

fn a() -> String {
    "a".into()
}

fn b() -> String {
    "b".into()
}

#[test]
fn what_is_left_is_a_prefix_with_all_that_was_synced() {
    let ops = [
        (TreeOp::Create(a()), Outcome::Done),
        (TreeOp::Append(a(), 3, 1), Outcome::Done),
        (TreeOp::Sync(a()), Outcome::Done),
        (TreeOp::Append(a(), 4, 2), Outcome::Done),
        (TreeOp::Create(b()), Outcome::Done),
    ];
    let log = log(&ops);
    let left = |gone: bool, files: Files| check_prefix(&log, &[], gone, &tree(files));
    let all: Files = &[("a", &[(3, 1), (4, 2)]), ("b", &[])];
    assert_eq!(left(false, all), Ok(()));
    assert!(matches!(left(false, &[("a", &[(3, 1)])]), Err(Wrong::Left { .. })), "nothing was lost");
    let (synced, longer): (Files, Files) = (&[("a", &[(3, 1)])], &[("a", &[(3, 1), (4, 2)])]);
    for files in [all, synced, longer] {
        assert_eq!(left(true, files), Ok(()));
    }
    let (nothing, too_short): (Files, Files) = (&[], &[("a", &[])]);
    let not_in_order: Files = &[("a", &[(3, 1)]), ("b", &[])];
    for files in [nothing, too_short, not_in_order] {
        assert!(matches!(left(true, files), Err(Wrong::Left { .. })), "{files:?}");
    }
}

/// A sync of one file says nothing about what was done to others after its last change.
#[test]
fn a_sync_reaches_as_far_as_the_last_change_of_its_file() {
    let ops = [
        (TreeOp::Create(a()), Outcome::Done),
        (TreeOp::Create(b()), Outcome::Done),
        (TreeOp::Sync(a()), Outcome::Done),
    ];
    assert_eq!(check_prefix(&log(&ops), &[], true, &tree(&[("a", &[])])), Ok(()));
    assert!(check_prefix(&log(&ops), &[], true, &tree(&[])).is_err());
}

#[test]
fn work_goes_on_after_a_loss() {
    let ops = [
        (TreeOp::Create(a()), Outcome::Done),
        (TreeOp::Append(a(), 3, 1), Outcome::Done),
        (TreeOp::Append(a(), 3, 2), Outcome::Refused(libc::ENOENT)),
        (TreeOp::Create(b()), Outcome::Done),
    ];
    let left = tree(&[("b", &[])]);
    let loss = Loss { from: 22, to: 30 };
    assert_eq!(check_prefix(&log(&ops), &[loss], false, &left), Ok(()));
    assert!(matches!(check_prefix(&log(&ops), &[], false, &left), Err(Wrong::Answer { at: 2, .. })));
    let late = Loss { from: 50, to: 60 };
    assert!(matches!(check_prefix(&log(&ops), &[late], false, &left), Err(Wrong::Answer { at: 2, .. })));
}

#[test]
fn an_operation_of_unknown_outcome_may_be_done_or_not() {
    let ops = [(TreeOp::Create(a()), Outcome::Done), (TreeOp::Rename(a(), b()), Outcome::Unknown)];
    for left in [tree(&[("a", &[])]), tree(&[("b", &[])])] {
        assert_eq!(check_prefix(&log(&ops), &[], false, &left), Ok(()));
    }
    assert!(check_prefix(&log(&ops), &[], false, &tree(&[("a", &[]), ("b", &[])])).is_err());
}
