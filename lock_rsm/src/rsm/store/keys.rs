//! The keys of the embedded store.

/// [`super::Identity`].
pub(super) const IDENTITY: &[u8] = b"i";
/// The founding membership.
pub(super) const FOUNDING: &[u8] = b"f";
/// The promises.
pub(super) const HARD_STATE: &[u8] = b"h";
/// Which snapshot there is.
pub(super) const SNAPSHOT: &[u8] = b"s";
/// Log records: `e`, then the seq of the first entry, big-endian so that they sort.
pub(super) const LOG_PREFIX: &[u8] = b"e";
/// Pieces of snapshots, as they were before these had files: `c`, generation (u64), index (u32), big-endian.
pub(super) const PIECES_PREFIX: &[u8] = b"c";

/// The key of the log record that begins with entry `first`.
pub(super) fn log(first: u64) -> [u8; 9] {
    number(LOG_PREFIX, first)
}

/// What the keys of all pieces of `generation` begin with.
pub(super) fn pieces(generation: u64) -> [u8; 9] {
    number(PIECES_PREFIX, generation)
}

fn number(prefix: &[u8], number: u64) -> [u8; 9] {
    let mut key = [prefix[0]; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}
