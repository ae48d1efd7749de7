//! The simulator of the whole stack can fail: it finds each of the planted bugs, by the invariants named here.
//! `docs/planted-bugs.md` has the table.
#![cfg(feature = "planted")]

#[path = "../src/stack/shim.rs"]
mod shim;

use lock_rsm::planted::{StackBug, plant_in_stack};
use yfs_tests::stack::{Failure, Setup, run_with};

/// Every bug is found within so many seeds, counted from 1.
const WITHIN: u64 = 100;

/// The first seed that shows the bug, and how.
fn first_failure(bug: StackBug) -> Option<Box<Failure>> {
    (1..=WITHIN).find_map(|seed| run_with(Setup::of_seed(seed), move || plant_in_stack(bug)).err())
}

fn finds(bugs: &[StackBug]) {
    for &bug in bugs {
        let failure =
            first_failure(bug).unwrap_or_else(|| panic!("{bug:?} is not found within {WITHIN} seeds"));
        println!("{bug:?}: seed {}: {}: {}", failure.seed, failure.invariant, failure.what);
    }
}

#[test]
fn planted_bugs_are_found_1() {
    finds(&StackBug::ALL[..StackBug::ALL.len() / 2]);
}

#[test]
fn planted_bugs_are_found_2() {
    finds(&StackBug::ALL[StackBug::ALL.len() / 2..]);
}
