//! Small sets of small numbers.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// A set of numbers. Equal sets are equal values: there are no zero words at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn has(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|word| word >> (i % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, i: usize) {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }

    pub(super) fn remove(&mut self, i: usize) {
        if let Some(word) = self.0.get_mut(i / 64) {
            *word &= !(1 << (i % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Whether all of this set is in `other`.
    pub(super) fn is_within(&self, other: &Bits) -> bool {
        self.0.len() <= other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    /// The words from the one that has `i` in it: all there is to say about the set when everything below `i` is in it.
    pub(super) fn from(&self, i: usize) -> Box<[u64]> {
        self.0.get(i / 64..).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_equal_values() {
        let mut a = Bits::default();
        a.insert(3);
        let b = a.clone();
        a.insert(200);
        assert!(a.has(200) && a.has(3) && !a.has(4) && b.is_within(&a) && !a.is_within(&b));
        assert_eq!(a.from(130).len(), 2);
        a.remove(200);
        assert_eq!(a, b);
        assert!(Bits::default().is_within(&a) && a.from(64).is_empty());
    }
}
