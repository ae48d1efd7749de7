//! Frames: how what is written lies in the log's files.
//!
//! A frame is what one group of writes left, and is on disk whole or not at all: its length (u32), then a sealed record
//! ([`rpc::record`], version 1) of its mark (u64) and its items. An item is a tag (1 byte), a length (u32) and that many
//! bytes. Numbers are little-endian. Behind the last frame of a file are zeros, so a length of 0 is the end.
//!
//! The mark is the frame's number, counted from 1 through all files, XORed with the salt of its file, a random number that
//! no client knows: bytes inside a command cannot pass for a frame.

use super::{Identity, SavedSnapshot, log_record};
use crate::consensus::{Entry, HardState, Membership};
use bytes::Bytes;
use rpc::record::RecordError;

/// The version of the records in the log.
pub(super) const VERSION: u8 = 1;
/// Bytes of a frame's length, envelope and mark.
const HEAD_BYTES: usize = 4 + 5 + 8;
/// So far ahead may the number of a frame be that is looked for behind one that is broken: no file has more.
const AHEAD_MAX: u64 = 1 << 24;

/// What a frame says, each item in the order in which it is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// What follows in this file is all there is; earlier files are void.
    Whole,
    /// Whose log it is.
    Identity(Identity),
    /// The founding membership.
    Founding(Membership),
    /// The promises.
    HardState(HardState),
    /// The snapshot in force, which takes the place of the entries it covers.
    Snapshot(SavedSnapshot),
    /// The same, and no entry is valid any more.
    SnapshotAlone(SavedSnapshot),
    /// The entries up to this seq are in earlier files, or covered.
    Continues(u64),
    /// The entries from this seq on are dropped.
    CutFrom(u64),
    /// Entries are added.
    Entries(Vec<Entry>),
}

const WHOLE: u8 = b'w';
const IDENTITY: u8 = b'i';
const FOUNDING: u8 = b'f';
const HARD_STATE: u8 = b'h';
const SNAPSHOT: u8 = b's';
const SNAPSHOT_ALONE: u8 = b'a';
const CONTINUES: u8 = b'c';
const CUT_FROM: u8 = b't';
const ENTRIES: u8 = b'e';

/// A frame in the making.
#[derive(Debug, Default)]
pub(super) struct Frame {
    items: Vec<u8>,
}

impl Frame {
    /// Adds an item.
    pub(super) fn add(&mut self, item: &Item) {
        let (tag, body) = match item {
            Item::Whole => (WHOLE, Vec::new()),
            Item::Identity(identity) => (IDENTITY, rpc::codec::encode(identity)),
            Item::Founding(founding) => (FOUNDING, rpc::codec::encode(&founding.members)),
            Item::HardState(promises) => (HARD_STATE, rpc::codec::encode(promises)),
            Item::Snapshot(saved) => (SNAPSHOT, rpc::codec::encode(saved)),
            Item::SnapshotAlone(saved) => (SNAPSHOT_ALONE, rpc::codec::encode(saved)),
            Item::Continues(seq) => (CONTINUES, seq.to_le_bytes().into()),
            Item::CutFrom(seq) => (CUT_FROM, seq.to_le_bytes().into()),
            Item::Entries(entries) => return self.add_entries(entries),
        };
        self.put(tag, &body);
    }

    /// Adds entries, which are consecutive.
    pub(super) fn add_entries(&mut self, entries: &[Entry]) {
        self.put(ENTRIES, &log_record::encode(entries));
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        let len = u32::try_from(body.len()).expect("what is written at once is bounded far below 4 GiB");
        self.items.push(tag);
        self.items.extend_from_slice(&len.to_le_bytes());
        self.items.extend_from_slice(body);
    }

    /// Its items, as they are written.
    pub(super) fn items(&self) -> &[u8] {
        &self.items
    }

    /// The frame as it is written, as number `number` of the file with `salt`.
    pub(super) fn sealed(&self, number: u64, salt: u64) -> Vec<u8> {
        let body = [&(number ^ salt).to_le_bytes()[..], &self.items].concat();
        let record = rpc::record::seal(VERSION, &body);
        let len = u32::try_from(record.len()).expect("what is written at once is bounded far below 4 GiB");
        [&len.to_le_bytes()[..], &record].concat()
    }
}

/// What is at some place of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Frame `number` with these items, up to byte `end`.
    Frame { number: u64, items: Vec<Item>, end: usize },
    /// Nothing was written here.
    End,
    /// No frame.
    Broken(String),
    /// A frame of another version of this program.
    Unknown(u8),
}

/// Reads what is at byte `at`.
pub(super) fn read(bytes: &Bytes, at: usize, salt: u64) -> Found {
    let rest = &bytes[at.min(bytes.len())..];
    let Some((len, rest)) = rest.split_first_chunk::<4>() else {
        return if rest.iter().all(|byte| *byte == 0) { Found::End } else { broken("it ends too early") };
    };
    let len = u32::from_le_bytes(*len) as usize;
    if len == 0 {
        return Found::End;
    }
    let Some(record) = rest.get(..len) else { return broken("it ends too early") };
    match rpc::record::open(record) {
        Ok((VERSION, body)) => {
            let Some((mark, items)) = body.split_first_chunk::<8>() else { return broken("it is too short") };
            match decode(bytes.slice_ref(items)) {
                Ok(items) => {
                    Found::Frame { number: u64::from_le_bytes(*mark) ^ salt, items, end: at + 4 + len }
                }
                Err(why) => broken(&why),
            }
        }
        Ok((version, _)) => Found::Unknown(version),
        Err(error @ (RecordError::Short { .. } | RecordError::Checksum { .. })) => broken(&error.to_string()),
    }
}

