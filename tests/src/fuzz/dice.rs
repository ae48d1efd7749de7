//! Choices out of an input.

/// Numbers out of the input, and zeros when it is used up.
#[derive(Debug)]
pub(super) struct Dice<'a>(pub(super) &'a [u8]);

impl Dice<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head.to_vec()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
