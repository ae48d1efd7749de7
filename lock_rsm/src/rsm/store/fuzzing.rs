//! The decoders of what a replica keeps on disk, for fuzzers.

use super::files::{self, Format};
use super::frame::{self, Found, Frame, Item};
use super::replay::replay;
use super::segment::{self, HEADING_BYTES};
use super::watermark::{self, Mark};
use super::{Identity, SavedSnapshot, log_record, progress};
use crate::consensus::{HardState, Member, SnapshotMeta, Viewstamp};
use crate::fuzzing::{entries, members, one};
use bytes::Bytes;
use rpc::fuzzing::{Decoder, coded};
use std::path::Path;

/// Everything in a replica's directory. Records come without their seals, but for those of the marks.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "log", rewrite: rewrite_log, samples: logs },
    Decoder { name: "frame", rewrite: rewrite_frame, samples: frames },
    Decoder { name: "segment", rewrite: rewrite_segment, samples: segments },
    Decoder { name: "identity", rewrite: coded::<Identity>, samples: identities },
    Decoder { name: "promises", rewrite: coded::<HardState>, samples: promises },
    Decoder { name: "founding", rewrite: coded::<Vec<Member>>, samples: || one(&members().members) },
    Decoder { name: "snapshot", rewrite: coded::<SavedSnapshot>, samples: snapshots },
    Decoder { name: "watermark", rewrite: |bytes| Some(watermark::read(bytes)?.sealed()), samples: marks },
    Decoder { name: "progress", rewrite: rewrite_progress, samples: progress_marks },
    Decoder { name: "format", rewrite: rewrite_format, samples: formats },
];

fn rewrite_log(bytes: &[u8]) -> Option<Vec<u8>> {
    let read = log_record::decode(Bytes::copy_from_slice(bytes))?;
    let again = log_record::encode(&read);
    assert_eq!(log_record::decode(Bytes::from(again.clone())), Some(read));
    Some(again)
}

fn logs() -> Vec<Vec<u8>> {
    vec![log_record::encode(&entries(7))]
}

/// What marks the frames of fuzzed files.
const SALT: u64 = 0x5a17;

/// A frame's record is sealed here, so that fuzzers need not guess checksums.
fn rewrite_frame(items: &[u8]) -> Option<Vec<u8>> {
    let read = |items: &[u8]| {
        let record = rpc::record::seal(frame::VERSION, &[&(1 ^ SALT).to_le_bytes()[..], items].concat());
        let len = u32::try_from(record.len()).ok()?;
        match frame::read(&[&len.to_le_bytes()[..], &record].concat().into(), 0, SALT) {
            Found::Frame { items, .. } => Some(items),
            _ => None,
        }
    };
    let items = read(items)?;
    let again = frame_of(&items).items().to_vec();
    assert_eq!(read(&again), Some(items));
    Some(again)
}

fn frame_of(items: &[Item]) -> Frame {
    let mut frame = Frame::default();
    items.iter().for_each(|item| frame.add(item));
    frame
}

fn items() -> Vec<Vec<Item>> {
    let identity = Identity { id: 9, address: "127.0.0.1:7001".into() };
    let promises = HardState { view: 3, voted_for: Some(4) };
    let meta = SnapshotMeta { stamp: Viewstamp::new(3, 7), membership: members() };
    let saved = SavedSnapshot { meta, generation: 1, len: 5, hash: 6 };
    vec![
        vec![Item::Whole, Item::Identity(identity), Item::HardState(promises), Item::Continues(6)],
        vec![Item::Entries(entries(7)), Item::CutFrom(8), Item::Founding(members())],
        vec![Item::Snapshot(saved.clone())],
        vec![Item::SnapshotAlone(saved)],
    ]
}

fn frames() -> Vec<Vec<u8>> {
    items().iter().map(|items| frame_of(items).items().to_vec()).collect()
}

/// A file whose frames are sealed here: the input is their items, each frame with its length (u16) before it. What is
/// understood of it is understood again when written as one frame.
fn rewrite_segment(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let (input, mut file) = (bytes.to_vec(), segment::heading(1, SALT));
    assert_eq!(file.len(), HEADING_BYTES);
    for number in 1u64.. {
        let Some((len, rest)) = bytes.split_first_chunk::<2>() else { break };
        let items = rest.get(..usize::from(u16::from_le_bytes(*len)))?;
        bytes = &rest[items.len()..];
        let record = rpc::record::seal(frame::VERSION, &[&(number ^ SALT).to_le_bytes()[..], items].concat());
        file.extend_from_slice(&u32::try_from(record.len()).ok()?.to_le_bytes());
        file.extend_from_slice(&record);
    }
    let file = Bytes::from(file);
    let replayed = replay(&[1], |_| Ok::<_, std::convert::Infallible>(file.clone())).ok()?.ok()?;
    let holes = replayed.entries.windows(2).any(|pair| pair[0].stamp.seq + 1 != pair[1].stamp.seq);
    assert!(!holes, "a log that is accepted has no holes");
    Some(input)
}

fn segments() -> Vec<Vec<u8>> {
    let frames = frames().into_iter();
    let frames =
        frames.map(|items| [&u16::try_from(items.len()).unwrap_or(0).to_le_bytes()[..], &items].concat());
    vec![frames.collect::<Vec<_>>().concat()]
}

fn identities() -> Vec<Vec<u8>> {
    one(&Identity { id: u64::MAX, address: "127.0.0.1:7001".into() })
}

fn promises() -> Vec<Vec<u8>> {
    [None, Some(1 << 40)].map(|voted_for| rpc::codec::encode(&HardState { view: 300, voted_for })).into()
}

fn snapshots() -> Vec<Vec<u8>> {
    let meta = SnapshotMeta { stamp: Viewstamp::new(3, 70_000), membership: members() };
    one(&SavedSnapshot { meta, generation: 2, len: 1 << 20, hash: u64::MAX })
}

fn marks() -> Vec<Vec<u8>> {
    let hard_state = HardState { view: 4, voted_for: Some(7) };
    vec![Mark { hard_state, last: Viewstamp::new(4, 100), frame: 300 }.sealed()]
}

fn rewrite_progress(bytes: &[u8]) -> Option<Vec<u8>> {
    let again = progress::encode(progress::decode(bytes)?);
    assert_eq!(again, bytes, "there is one form of each mark");
    Some(again)
}

fn progress_marks() -> Vec<Vec<u8>> {
    let hard_state = HardState { view: 4, voted_for: None };
    vec![progress::encode(Mark { hard_state, last: Viewstamp::new(3, 258), frame: 300 })]
}

fn rewrite_format(bytes: &[u8]) -> Option<Vec<u8>> {
    let format = files::parse(Path::new("dir"), std::str::from_utf8(bytes).ok()?).ok()?;
    Some(format.text().into_bytes())
}

fn formats() -> Vec<Vec<u8>> {
    [None, Some(0xfeed_0000_0000_0001)]
        .map(|cluster| Format { cluster, ready: true }.text().into_bytes())
        .into()
}
