//! The questions and answers that are still to be explained, in the order of their times.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// What a list's entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Asked(usize),
    Answered(usize),
}

/// A doubly linked list of events in which an operation can be taken out and put back in constant time, last out first
/// in (Lowe 2017, section 3).
pub(super) struct Events {
    /// In order of time; entry `i` is at `i + 1` in the links, and 0 is the list's head.
    events: Vec<Event>,
    next: Vec<usize>,
    prev: Vec<usize>,
    /// Where each operation's two events are.
    places: Vec<(usize, usize)>,
}

impl Events {
    /// The events of operations that were asked and answered at these moments. At the same moment questions come first,
    /// so that the operations count as concurrent.
    pub(super) fn new(times: &[(u64, u64)]) -> Events {
        let mut order: Vec<(u64, bool, Event)> = Vec::new();
        for (op, &(asked, answered)) in times.iter().enumerate() {
            order.push((asked, false, Event::Asked(op)));
            order.push((answered, true, Event::Answered(op)));
        }
        order.sort_by_key(|&(at, is_answer, _)| (at, is_answer));
        let events: Vec<Event> = order.into_iter().map(|(.., event)| event).collect();
        let mut places = vec![(0, 0); times.len()];
        for (i, event) in events.iter().enumerate() {
            match *event {
                Event::Asked(op) => places[op].0 = i + 1,
                Event::Answered(op) => places[op].1 = i + 1,
            }
        }
        let n = events.len() + 1;
        Events {
            events,
            next: (1..=n).map(|i| i % n).collect(),
            prev: (0..n).map(|i| (i + n - 1) % n).collect(),
            places,
        }
    }

    /// The operations that may come next, because nothing that is still in the list was answered before they were asked;
    /// and the first answer in the list.
    pub(super) fn candidates(&self) -> (Vec<usize>, Option<usize>) {
        let mut asked = Vec::new();
        let mut at = self.next[0];
        while at != 0 {
            match self.events[at - 1] {
                Event::Asked(op) => asked.push(op),
                Event::Answered(op) => return (asked, Some(op)),
            }
            at = self.next[at];
        }
        (asked, None)
    }

    pub(super) fn take_out(&mut self, op: usize) {
        let (asked, answered) = self.places[op];
        for at in [asked, answered] {
            let (prev, next) = (self.prev[at], self.next[at]);
            self.next[prev] = next;
            self.prev[next] = prev;
        }
    }

    /// Undoes the last [`Events::take_out`] that is not yet undone.
    pub(super) fn put_back(&mut self, op: usize) {
        let (asked, answered) = self.places[op];
        for at in [answered, asked] {
            let (prev, next) = (self.prev[at], self.next[at]);
            self.next[prev] = at;
            self.prev[next] = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_may_come_next() {
        let mut events = Events::new(&[(0, 10), (5, 30), (10, 12), (11, 40)]);
        assert_eq!(events.candidates(), (vec![0, 1, 2], Some(0)), "the same moment counts as concurrent");
        events.take_out(1);
        events.take_out(0);
        assert_eq!(events.candidates(), (vec![2, 3], Some(2)));
        events.put_back(0);
        events.put_back(1);
        assert_eq!(events.candidates(), (vec![0, 1, 2], Some(0)));
        for op in 0..4 {
            events.take_out(op);
        }
        assert_eq!(events.candidates(), (vec![], None));
    }
}