fn broken(why: &str) -> Found {
    Found::Broken(why.to_owned())
}

/// Where behind byte `from` a frame lies that comes after frame `before`, if there is one.
pub(super) fn find_later(bytes: &Bytes, from: usize, before: u64, salt: u64) -> Option<usize> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let last = used.checked_sub(HEAD_BYTES)?;
    (from..=last).find(|at| {
        let mark = bytes[at + HEAD_BYTES - 8..at + HEAD_BYTES].try_into().expect("eight bytes");
        let number = u64::from_le_bytes(mark) ^ salt;
        number > before
            && number - before <= AHEAD_MAX
            && matches!(read(bytes, *at, salt), Found::Frame { .. } | Found::Unknown(_))
    })
}

fn decode(mut bytes: Bytes) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let head: [u8; 5] =
            bytes.get(..5).and_then(|head| head.try_into().ok()).ok_or("it has half an item")?;
        let [tag, len @ ..] = head;
        let len = u32::from_le_bytes(len) as usize;
        let item = bytes.get(5..5 + len).ok_or("it has half an item")?;
        let item = bytes.slice_ref(item);
        bytes = bytes.slice(5 + len..);
        items.push(
            decode_item(tag, item).ok_or_else(|| format!("its item {:?} does not read", char::from(tag)))?,
        );
    }
    Ok(items)
}

fn decode_item(tag: u8, body: Bytes) -> Option<Item> {
    let seq = |body: &[u8]| body.try_into().ok().map(u64::from_le_bytes);
    match tag {
        WHOLE => body.is_empty().then_some(Item::Whole),
        IDENTITY => rpc::codec::decode(&body).ok().map(Item::Identity),
        FOUNDING => rpc::codec::decode(&body).ok().map(|members| Item::Founding(Membership::of(members))),
        HARD_STATE => rpc::codec::decode(&body).ok().map(Item::HardState),
        SNAPSHOT => rpc::codec::decode(&body).ok().map(Item::Snapshot),
        SNAPSHOT_ALONE => rpc::codec::decode(&body).ok().map(Item::SnapshotAlone),
        CONTINUES => seq(&body).map(Item::Continues),
        CUT_FROM => seq(&body).map(Item::CutFrom),
        // A copy, so that an entry that is kept does not keep the whole file in memory.
        ENTRIES => log_record::decode(Bytes::copy_from_slice(&body)).map(Item::Entries),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::{Payload, Viewstamp};
    use proptest::prelude::*;

    fn entry(seq: u64, command: &[u8]) -> Entry {
        Entry { stamp: Viewstamp::new(1, seq), payload: Payload::Command(Bytes::copy_from_slice(command)) }
    }

    fn frame(items: &[Item]) -> Frame {
        let mut frame = Frame::default();
        for item in items {
            frame.add(item);
        }
        frame
    }

    #[test]
    fn a_frame_is_read_as_written() {
        let items = vec![
            Item::Whole,
            Item::Identity(Identity { id: 9, address: "127.0.0.1:1".into() }),
            Item::HardState(HardState { view: 3, voted_for: Some(4) }),
            Item::Continues(7),
            Item::CutFrom(6),
            Item::Entries(vec![entry(6, b"x"), entry(7, b"")]),
        ];
        let bytes = Bytes::from(frame(&items).sealed(5, 77));
        assert_eq!(read(&bytes, 0, 77), Found::Frame { number: 5, items, end: bytes.len() });
        assert_eq!(read(&bytes, bytes.len(), 77), Found::End);
        assert_eq!(read(&Bytes::from_static(&[0; 9]), 2, 77), Found::End);
        assert!(matches!(read(&bytes.slice(..bytes.len() - 1), 0, 77), Found::Broken(_)));
    }

    /// A command is written as it comes; whoever sends it does not know the salt.
    #[test]
    fn a_command_that_holds_a_frame_is_not_found_as_one() {
        let (salt, guess) = (0x1122_3344_5566_7788, 0xffee_ddcc_bbaa_9988);
        let forged = frame(&[Item::CutFrom(1)]).sealed(9, guess);
        let bytes = Bytes::from(frame(&[Item::Entries(vec![entry(1, &forged)])]).sealed(8, salt));
        assert_eq!(find_later(&bytes, 1, 8, salt), None);
        assert!(find_later(&bytes, 1, 8, guess).is_some(), "the salt it is");
        let two = Bytes::from([frame(&[]).sealed(8, salt), vec![0; 3], frame(&[]).sealed(9, salt)].concat());
        assert_eq!(find_later(&two, 1, 7, salt), Some(HEAD_BYTES + 3));
        assert_eq!(find_later(&two, 1, 9, salt), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_panic(bytes: Vec<u8>, at: usize) {
            let bytes = Bytes::from(bytes);
            let _ = read(&bytes, at % (bytes.len() + 1), 1);
            let _ = decode(bytes);
        }
    }
}
