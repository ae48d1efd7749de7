//! The decoders of what the store keeps on disk, for fuzzers.

use super::chunk::Crcs;
use super::journal::{self, Outline};
use super::kv::decode_marks;
use super::steps::{
    SEQUENCE, chunk_key, describe, fence_key, parse_chunk_key, parse_fence_key, space, user_key,
};
use super::watermark;
use crate::format;
use rpc::fuzzing::Decoder;
use std::path::Path;

/// Records without their seals, keys, a slot of the watermark, and the mark on the directory.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "crcs", rewrite: rewrite_crcs, samples: crcs },
    Decoder {
        name: "marks",
        rewrite: rewrite_marks,
        samples: || vec![(1u64 << 63 | 1).to_le_bytes().into()],
    },
    Decoder { name: "key", rewrite: rewrite_key, samples: keys },
    Decoder { name: "watermark", rewrite: rewrite_slot, samples: || vec![watermark::slot(1 << 40)] },
    Decoder { name: "format", rewrite: rewrite_format, samples: formats },
];

fn rewrite_crcs(body: &[u8]) -> Option<Vec<u8>> {
    let crcs = Crcs::decode(body)?;
    let again = crcs.encode();
    assert_eq!((&again[..], Crcs::decode(&again)), (body, Some(crcs)));
    Some(again)
}

fn crcs() -> Vec<Vec<u8>> {
    let mut crcs = Crcs::default();
    let empty = crcs.encode();
    crcs.set(0, 7);
    crcs.set(63, u32::MAX);
    vec![empty, crcs.encode()]
}

fn rewrite_marks(body: &[u8]) -> Option<Vec<u8>> {
    Some(decode_marks(b"a key", body).ok()?.to_le_bytes().into())
}

/// Every key can be told in words; the keys of chunks and fences also say where they belong.
fn rewrite_key(raw: &[u8]) -> Option<Vec<u8>> {
    let words = describe(raw);
    assert!(!words.is_empty() && words.is_ascii(), "{words}");
    match (*raw.first()?, parse_chunk_key(raw), parse_fence_key(raw)) {
        (kind, Some((object, chunk)), _) => Some(chunk_key(kind, object, chunk)),
        (space::FENCES, _, Some(session)) => Some(fence_key(session)),
        _ => None,
    }
}

fn keys() -> Vec<Vec<u8>> {
    vec![chunk_key(space::CRCS, 9, 1 << 40), chunk_key(space::MARKS, u64::MAX, 0), fence_key(7)]
}

fn rewrite_slot(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(watermark::slot(watermark::parse_slot(bytes)?))
}

fn rewrite_format(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(format::parse_mark(Path::new("dir"), std::str::from_utf8(bytes).ok()?).ok()?.text().into_bytes())
}

fn formats() -> Vec<Vec<u8>> {
    ["ready", "creating"]
        .map(|state| format!("yfs-extents\nversion 1\nid 00ff\nstate {state}\n").into_bytes())
        .into()
}

/// What the look at a log before recovery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// One past the last batch with a whole outline.
    pub end: u64,
    /// Whether anything but zeros follows.
    pub torn: bool,
    /// Where the last batch starts, if its records are not what was sealed.
    pub unsound: Option<u64>,
}

/// Looks at a log file.
pub fn journal(log: &Path) -> Result<Journal, String> {
    journal::outline(log).map(|Outline { end, torn, unsound, .. }| Journal { end, torn, unsound })
}

/// Logs as the store writes them: of one batch, and of two with zeros behind them.
pub fn sample_journals() -> Vec<Vec<u8>> {
    let record = |body: &[u8]| rpc::record::seal(1, body);
    let first =
        batch(&[(user_key(b"a key"), record(b"a value")), (SEQUENCE.to_vec(), record(&7u64.to_le_bytes()))]);
    let second = batch(&[(user_key(b"a key"), Vec::new())]);
    vec![first.clone(), [first, second, vec![0; 100]].concat()]
}

fn batch(items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend((items.len() as u32).to_le_bytes());
    out.extend(9u64.to_le_bytes());
    for (key, value) in items {
        out.extend([2, 0, 0]);
        out.extend(1u64.to_le_bytes());
        out.extend((key.len() as u16).to_le_bytes());
        out.extend([(value.len() as u32).to_le_bytes(), (value.len() as u32).to_le_bytes()].concat());
        out.extend([&key[..], value].concat());
    }
    out.push(3);
    out.extend(0u64.to_le_bytes());
    out.extend(b"FJL\x03");
    out
}
