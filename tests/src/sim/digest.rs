//! The digest of a run: everything that happened, folded into one number.

use super::services::mix;

/// A running fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Digest(u64);

impl Digest {
    /// Adds a number.
    pub fn add(&mut self, word: u64) {
        self.0 = mix(self.0, word);
    }

    /// Adds numbers.
    pub fn add_all(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.add(*word));
    }

    /// Adds bytes, and how many they are.
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0
    }
}
