//! The simulator can fail: it finds each of the planted bugs, and passes the same seeds without. `docs/planted-bugs.md` has
//! the table.

use super::{Failure, run};
use lock_rsm::planted::{Bug, plant};

/// Every bug is found within so many seeds, counted from 1.
const WITHIN: u64 = 50;
/// A read that is too old is only seen when two masters, a write and a reader meet.
const STALE_READ_WITHIN: u64 = 200;

/// The invariant that finds it first.
fn finder(bug: Bug) -> &'static str {
    match bug {
        Bug::AcknowledgeBeforeFsync | Bug::CountNonVoter => "committed entries are durable",
        Bug::VoteTwice | Bug::ForgetPromise => "one vote per view",
        Bug::CommitOldView => "a master commits in its own view",
        Bug::ApplyOutOfOrder => "committed entries stay",
        Bug::ForgetReplyTable => "equal states at equal viewstamps",
        Bug::TwoChangesAtOnce => "one change at a time",
        Bug::VoteForShorterLog => "leader completeness",
        Bug::CommitUnmatched => "nobody speaks nonsense",
        Bug::ReadUnconfirmed | Bug::ReadUnsettled => "what clients saw is linearizable",
    }
}

/// The first seed that shows the bug, and how.
fn first_failure(bug: Bug) -> Option<Box<Failure>> {
    let _planted = plant(bug);
    let within = if bug == Bug::ReadUnconfirmed { STALE_READ_WITHIN } else { WITHIN };
    (1..=within).find_map(|seed| run(seed).err())
}

#[test]
fn each_planted_bug_is_found() {
    let mut wrong = Vec::new();
    for bug in Bug::ALL {
        match first_failure(bug) {
            Some(failure) => {
                println!("{bug:?}: seed {}: {}: {}", failure.seed, failure.invariant, failure.what);
                if failure.invariant != finder(bug) {
                    wrong.push(format!("{bug:?} is found by another invariant: {}", failure.invariant));
                }
            }
            None => wrong.push(format!("{bug:?} is not found")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_same_seeds_pass_without_a_bug() {
    for seed in 1..=WITHIN {
        run(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn the_documents_tell_the_same() {
    let table = include_str!("../../../docs/planted-bugs.md");
    assert!(table.contains(&format!("within {WITHIN} seeds")));
    assert!(table.contains(&format!("{STALE_READ_WITHIN} for `ReadUnconfirmed`")));
    for bug in Bug::ALL {
        let row = table.lines().find(|line| line.starts_with(&format!("| `{bug:?}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/planted-bugs.md has no row for {bug:?}"));
        assert!(row.contains(finder(bug)), "docs/planted-bugs.md names another invariant for {bug:?}");
    }
}
