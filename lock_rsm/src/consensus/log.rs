//! The log in memory: the entries after the last compaction, and the memberships they bring into force.

use super::types::{Entry, Membership, Payload, SnapshotMeta, Viewstamp};
use std::collections::VecDeque;

/// Consecutive entries after `base`.
#[derive(Debug)]
pub(super) struct Log {
    /// The last entry that is not here any more.
    base: Viewstamp,
    entries: VecDeque<Entry>,
    /// Sum of the entries' sizes.
    bytes: usize,
    /// Which membership is in force from which seq on, ascending. The first holds at `base`, so this is never
    /// empty.
    memberships: Vec<(u64, Membership)>,
}

impl Log {
    /// An empty log after `base`, where `membership` is in force.
    pub(super) fn new(base: Viewstamp, membership: Membership) -> Log {
        Log { base, entries: VecDeque::new(), bytes: 0, memberships: vec![(base.seq, membership)] }
    }

    pub(super) fn base(&self) -> Viewstamp {
        self.base
    }

    /// The stamp of the last entry ever, here or compacted.
    pub(super) fn last(&self) -> Viewstamp {
        self.entries.back().map_or(self.base, |entry| entry.stamp)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn index(&self, seq: u64) -> Option<usize> {
        let index = usize::try_from(seq.checked_sub(self.base.seq + 1)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Entry> {
        self.index(seq).map(|index| &self.entries[index])
    }

    /// The stamp of entry `seq`, if it is still known.
    pub(super) fn stamp_at(&self, seq: u64) -> Option<Viewstamp> {
        if seq == self.base.seq { Some(self.base) } else { self.get(seq).map(|entry| entry.stamp) }
    }

    /// Whether the entry `stamp` is here (or was the last one compacted). Then so is all that precedes it.
    pub(super) fn has(&self, stamp: Viewstamp) -> bool {
        self.stamp_at(stamp.seq) == Some(stamp)
    }

    /// The entries `from..=to`, which must be here.
    pub(super) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &Entry> {
        let start = usize::try_from(from - self.base.seq - 1).expect("the log fits in memory");
        let end = usize::try_from(to - self.base.seq).expect("the log fits in memory");
        self.entries.range(start..end)
    }

    /// Entries from `from` on, within the limits, but at least one if there is one. With their size.
    pub(super) fn batch(&self, from: u64, bytes_max: usize, entries_max: usize) -> (Vec<Entry>, usize) {
        let Some(start) = self.index(from) else { return (Vec::new(), 0) };
        let mut bytes = 0;
        let mut count = 0;
        for entry in self.entries.range(start..).take(entries_max.max(1)) {
            let size = entry.size_bytes();
            if count > 0 && bytes + size > bytes_max {
                break;
            }
            bytes += size;
            count += 1;
        }
        (self.entries.range(start..start + count).cloned().collect(), bytes)
    }

    pub(super) fn append(&mut self, entry: Entry) {
        let last = self.last();
        assert!(
            entry.stamp.seq == last.seq + 1 && entry.stamp.view >= last.view,
            "entry {} cannot follow {last}",
            entry.stamp
        );
        if let Payload::Membership(membership) = &entry.payload {
            self.memberships.push((entry.stamp.seq, membership.clone()));
        }
        self.bytes += entry.size_bytes();
        self.entries.push_back(entry);
    }

    /// Drops entry `from` and all after it. Memberships they brought are void, the one before is in force
    /// again (§4.1).
    pub(super) fn truncate_from(&mut self, from: u64) {
        assert!(from > self.base.seq, "cannot take back compacted entry {from}");
        while self.last().seq >= from {
            let entry = self.entries.pop_back().expect("entries after the base are here");
            self.bytes -= entry.size_bytes();
        }
        self.memberships.retain(|&(seq, _)| seq < from);
        assert!(!self.memberships.is_empty(), "the membership at the base was taken back");
    }

    /// Forgets the entries up to `seq`.
    pub(super) fn compact_to(&mut self, seq: u64) {
        while self.base.seq < seq {
            let entry = self.entries.pop_front().expect("only entries that are here are compacted");
            self.bytes -= entry.size_bytes();
            self.base = entry.stamp;
        }
        let superseded = self.memberships.partition_point(|&(from, _)| from <= seq).saturating_sub(1);
        self.memberships.drain(..superseded);
    }

    /// Starts anew after a snapshot.
    pub(super) fn reset(&mut self, meta: &SnapshotMeta) {
        *self = Log::new(meta.stamp, meta.membership.clone());
    }

    /// The membership in force: the latest one.
    pub(super) fn membership(&self) -> &Membership {
        &self.memberships.last().expect("there is always a membership").1
    }

    /// From which entry on it is in force.
    pub(super) fn membership_seq(&self) -> u64 {
        self.memberships.last().expect("there is always a membership").0
    }

    /// The membership in force after entry `seq`, which must not lie before the base.
    pub(super) fn membership_at(&self, seq: u64) -> &Membership {
        self.memberships_since(seq).next().expect("there is one in force at any time")
    }

    /// The membership in force after entry `seq`, which must not lie before the base, and all later ones.
    pub(super) fn memberships_since(&self, seq: u64) -> impl Iterator<Item = &Membership> {
        let after = self.memberships.partition_point(|&(from, _)| from <= seq);
        let at = after.checked_sub(1).expect("seq does not lie before the base");
        self.memberships[at..].iter().map(|(_, membership)| membership)
    }

    /// The last entry here whose stamp exceeds `limit` in neither view nor seq: where two logs that differ at
    /// `limit` may still agree. The base if there is none.
    pub(super) fn last_within(&self, limit: Viewstamp) -> Viewstamp {
        let by_view = self.entries.partition_point(|entry| entry.stamp.view <= limit.view) as u64;
        let seq = (self.base.seq + by_view).min(limit.seq).max(self.base.seq);
        self.stamp_at(seq).expect("seq is between the base and the last entry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Member;
    use bytes::Bytes;

    fn entry(view: u64, seq: u64) -> Entry {
        Entry { stamp: Viewstamp::new(view, seq), payload: Payload::Command(Bytes::from_static(b"x")) }
    }

    fn membership(id: u64) -> Membership {
        Membership::of(vec![Member { id, address: String::new(), voter: true }])
    }

    fn log(views: &[u64]) -> Log {
        let mut log = Log::new(Viewstamp::ZERO, membership(0));
        for (index, &view) in views.iter().enumerate() {
            log.append(entry(view, index as u64 + 1));
        }
        log
    }

    #[test]
    fn batches_keep_the_limits_but_always_make_progress() {
        let log = log(&[1, 1, 1, 1]);
        let size = entry(1, 1).size_bytes();
        assert_eq!(log.batch(1, size * 2, 100).0.len(), 2);
        assert_eq!(log.batch(1, 1, 100).0.len(), 1);
        assert_eq!(log.batch(2, usize::MAX, 2).0.last().map(|entry| entry.stamp.seq), Some(3));
        assert_eq!(log.batch(5, usize::MAX, 2), (Vec::new(), 0));
    }

    #[test]
    fn compaction_keeps_the_stamp_and_membership_at_the_base() {
        let mut log = log(&[1, 1, 2]);
        log.append(Entry { stamp: Viewstamp::new(2, 4), payload: Payload::Membership(membership(4)) });
        log.append(entry(3, 5));
        log.compact_to(3);
        assert_eq!(
            (log.base(), log.stamp_at(2), log.stamp_at(3)),
            (Viewstamp::new(2, 3), None, Some(Viewstamp::new(2, 3)))
        );
        assert_eq!((log.membership_at(3), log.membership_at(4)), (&membership(0), &membership(4)));
        log.compact_to(5);
        assert_eq!((log.membership(), log.membership_seq(), log.bytes()), (&membership(4), 4, 0));
    }

    #[test]
    fn truncation_restores_the_former_membership() {
        let mut log = log(&[1]);
        log.append(Entry { stamp: Viewstamp::new(1, 2), payload: Payload::Membership(membership(2)) });
        log.append(entry(1, 3));
        assert_eq!(log.membership(), &membership(2));
        log.truncate_from(2);
        assert_eq!((log.membership(), log.last()), (&membership(0), Viewstamp::new(1, 1)));
        assert_eq!(log.bytes(), entry(1, 1).size_bytes());
    }

    #[test]
    #[should_panic(expected = "cannot follow")]
    fn a_hole_is_refused() {
        log(&[1]).append(entry(1, 3));
    }

    #[test]
    fn last_within_skips_whole_views() {
        let log = log(&[1, 1, 4, 4, 4, 6]);
        let within = |view, seq| log.last_within(Viewstamp::new(view, seq)).seq;
        assert_eq!(
            (within(6, 6), within(5, 6), within(5, 4), within(3, 6), within(0, 6), within(9, 99)),
            (6, 5, 4, 2, 0, 6)
        );
    }
}
