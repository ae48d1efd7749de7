//! What a service does, one operation after the other.

use std::fmt::Debug;

/// The sequential specification of a service, split into parts that do not depend on each other.
pub trait Model {
    /// Names a part: every operation belongs to one, and no operation sees another part's state.
    type Key: Ord + Clone + Debug;
    /// The state of one part.
    type State: Ord + Clone + Debug;
    /// What is asked.
    type Input: PartialEq + Clone + Debug;
    /// What is answered.
    type Output: Clone + Debug;

    /// The part an operation belongs to.
    fn key(&self, input: &Self::Input) -> Self::Key;

    /// A part's state before the first operation.
    fn initial(&self, key: &Self::Key) -> Self::State;

    /// Executes an operation in `state`. Gives the state afterwards when the service may answer `output` there; without
    /// an `output`, when it may be executed there at all. The answer may decide between several possible states
    /// afterwards; without an answer there must be only one.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;
}
