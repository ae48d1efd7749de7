//! The replicated program of the tests: a running hash, so that equal states mean equal histories.

use crate::consensus::{Entry, Payload, SnapshotMeta, Viewstamp};
use bytes::Bytes;

/// FNV-1a, enough to tell histories apart.
pub(crate) fn fingerprint(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash ^ 0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn entry_fingerprint(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Noop => fingerprint(1, &[]),
        Payload::Command(bytes) => fingerprint(2, bytes),
        Payload::Membership(membership) => fingerprint(3, format!("{membership:?}").as_bytes()),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// The last entry applied.
    pub(crate) applied: Viewstamp,
    pub(crate) hash: u64,
}

impl Program {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.stamp.seq, self.applied.seq + 1, "entries reach the program in order, each once");
        self.applied = entry.stamp;
        self.hash = fingerprint(self.hash, &entry_fingerprint(entry).to_le_bytes());
    }

    /// The state as bytes, several pieces long.
    pub(crate) fn marshal(&self) -> Bytes {
        let mut bytes = Vec::new();
        for word in [self.applied.view, self.applied.seq, self.hash] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.resize(24 + usize::try_from(self.hash % 200).expect("small"), 0xab);
        Bytes::from(bytes)
    }

    pub(crate) fn unmarshal(meta: &SnapshotMeta, bytes: &[u8]) -> Program {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let program = Program { applied: Viewstamp::new(word(0), word(8)), hash: word(16) };
        assert_eq!(program.applied, meta.stamp, "a snapshot is what it says it is");
        assert_eq!(program.marshal(), bytes, "a snapshot arrives as it was sent");
        program
    }
}
