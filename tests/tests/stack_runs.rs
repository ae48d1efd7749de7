//! The simulator of the whole stack over a fixed set of seeds, in several tests so that they run side by side.

#[path = "../src/stack/shim.rs"]
mod shim;

use yfs_tests::stack::record::Counts;
use yfs_tests::stack::{Setup, run, run_as};

/// Runs seeds, and requires that enough happens in them for their passing to mean something.
fn runs(seeds: std::ops::Range<u64>) {
    let number = seeds.end - seeds.start;
    let mut all = Counts::default();
    for seed in seeds {
        let counts = run(seed).unwrap_or_else(|failure| panic!("{failure}")).counts;
        all.add(&counts);
    }
    println!("{number} runs: {all:?}");
    let is_lively = all.operations > 200 * number
        && all.cached > number
        && all.commits > 50 * number
        && all.masters > number
        && all.crashes.iter().all(|crashes| *crashes > number / 4)
        && all.pauses.iter().all(|pauses| *pauses > number / 4)
        && all.fenced > 0
        && all.lost > 0
        && all.broken > number;
    assert!(is_lively, "the runs exercise little: {all:?}");
}

#[test]
fn the_stack_survives_faults_1() {
    runs(1..21);
}

#[test]
fn the_stack_survives_faults_2() {
    runs(1_001..1_021);
}

#[test]
fn without_faults_nothing_fails() {
    for seed in 1..6 {
        let counts = run_as(Setup::calm(seed)).unwrap_or_else(|failure| panic!("{failure}")).counts;
        assert_eq!((counts.failed, counts.lost, counts.fenced), (0, 0, 0), "seed {seed}: {counts:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first: Vec<_> = (1..5).map(|seed| run(seed).unwrap_or_else(|failure| panic!("{failure}"))).collect();
    let again: Vec<_> = (1..5).map(|seed| run(seed).unwrap_or_else(|failure| panic!("{failure}"))).collect();
    assert_eq!(first, again);
    let digests: std::collections::BTreeSet<_> = first.iter().map(|report| report.digest).collect();
    assert_eq!(digests.len(), first.len(), "different seeds are different runs");
}
