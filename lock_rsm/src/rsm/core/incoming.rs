//! A snapshot on its way from the master, piece by piece.

use super::super::state::Machine;
use crate::consensus::{SnapshotChunk, SnapshotMeta};
use bytes::Bytes;

/// The largest state that is taken over from another replica; it has to fit into memory several times over.
const STATE_BYTES_MAX: usize = 1 << 30;

/// What a piece brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    Partial,
    /// All pieces are there and the whole is as it was sent.
    Whole,
    /// It cannot be used.
    Spoilt,
}

#[derive(Debug, Default)]
pub(super) struct Incoming {
    current: Option<(SnapshotMeta, Vec<u8>)>,
    whole: Option<(SnapshotMeta, Bytes)>,
}

impl Incoming {
    pub(super) fn add(&mut self, chunk: SnapshotChunk) -> Progress {
        if chunk.offset == 0 {
            self.current = Some((chunk.meta.clone(), Vec::new()));
            self.whole = None;
        }
        let Some((meta, state)) = self.current.as_mut() else { return Progress::Spoilt };
        let fits = *meta == chunk.meta
            && state.len() as u64 == chunk.offset
            && state.len() + chunk.data.len() <= STATE_BYTES_MAX;
        if !fits {
            self.current = None;
            return Progress::Spoilt;
        }
        state.extend_from_slice(&chunk.data);
        if !chunk.done {
            return Progress::Partial;
        }
        let (meta, state) = self.current.take().expect("it is being added to");
        if !Machine::is_sound(&state) {
            return Progress::Spoilt;
        }
        self.whole = Some((meta, state.into()));
        Progress::Whole
    }

    /// The bytes of the snapshot `meta`, received whole.
    pub(super) fn take(&mut self, meta: &SnapshotMeta) -> Option<Bytes> {
        self.whole.take().filter(|(whole, _)| whole == meta).map(|(_, state)| state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Membership, Viewstamp};

    fn meta(seq: u64) -> SnapshotMeta {
        SnapshotMeta { stamp: Viewstamp::new(1, seq), membership: Membership::default() }
    }

    fn chunk(seq: u64, offset: usize, data: &[u8], done: bool) -> SnapshotChunk {
        SnapshotChunk { meta: meta(seq), offset: offset as u64, data: Bytes::copy_from_slice(data), done }
    }

    #[test]
    fn pieces_become_the_whole() {
        let state = rpc::record::seal(1, b"the state");
        let mut incoming = Incoming::default();
        assert_eq!(incoming.add(chunk(9, 0, &state[..4], false)), Progress::Partial);
        assert_eq!(incoming.add(chunk(9, 4, &state[4..], true)), Progress::Whole);
        assert_eq!(incoming.take(&meta(9)).as_deref(), Some(&state[..]));
        assert_eq!(incoming.take(&meta(9)), None);
    }

    #[test]
    fn a_new_start_voids_what_was_there() {
        let state = rpc::record::seal(1, b"the state");
        let mut incoming = Incoming::default();
        assert_eq!(incoming.add(chunk(8, 0, b"old", false)), Progress::Partial);
        assert_eq!(incoming.add(chunk(9, 0, &state, true)), Progress::Whole);
        assert_eq!(incoming.take(&meta(8)), None);
    }

    #[test]
    fn gaps_and_damage_are_noticed() {
        let mut state = rpc::record::seal(1, b"the state");
        let mut incoming = Incoming::default();
        assert_eq!(incoming.add(chunk(9, 4, &state, true)), Progress::Spoilt);
        assert_eq!(incoming.add(chunk(9, 0, &state[..4], false)), Progress::Partial);
        assert_eq!(incoming.add(chunk(9, 5, &state[5..], true)), Progress::Spoilt);
        state[7] ^= 1;
        assert_eq!(incoming.add(chunk(9, 0, &state, true)), Progress::Spoilt);
    }
}
