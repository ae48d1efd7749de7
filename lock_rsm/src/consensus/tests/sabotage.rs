//! The checks are worth something: a driver that breaks a rule of durability is caught.

use super::network::Weather;
use super::random::{Faults, run};
use super::setup::{Sabotage, Setup};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether one of the first seeds shows the damage.
fn is_caught(sabotage: Sabotage) -> bool {
    let faults = Faults { membership: false, hand_over: false, pauses: false };
    (1..=60).any(|seed| {
        let setup = Setup {
            weather: Weather::ROUGH,
            disk_ms_max: 30,
            check_lease: false,
            sabotage: Some(sabotage),
            ..Setup::new(3, seed)
        };
        catch_unwind(AssertUnwindSafe(|| run(setup, faults, 3_000).recover())).is_err()
    })
}

#[test]
fn sending_before_the_disk_has_it_is_caught() {
    assert!(is_caught(Sabotage::NeverWaits));
}

#[test]
fn forgetting_votes_is_caught() {
    assert!(is_caught(Sabotage::ForgetsPromises));
}

#[test]
fn keeping_what_was_taken_back_is_caught() {
    assert!(is_caught(Sabotage::NeverTruncates));
}

#[test]
fn losing_the_end_of_the_log_is_caught() {
    assert!(is_caught(Sabotage::LosesTail));
}
