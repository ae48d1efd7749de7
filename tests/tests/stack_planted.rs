//! The simulator of the whole stack can fail: it finds each of the planted bugs, by the invariants named here.
//! `docs/planted-bugs.md` has the table.
#![cfg(feature = "planted")]

#[path = "../src/stack/shim.rs"]
mod shim;

use lock_rsm::planted::{StackBug, plant_in_stack};
use yfs_tests::stack::{Failure, Setup, run_with};

/// Every bug is found within so many seeds, counted from 1.
const WITHIN: u64 = 40;

/// The first seed that shows the bug, and how.
fn first_failure(bug: StackBug) -> Option<Box<Failure>> {
    (1..=WITHIN).find_map(|seed| run_with(Setup::of_seed(seed), move || plant_in_stack(bug)).err())
}

fn is_found(bug: StackBug) {
    let failure = first_failure(bug).unwrap_or_else(|| panic!("{bug:?} is not found within {WITHIN} seeds"));
    println!("{bug:?}: seed {}: {}: {}", failure.seed, failure.invariant, failure.what);
}

#[test]
fn a_session_expired_without_being_fenced_is_found() {
    is_found(StackBug::SkipFence);
}

#[test]
fn a_lease_counted_from_the_answer_is_found() {
    is_found(StackBug::LeaseFromAnswer);
}

#[test]
fn belief_in_what_is_old_is_found() {
    is_found(StackBug::IgnoreViewstamp);
}

#[test]
fn caches_used_after_the_lease_are_found() {
    is_found(StackBug::ServeAfterLease);
}

#[test]
fn a_lock_given_back_before_the_flush_is_found() {
    is_found(StackBug::ReleaseBeforeFlush);
}

#[test]
fn a_kernel_that_is_not_told_when_a_lock_goes_is_found() {
    is_found(StackBug::KeepKernelCache);
}

#[test]
fn an_fsync_that_does_not_wait_is_found() {
    is_found(StackBug::SyncWithoutFlush);
}

#[test]
fn without_a_bug_the_seeds_that_show_them_pass() {
    for seed in [1, 2, 4, 14] {
        if let Err(failure) = run_with(Setup::of_seed(seed), || ()) {
            panic!("seed {seed}: {}: {}", failure.invariant, failure.what);
        }
    }
}
