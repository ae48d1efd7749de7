//! What clients asked and were answered, and when.

use super::model::Model;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One operation of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<I, O> {
    /// Who asked; only for people who read it. One client may ask several things at once.
    pub process: u64,
    /// When it was asked, or before.
    pub invoked: u64,
    /// What was asked.
    pub input: I,
    /// What came back. None: nothing, so it may be executed at any time from `invoked` on, or never.
    pub answer: Option<Answer<O>>,
}

/// The end of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<O> {
    /// When the answer was there, or after. Not before the operation was asked.
    pub at: u64,
    /// What it said.
    pub output: O,
}

/// Names an operation of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpId(usize);

/// Operations on one service, in any order; their times tell which came before which. The unit of time does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<I, O> {
    /// A place that became empty is an operation that surely did not happen.
    operations: Vec<Option<Operation<I, O>>>,
}

/// The history of a model's service.
pub type HistoryOf<M> = History<<M as Model>::Input, <M as Model>::Output>;

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        History { operations: Vec::new() }
    }
}

impl<I, O> History<I, O> {
    /// Nothing has happened.
    pub fn new() -> Self {
        History::default()
    }

    /// `process` asks `input` at the moment `at`. Until it is answered its outcome is unknown.
    pub fn invoke(&mut self, process: u64, at: u64, input: I) -> OpId {
        self.push(Operation { process, invoked: at, input, answer: None })
    }

    /// The operation `id` was answered at the moment `at`.
    ///
    /// # Panics
    /// If that is before it was asked, or it has been answered already: the recording is wrong.
    pub fn answer(&mut self, id: OpId, at: u64, output: O) {
        let operation =
            self.operations[id.0].as_mut().expect("an operation that never happened has no answer");
        assert!(operation.answer.is_none(), "operation {} is answered twice", id.0);
        assert!(operation.invoked <= at, "operation {} is answered at {at}, before it was asked", id.0);
        operation.answer = Some(Answer { at, output });
    }

    /// The operation `id` was not executed and never will be (refused, never sent): it is taken out.
    pub fn never(&mut self, id: OpId) {
        self.operations[id.0] = None;
    }

    /// Adds a whole operation.
    pub fn push(&mut self, operation: Operation<I, O>) -> OpId {
        self.operations.push(Some(operation));
        OpId(self.operations.len() - 1)
    }

    /// Adds what another recorder on the same clock saw.
    pub fn join(&mut self, other: History<I, O>) {
        self.operations.extend(other.operations.into_iter().flatten().map(Some));
    }

    /// The operations, in the order in which they were added.
    pub fn operations(&self) -> impl Iterator<Item = &Operation<I, O>> {
        self.operations.iter().flatten()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many operations have no answer.
    pub fn unknown(&self) -> usize {
        self.operations().filter(|operation| operation.answer.is_none()).count()
    }
}

impl<I, O> FromIterator<Operation<I, O>> for History<I, O> {
    fn from_iter<T: IntoIterator<Item = Operation<I, O>>>(operations: T) -> Self {
        History { operations: operations.into_iter().map(Some).collect() }
    }
}

impl<I: Serialize, O: Serialize> Serialize for History<I, O> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.operations())
    }
}

impl<'de, I: Deserialize<'de>, O: Deserialize<'de>> Deserialize<'de> for History<I, O> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let operations = Vec::<Operation<I, O>>::deserialize(from)?;
        for (i, operation) in operations.iter().enumerate() {
            if operation.answer.as_ref().is_some_and(|answer| answer.at < operation.invoked) {
                return Err(D::Error::custom(format!("operation {i} is answered before it was asked")));
            }
        }
        Ok(operations.into_iter().collect())
    }
}
