//! Real processes under faults: what their clients see is linearizable, and a service that cheats is found out.

use yfs_tests::binaries::Binaries;
use yfs_tests::linear::Failure;
use yfs_tests::linear::live::{Kind, Plan, RunError, run};

/// Chooses the faults. The processes do not run the same way twice, but the same things happen to them.
const SEED: u64 = 20071107;
/// What is wrong must be found within so many runs. Mostly it is in the first.
const SEEDS_MAX: u64 = 5;

/// Runs the plan; the directory stays when it fails.
async fn pass(plan: Plan) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    println!("seed {}", plan.seed);
    match run(&Binaries::of_this_build(), dir.path(), &plan).await {
        Ok(report) => {
            println!("{report}");
            let operations: usize = report.checked.iter().map(|(_, checked)| checked.operations).sum();
            assert!(operations >= 2 * plan.operations_min, "the other processes did their part: {report}");
            assert!(report.tally.masters_killed > 0 && report.tally.masters_paused > 0, "{report}");
        }
        Err(error) => {
            panic!("{error}\n(seed {}; state and logs are kept in {})", plan.seed, dir.keep().display())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registers_whose_replicas_are_killed_and_paused() {
    pass(Plan { faults_min: 5, operations_min: 1500, ..Plan::new(Kind::Registers, SEED) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_commands_to_replicas_that_are_killed_and_paused() {
    pass(Plan { faults_min: 5, operations_min: 1500, ..Plan::new(Kind::LockCommands, SEED) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_of_clients_that_are_paused_past_their_lease_and_die() {
    pass(Plan { faults_min: 5, operations_min: 300, ..Plan::new(Kind::Guards, SEED) }).await;
}

/// Runs plans in which something is wrong, until it is found; what was found.
async fn must_fail(kind: Kind) -> String {
    for seed in SEED..SEED + SEEDS_MAX {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let plan = Plan { cheat: true, faults_min: 3, operations_min: 300, ..Plan::new(kind, seed) };
        match run(&Binaries::of_this_build(), dir.path(), &plan).await {
            Err(RunError::Check { failure, .. }) => {
                println!("{failure}");
                assert!(matches!(failure, Failure::NotLinearizable(_)), "{failure}");
                return failure.to_string();
            }
            Err(error) => panic!("{error}"),
            Ok(report) => println!("seed {seed} did not show it: {report}"),
        }
    }
    panic!("it went unnoticed with {SEEDS_MAX} seeds")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_answered_without_asking_the_others_are_found_out() {
    let found = must_fail(Kind::Registers).await;
    assert!(found.contains("Get {"), "it is a read that is wrong: {found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_who_believe_in_a_guard_after_its_lease_are_found_out() {
    let found = must_fail(Kind::Guards).await;
    assert!(found.contains("  ! "), "{found}");
}
