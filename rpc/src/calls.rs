//! The calls a sender has not seen the end of.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

/// Outstanding calls by number, and so also which replies are all received.
#[derive(Debug)]
pub(crate) struct Calls<T> {
    last: u64,
    waiting: BTreeMap<u64, T>,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Calls { last: 0, waiting: BTreeMap::new() }
    }
}

impl<T> Calls<T> {
    /// Numbers a call; numbers start at 1 and have no gaps.
    pub fn start(&mut self, make: impl FnOnce(u64) -> T) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, make(self.last));
        self.last
    }

    /// Ends a call: its reply came, or nobody waits for it any more.
    pub fn finish(&mut self, xid: u64) -> Option<T> {
        self.waiting.remove(&xid)
    }

    pub fn get(&self, xid: u64) -> Option<&T> {
        self.waiting.get(&xid)
    }

    /// `xid_rep`: every call up to it has ended, by a reply or by being given up.
    pub fn ended_upto(&self) -> u64 {
        self.waiting.first_key_value().map_or(self.last, |(&oldest, _)| oldest - 1)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The outstanding calls in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.waiting.iter().map(|(&xid, call)| (xid, call))
    }

    /// Ends and returns all calls for which `which` holds.
    pub fn finish_where(&mut self, mut which: impl FnMut(u64, &T) -> bool) -> Vec<T> {
        let ended: Vec<u64> =
            self.iter().filter(|&(xid, call)| which(xid, call)).map(|(xid, _)| xid).collect();
        ended.into_iter().filter_map(|xid| self.finish(xid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_upto_is_the_contiguous_prefix() {
        let mut calls = Calls::default();
        assert_eq!(calls.ended_upto(), 0);
        for _ in 0..3 {
            calls.start(|xid| xid * 10);
        }
        assert_eq!((calls.ended_upto(), calls.len()), (0, 3));
        assert_eq!(calls.finish(2), Some(20));
        assert_eq!(calls.finish(2), None);
        assert_eq!(calls.ended_upto(), 0);
        assert_eq!(calls.finish(1), Some(10));
        assert_eq!(calls.ended_upto(), 2);
        assert_eq!(calls.finish_where(|xid, _| xid > 1), vec![30]);
        assert_eq!(calls.ended_upto(), 3);
        assert_eq!(calls.start(|xid| xid), 4);
        assert_eq!(calls.ended_upto(), 3);
    }
}
