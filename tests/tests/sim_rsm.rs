//! The simulator over a fixed set of seeds, in several tests so that they run side by side.

use yfs_tests::sim::run;
use yfs_tests::sim::world::Counts;

/// Runs seeds, and requires that enough happens in them for their passing to mean something.
fn runs(seeds: std::ops::Range<u64>) {
    let number = seeds.end - seeds.start;
    let mut all = Counts::default();
    for seed in seeds {
        let counts = run(seed).unwrap_or_else(|failure| panic!("{failure}")).counts;
        all.add(&counts);
    }
    println!("{number} runs: {all:?}");
    let is_lively = all.masters > 4 * number
        && all.acknowledged > 50 * number
        && all.reads > 5 * number
        && all.checked > 30 * number
        && all.unknown > number / 2
        && all.crashes > 3 * number
        && all.disk_failures > 0
        && all.installed > number / 4
        && all.shutdowns > 0
        && all.changes > number
        && all.asked_in > number
        && all.lost_disks > 0;
    assert!(is_lively, "the runs exercise little: {all:?}");
}

#[test]
fn a_group_survives_faults_1() {
    runs(1..201);
}

#[test]
fn a_group_survives_faults_2() {
    runs(1_001..1_201);
}

#[test]
fn a_group_survives_faults_3() {
    runs(2_001..2_201);
}

#[test]
fn a_group_survives_faults_4() {
    runs(3_001..3_201);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first: Vec<_> = (1..9).map(|seed| run(seed).expect("it passes")).collect();
    let again: Vec<_> = (1..9).map(|seed| run(seed).expect("it passes")).collect();
    assert_eq!(first, again);
    let digests: std::collections::BTreeSet<_> = first.iter().map(|report| report.digest).collect();
    assert_eq!(digests.len(), first.len(), "different seeds are different runs");
}
