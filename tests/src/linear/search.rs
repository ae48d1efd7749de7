//! The search for an order, within one part of a history.
//!
//! As Wing and Gong: place one of the operations that may come next, go on, and take it back when nothing fits any more.
//! As Lowe: remember each configuration (what is placed, and the state), and never try one twice.
//!
//! Operations with **unknown** outcome are placed only where they help: between two answered operations, as few of
//! them as possible first. That loses nothing, since they may be left out altogether. For the same reason a configuration
//! that needed fewer of them is as good as any with the same state and more of them: if the former led nowhere, so does
//! the latter, and it is not tried. Of several unknown operations that ask the same thing, the one asked first stands
//! for all. Without these three rules a handful of time-outs would make the search exponential.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::bits::Bits;
use super::history::Operation;
use super::list::Events;
use super::model::Model;
use std::collections::BTreeMap;

/// An operation of a model.
pub(super) type Op<M> = Operation<<M as Model>::Input, <M as Model>::Output>;

/// How the search ended.
pub(super) enum Found<S> {
    /// There is an order.
    Order,
    /// There is none; this is how far one can get.
    Nothing(Farthest<S>),
    /// The budget is used up; this is how far it got.
    GaveUp(Farthest<S>),
}

/// The longest prefix of an order that was found.
pub(super) struct Farthest<S> {
    /// What is placed, by its index among the operations searched.
    pub(super) placed: Vec<usize>,
    /// The state after it.
    pub(super) state: S,
    /// What would have to come next, but cannot.
    pub(super) stuck: Vec<usize>,
    /// How many answered operations are placed.
    pub(super) answered: usize,
}

/// A place in the search after an answered operation, and what can be done there.
struct Frame<S> {
    /// The states that can be reached from there through unknown operations; the first one is through none.
    nodes: Vec<Node<S>>,
    /// Which node's continuations are being tried, and which of them is next.
    at: usize,
    next: usize,
    /// Which node's neighbours are added next, once nothing came of all the nodes there are.
    widened: usize,
    /// The answered operations that may come next, the most urgent first.
    candidates: Vec<usize>,
    /// How many of the unknown operations have been asked by then.
    unknown: usize,
    /// The operation placed to get here.
    via: Option<usize>,
}

struct Node<S> {
    state: S,
    unknown: Bits,
    /// From which node, through which unknown operation.
    from: Option<(usize, usize)>,
}

/// A configuration but for the unknown operations: the first answered operation that is not placed, which later ones
/// are, and the state. For each, the sets of unknown operations with which it was tried.
type Tried<S> = BTreeMap<(usize, Box<[u64]>, S), Vec<Bits>>;

struct Search<'a, M: Model> {
    model: &'a M,
    /// Indexes of the answered operations, by when they were asked.
    answered: Vec<usize>,
    /// Indexes of the others, by when they were asked.
    unknown: Vec<usize>,
    /// For each unknown operation the one before it that asks the same.
    twin: Vec<Option<usize>>,
    ops: &'a [&'a Op<M>],
    events: Events,
    placed: Bits,
    /// Number of operations placed, and the first that is not.
    count: usize,
    low: usize,
    tried: Tried<M::State>,
    frames: Vec<Frame<M::State>>,
    farthest: Option<Farthest<M::State>>,
}

