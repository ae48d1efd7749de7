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
    /// A master that no majority follows goes on as if it led, and confirms reads without asking.
    ReadUnconfirmed,
    /// A master confirms reads before it knows how far the log it inherited is committed.
    ReadUnsettled,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 12] = [
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
        Bug::ReadUnconfirmed,
        Bug::ReadUnsettled,
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

/// What is wrong somewhere in the whole stack, for the simulator of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StackBug {
    /// A silent session is expired without being fenced before.
    SkipFence,
    /// A client counts its lease from when the answer came.
    LeaseFromAnswer,
    /// A client serves from its caches without looking at its lease.
    ServeAfterLease,
    /// A lock is given back before what was changed under it is flushed.
    ReleaseBeforeFlush,
    /// A client believes whatever it is told of a lock, however old.
    IgnoreViewstamp,
    /// The kernel is not told when a lock goes.
    KeepKernelCache,
    /// A lock is given to an operation of this client while it is being given back or downgraded.
    GrantDuringDowngrade,
    /// What the extent server lost when it restarted is not sent again.
    LoseGeneration,
    /// A file's attributes are committed before its data.
    MetadataBeforeData,
    /// `fsync` does not wait.
    SyncWithoutFlush,
    /// Nobody is told of changes that were lost with the session.
    LoseSilently,
}

impl StackBug {
    /// All of them.
    pub const ALL: [StackBug; 11] = [
        StackBug::SkipFence,
        StackBug::LeaseFromAnswer,
        StackBug::ServeAfterLease,
        StackBug::ReleaseBeforeFlush,
        StackBug::IgnoreViewstamp,
        StackBug::KeepKernelCache,
        StackBug::GrantDuringDowngrade,
        StackBug::LoseGeneration,
        StackBug::MetadataBeforeData,
        StackBug::SyncWithoutFlush,
        StackBug::LoseSilently,
    ];
}

thread_local! {
    static IN_STACK: Cell<Option<StackBug>> = const { Cell::new(None) };
}

/// Takes the bug out of the stack again when dropped.
#[must_use = "the bug is gone when this is dropped"]
#[derive(Debug)]
pub struct PlantedInStack(());

/// Plants a bug in everything that runs in this thread.
pub fn plant_in_stack(bug: StackBug) -> PlantedInStack {
    IN_STACK.set(Some(bug));
    PlantedInStack(())
}

impl Drop for PlantedInStack {
    fn drop(&mut self) {
        IN_STACK.set(None);
    }
}

/// Whether this thread has that bug in its stack.
pub fn is_in_stack(bug: StackBug) -> bool {
    IN_STACK.get() == Some(bug)
}
