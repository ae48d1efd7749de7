//! Bugs for the simulator to find. Only in builds with the feature `planted`, which is never on by default: a checker that
//! has never failed proves nothing.
//!
//! A bug is planted in the thread that asks for it ([`plant`]), and in no other.

use std::cell::Cell;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A slave acknowledges entries before they are on its disk.
    AcknowledgeBeforeFsync,
    /// A replica gives its vote to everybody who asks in a view.
    VoteTwice,
    /// A replica that starts again does not know whom it voted for.
    ForgetPromise,
    /// A master commits an entry of an earlier view by counting who has it.
    CommitOldView,
    /// Two commands that become committed together are executed in the wrong order.
    ApplyOutOfOrder,
    /// A snapshot has no answers to requests that were executed.
    ForgetReplyTable,
    /// A master changes the membership while an earlier change is not committed.
    TwoChangesAtOnce,
    /// A member without a vote counts in quorums.
    CountNonVoter,
    /// A replica votes for one whose log lacks what its own has.
    VoteForShorterLog,
    /// A heartbeat says what is committed even to a member that is not known to have it.
    CommitUnmatched,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 10] = [
        Bug::AcknowledgeBeforeFsync,
        Bug::VoteTwice,
        Bug::ForgetPromise,
        Bug::CommitOldView,
        Bug::ApplyOutOfOrder,
        Bug::ForgetReplyTable,
        Bug::TwoChangesAtOnce,
        Bug::CountNonVoter,
        Bug::VoteForShorterLog,
        Bug::CommitUnmatched,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Takes the bug out again when dropped, in a panic too.
#[must_use = "the bug is gone when this is dropped"]
#[derive(Debug)]
pub struct Planted(());

/// Plants a bug in this thread.
pub fn plant(bug: Bug) -> Planted {
    PLANTED.set(Some(bug));
    Planted(())
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// Whether this thread has that bug.
pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
