//! What was committed here since the process started, to be compared with other replicas.

use crate::consensus::{Entry, Payload, Viewstamp};
use crate::rsm::state::state_hash;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Entries remembered; the oldest go first.
const LINES_MAX: usize = 1 << 20;
/// Entries told at once.
const PAGE_MAX: usize = 10_000;

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Where it stands.
    pub stamp: Viewstamp,
    /// A hash of what it says.
    pub hash: u64,
    /// The addresses of the voting members from here on, if it says who they are.
    pub members: Option<Vec<String>>,
}

/// Consecutive committed entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The entries, from the seq asked for or the first one known.
    pub lines: Vec<HistoryLine>,
}

#[derive(Default)]
pub(super) struct History {
    lines: VecDeque<HistoryLine>,
}

impl History {
    /// These entries were committed, after the ones before; or after a snapshot that took the place of all before.
    pub(super) fn committed(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        if self.lines.back().is_some_and(|line| line.stamp.seq + 1 != first.stamp.seq) {
            self.lines.clear();
        }
        self.lines.extend(entries.iter().map(line));
        let excess = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..excess);
    }

    pub(super) fn page(&self, from: u64) -> HistoryPage {
        let start = self.lines.partition_point(|line| line.stamp.seq < from);
        HistoryPage { lines: self.lines.iter().skip(start).take(PAGE_MAX).cloned().collect() }
    }
}

fn line(entry: &Entry) -> HistoryLine {
    let members = match &entry.payload {
        Payload::Membership(membership) => Some(membership.voting_addresses()),
        Payload::Noop | Payload::Command(_) => None,
    };
    HistoryLine { stamp: entry.stamp, hash: state_hash(&rpc::codec::encode(&entry.payload)), members }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Member, Membership};

    fn entries(seqs: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
        let entry = |seq| Entry { stamp: Viewstamp::new(1, seq), payload: Payload::Noop };
        seqs.map(entry).collect()
    }

    fn seqs(history: &History, from: u64) -> Vec<u64> {
        history.page(from).lines.iter().map(|line| line.stamp.seq).collect()
    }

    #[test]
    fn pages_start_where_asked() {
        let mut history = History::default();
        history.committed(&entries(3..=5));
        history.committed(&[]);
        history.committed(&entries(6..=7));
        assert_eq!(seqs(&history, 0), [3, 4, 5, 6, 7]);
        assert_eq!(seqs(&history, 6), [6, 7]);
        assert_eq!(seqs(&history, 8), [0; 0]);
    }

    #[test]
    fn a_snapshot_voids_what_was_before() {
        let mut history = History::default();
        history.committed(&entries(1..=3));
        history.committed(&entries(9..=10));
        assert_eq!(seqs(&history, 1), [9, 10]);
    }

    #[test]
    fn voters_are_named_and_contents_told_apart() {
        let member = |id, voter| Member { id, address: format!("host:{id}"), voter };
        let membership = Membership::of(vec![member(1, true), member(2, false), member(3, true)]);
        let said = line(&Entry { stamp: Viewstamp::new(1, 1), payload: Payload::Membership(membership) });
        assert_eq!(said.members, Some(vec!["host:1".to_owned(), "host:3".to_owned()]));
        let command = |bytes: &'static [u8]| {
            line(&Entry { stamp: Viewstamp::new(1, 1), payload: Payload::Command(bytes.into()) })
        };
        assert_eq!(command(b"a"), command(b"a"));
        assert_ne!(command(b"a"), command(b"b"));
    }
}
