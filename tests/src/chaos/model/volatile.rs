//! A file or a directory shared by several mounts, each of which may lose what it has not flushed.
//!
//! What a mount changed is seen by all at once (P1). It is durable as soon as another mount used the object, or a sync
//! was answered with success (P2). The rest is lost when the mount's process is killed or its session is ended, and then
//! the next sync there must not succeed (P4).
//!
//! When something is lost is not for the client to say, so these are operations of the history as well:
//! [`Event::Lost`], once for each session that ended, and [`Event::Flushed`], of unknown outcome, once for each change
//! that may have been flushed in the background before.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Debug;

/// What is shared: a sequential object.
pub trait Object {
    /// What it holds.
    type State: Ord + Clone + Debug + Default;
    /// What is done with it.
    type Op: PartialEq + Clone + Debug;
    /// What comes back.
    type Answer: PartialEq + Clone + Debug;

    /// What an operation answers, and what the object holds afterwards.
    fn apply(state: &Self::State, op: &Self::Op) -> (Self::Answer, Self::State);

    /// Whether the kernel may answer this by itself, without anything being done.
    fn excused(_state: &Self::State, _op: &Self::Op, _answer: &Self::Answer) -> bool {
        false
    }
}

/// What happens to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<Op> {
    /// A system call on a mount.
    Do(Op),
    /// A sync that succeeded.
    Synced,
    /// A sync, write or close that failed: what was lost before has been told.
    Told,
    /// Everything that the mount changed so far may have become durable.
    Flushed,
    /// What the mount changed and did not flush is gone.
    Lost,
}

/// Something that happens to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input<Op> {
    /// Which object.
    pub object: u64,
    /// Through which mount. A process that is started again is another one.
    pub client: u64,
    /// What.
    pub event: Event<Op>,
}

/// An object and who changed it last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Held<S> {
    /// What everybody sees.
    now: S,
    /// What would be left if `owner` lost everything.
    kept: S,
    /// Who has changes that are not durable.
    owner: Option<u64>,
    /// Who lost changes and was not told.
    untold: BTreeSet<u64>,
}

/// Objects of one kind, each by itself.
pub struct Volatile<O>(std::marker::PhantomData<O>);

impl<O> Default for Volatile<O> {
    fn default() -> Self {
        Volatile(std::marker::PhantomData)
    }
}

impl<O: Object> Model for Volatile<O> {
    type Key = u64;
    type State = Held<O::State>;
    type Input = Input<O::Op>;
    /// The answer of a system call; nothing for everything else.
    type Output = Option<O::Answer>;

    fn key(&self, input: &Input<O::Op>) -> u64 {
        input.object
    }

    fn initial(&self, _: &u64) -> Held<O::State> {
        Held::default()
    }

    fn step(
        &self,
        state: &Held<O::State>,
        input: &Input<O::Op>,
        output: Option<&Option<O::Answer>>,
    ) -> Option<Held<O::State>> {
        let mut state = state.clone();
        let client = input.client;
        match &input.event {
            Event::Do(op) => {
                if state.owner != Some(client) {
                    state.keep();
                }
                let (answer, after) = O::apply(&state.now, op);
                if let Some(output) = output
                    && output.as_ref() != Some(&answer)
                {
                    let excused = output.as_ref().is_some_and(|output| O::excused(&state.now, op, output));
                    return excused.then_some(state);
                }
                if after != state.now {
                    state.now = after;
                    state.owner = Some(client);
                }
            }
            Event::Synced => {
                if state.untold.contains(&client) {
                    return None;
                }
                if state.owner == Some(client) {
                    state.keep();
                }
            }
            Event::Told => drop(state.untold.remove(&client)),
            Event::Flushed => {
                if state.owner == Some(client) {
                    state.keep();
                }
            }
            Event::Lost => {
                if state.owner == Some(client) {
                    state.now = state.kept.clone();
                    state.owner = None;
                    state.untold.insert(client);
                }
            }
        }
        Some(state)
    }
}

impl<S: Clone> Held<S> {
    /// What is now is durable.
    fn keep(&mut self) {
        self.kept = self.now.clone();
        self.owner = None;
    }
}
