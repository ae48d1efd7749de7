//! A set of numbers kept as ranges, for sets that are nearly contiguous.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

/// Disjoint, non-adjacent closed ranges: first → last.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// How many ranges the set takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn contains(&self, x: u64) -> bool {
        self.0.range(..=x).next_back().is_some_and(|(_, &last)| x <= last)
    }

    pub fn insert(&mut self, x: u64) {
        if self.contains(x) {
            return;
        }
        let last = x.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(x);
        match self.0.range_mut(..x).next_back() {
            Some((_, before)) if *before + 1 == x => *before = last,
            _ => drop(self.0.insert(x, last)),
        }
    }

    /// Drops all numbers up to `floor`, and returns `floor` moved up over the range that follows it directly.
    pub fn absorb(&mut self, mut floor: u64) -> u64 {
        while let Some(range) = self.0.first_entry() {
            if *range.key() > floor.saturating_add(1) {
                break;
            }
            floor = floor.max(range.remove());
        }
        floor
    }

    /// Drops the lowest range and returns its end.
    pub fn pop_first(&mut self) -> Option<u64> {
        self.0.pop_first().map(|(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(numbers: Vec<u8>, floor: u8) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for n in numbers.into_iter().map(u64::from) {
                ranges.insert(n);
                set.insert(n);
            }
            for n in 0..=256 {
                prop_assert_eq!(ranges.contains(n), set.contains(&n));
            }
            let starts = set.iter().filter(|&&n| n == 0 || !set.contains(&(n - 1))).count();
            prop_assert_eq!(ranges.len(), starts);

            let mut wanted = u64::from(floor);
            while set.contains(&(wanted + 1)) {
                wanted += 1;
            }
            prop_assert_eq!(ranges.absorb(u64::from(floor)), wanted);
            for n in 0..=256 {
                prop_assert_eq!(ranges.contains(n), n > wanted && set.contains(&n));
            }
        }
    }

    #[test]
    fn the_largest_number_is_a_number() {
        let mut ranges = Ranges::default();
        ranges.insert(u64::MAX);
        ranges.insert(u64::MAX - 1);
        assert_eq!(ranges.len(), 1);
        assert_eq!(ranges.absorb(u64::MAX), u64::MAX);
    }
}