/// Looks for an order of `ops`, all of the part `key`. Every try of an operation costs one of `budget`.
pub(super) fn search<M: Model>(model: &M, key: &M::Key, ops: &[&Op<M>], budget: &mut u64) -> Found<M::State> {
    let mut search = Search::new(model, ops);
    search.enter(model.initial(key), Bits::default(), None);
    loop {
        if search.count == search.answered.len() {
            return Found::Order;
        }
        if *budget == 0 {
            return Found::GaveUp(search.into_farthest());
        }
        if !search.place_one(budget) && !search.go_on(budget) {
            return Found::Nothing(search.into_farthest());
        }
    }
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, ops: &'a [&'a Op<M>]) -> Self {
        let mut order: Vec<usize> = (0..ops.len()).collect();
        order.sort_by_key(|&i| ops[i].invoked);
        let (answered, unknown): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|&i| ops[i].answer.is_some());
        let times: Vec<(u64, u64)> = answered
            .iter()
            .filter_map(|&i| ops[i].answer.as_ref().map(|answer| (ops[i].invoked, answer.at)))
            .collect();
        let twin = (0..unknown.len())
            .map(|i| (0..i).rev().find(|&j| ops[unknown[i]].input == ops[unknown[j]].input))
            .collect();
        Search {
            model,
            answered,
            unknown,
            twin,
            ops,
            events: Events::new(&times),
            placed: Bits::default(),
            count: 0,
            low: 0,
            tried: Tried::new(),
            frames: Vec::new(),
            farthest: None,
        }
    }

    fn op(&self, answered: usize) -> &'a Op<M> {
        self.ops[self.answered[answered]]
    }

    /// When an answered operation was answered.
    fn end(&self, answered: usize) -> u64 {
        self.op(answered).answer.as_ref().map_or(u64::MAX, |answer| answer.at)
    }

    /// Tries the next continuation of the current node; false when there is none.
    fn place_one(&mut self, budget: &mut u64) -> bool {
        let frame = self.frames.last_mut().expect("the first frame is left only at the end");
        let Some(&op) = frame.candidates.get(frame.next) else { return false };
        frame.next += 1;
        let at = frame.at;
        let operation = self.op(op);
        let node = &self.frames.last().expect("as above").nodes[at];
        *budget = budget.saturating_sub(1);
        let output = operation.answer.as_ref().map(|answer| &answer.output);
        if let Some(state) = self.model.step(&node.state, &operation.input, output) {
            let unknown = node.unknown.clone();
            self.place(op);
            if self.is_new(&state, &unknown) {
                self.enter(state, unknown, Some(op));
            } else {
                self.unplace(op);
            }
        }
        true
    }

    /// Goes on to the next node, or back to the frame before; false when there is no frame left.
    fn go_on(&mut self, budget: &mut u64) -> bool {
        let frame = self.frames.last_mut().expect("as in place_one");
        frame.at += 1;
        frame.next = 0;
        loop {
            let frame = self.frames.last_mut().expect("as in place_one");
            if frame.at < frame.nodes.len() {
                return true;
            }
            if frame.widened == frame.nodes.len() {
                break;
            }
            frame.widened += 1;
            let from = frame.widened - 1;
            self.widen(from, budget);
        }
        self.note_farthest();
        let frame = self.frames.pop().expect("looked at above");
        if let Some(op) = frame.via {
            self.unplace(op);
        }
        !self.frames.is_empty()
    }

    /// Adds the nodes that are one more unknown operation away from the node `at`.
    fn widen(&mut self, at: usize, budget: &mut u64) {
        for i in 0..self.frames.last().expect("as in place_one").unknown {
            let node = &self.frames.last().expect("as in place_one").nodes[at];
            if node.unknown.has(i) || self.twin[i].is_some_and(|twin| !node.unknown.has(twin)) {
                continue;
            }
            *budget = budget.saturating_sub(1);
            let input = &self.ops[self.unknown[i]].input;
            let Some(state) = self.model.step(&node.state, input, None) else { continue };
            let mut unknown = node.unknown.clone();
            unknown.insert(i);
            if self.is_new(&state, &unknown) {
                let node = Node { state, unknown, from: Some((at, i)) };
                self.frames.last_mut().expect("as in place_one").nodes.push(node);
            }
        }
    }

    /// Whether this configuration, or one as good, has not been tried yet; from now on it has.
    fn is_new(&mut self, state: &M::State, unknown: &Bits) -> bool {
        let tried = self.tried.entry((self.low, self.placed.from(self.low), state.clone())).or_default();
        if tried.iter().any(|fewer| fewer.is_within(unknown)) {
            return false;
        }
        tried.retain(|more| !unknown.is_within(more));
        tried.push(unknown.clone());
        true
    }

    fn enter(&mut self, state: M::State, unknown: Bits, via: Option<usize>) {
        let (mut candidates, first) = self.events.candidates();
        candidates.sort_by_key(|&op| (self.end(op), op));
        let until = first.map_or(u64::MAX, |op| self.end(op));
        let asked = self.unknown.partition_point(|&i| self.ops[i].invoked <= until);
        let nodes = vec![Node { state, unknown, from: None }];
        self.frames.push(Frame { nodes, at: 0, next: 0, widened: 0, candidates, unknown: asked, via });
    }

    fn place(&mut self, op: usize) {
        self.events.take_out(op);
        self.placed.insert(op);
        self.count += 1;
        while self.placed.has(self.low) {
            self.low += 1;
        }
    }

    fn unplace(&mut self, op: usize) {
        self.events.put_back(op);
        self.placed.remove(op);
        self.count -= 1;
        self.low = self.low.min(op);
    }

    /// Keeps the current place, if no longer prefix was found so far.
    fn note_farthest(&mut self) {
        if self.farthest.as_ref().is_some_and(|farthest| farthest.answered >= self.count) {
            return;
        }
        let mut placed = Vec::new();
        for (i, frame) in self.frames.iter().enumerate() {
            placed.extend(frame.via.map(|op| self.answered[op]));
            if i + 1 < self.frames.len() {
                placed.extend(frame.unknown_on_the_way().into_iter().map(|i| self.unknown[i]));
            }
        }
        let last = self.frames.last().expect("as in place_one");
        self.farthest = Some(Farthest {
            placed,
            state: last.nodes[0].state.clone(),
            stuck: last.candidates.iter().map(|&op| self.answered[op]).collect(),
            answered: self.count,
        });
    }

    fn into_farthest(mut self) -> Farthest<M::State> {
        if !self.frames.is_empty() {
            self.note_farthest();
        }
        self.farthest.expect("noted when the first frame was left, or just now")
    }
}

impl<S> Frame<S> {
    /// The unknown operations placed to get from the first node to the current one.
    fn unknown_on_the_way(&self) -> Vec<usize> {
        let mut way = Vec::new();
        let mut node = &self.nodes[self.at];
        while let Some((from, op)) = node.from {
            way.push(op);
            node = &self.nodes[from];
        }
        way.reverse();
        way
    }
}
