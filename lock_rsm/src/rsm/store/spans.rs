//! What the log holds, without the entries: where it ends, and in which view each of its entries was proposed.

use crate::consensus::{Entry, Viewstamp};
use std::collections::VecDeque;

/// The stamps of the entries behind a snapshot.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// What the snapshot stands for.
    base: Viewstamp,
    /// Runs of entries of one view: seq of the first, view.
    runs: VecDeque<(u64, u64)>,
    last_seq: u64,
}

impl Spans {
    /// Those of `entries` behind `base`.
    pub(super) fn of(base: Viewstamp, entries: &[Entry]) -> Spans {
        let mut spans = Spans { base, runs: VecDeque::new(), last_seq: base.seq };
        spans.append(entries);
        spans
    }

    /// The stamp at which the log ends.
    pub(super) fn last(&self) -> Viewstamp {
        match self.runs.back() {
            Some((_, view)) => Viewstamp::new(*view, self.last_seq),
            None => self.base,
        }
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        for Entry { stamp, .. } in entries {
            if self.runs.back().is_none_or(|(_, view)| *view != stamp.view) {
                self.runs.push_back((stamp.seq, stamp.view));
            }
            self.last_seq = stamp.seq;
        }
    }

    /// Drops the entries from `seq` on.
    pub(super) fn cut_from(&mut self, seq: u64) {
        while self.runs.back().is_some_and(|(first, _)| *first >= seq) {
            self.runs.pop_back();
        }
        if seq <= self.last_seq {
            self.last_seq = seq.saturating_sub(1).max(self.base.seq);
        }
    }

    /// A snapshot takes the place of what it covers; of everything when it stands `alone`.
    pub(super) fn cover(&mut self, stamp: Viewstamp, alone: bool) {
        self.base = stamp;
        if alone || self.last_seq <= stamp.seq {
            self.runs.clear();
            self.last_seq = stamp.seq;
            return;
        }
        while self.runs.get(1).is_some_and(|(first, _)| *first <= stamp.seq + 1) {
            self.runs.pop_front();
        }
        if let Some((first, _)) = self.runs.front_mut() {
            *first = (*first).max(stamp.seq + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Payload;
    use proptest::prelude::*;

    fn entry(view: u64, seq: u64) -> Entry {
        Entry { stamp: Viewstamp::new(view, seq), payload: Payload::Noop }
    }

    proptest! {
        /// Against a list of the stamps themselves.
        #[test]
        fn it_ends_where_the_list_does(steps in prop::collection::vec((0u8..4, 0u64..6), 0..60)) {
            let (mut spans, mut base, mut list) = (Spans::default(), Viewstamp::ZERO, Vec::<Viewstamp>::new());
            let mut view = 1;
            for (kind, by) in steps {
                let last = list.last().copied().unwrap_or(base);
                match kind {
                    0 => {
                        view += by / 3;
                        let new: Vec<Entry> = (1..=by).map(|i| entry(view, last.seq + i)).collect();
                        spans.append(&new);
                        list.extend(new.iter().map(|entry| entry.stamp));
                    }
                    1 => {
                        let from = (last.seq + 1).saturating_sub(by).max(base.seq + 1);
                        spans.cut_from(from);
                        list.retain(|stamp| stamp.seq < from);
                    }
                    2 => {
                        let Some(stamp) = list.get(usize::try_from(by).unwrap()).copied() else { continue };
                        spans.cover(stamp, false);
                        list.retain(|kept| kept.seq > stamp.seq);
                        base = stamp;
                    }
                    _ => {
                        base = Viewstamp::new(view, base.seq + 3 + by);
                        spans.cover(base, true);
                        list.clear();
                    }
                }
                prop_assert_eq!(spans.last(), list.last().copied().unwrap_or(base));
            }
        }
    }
}
