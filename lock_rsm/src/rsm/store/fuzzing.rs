//! The decoders of what a replica keeps on disk, for fuzzers.

use super::files::{self, Format};
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
    vec![Mark { hard_state, last: Viewstamp::new(4, 100) }.sealed()]
}

fn rewrite_progress(bytes: &[u8]) -> Option<Vec<u8>> {
    let again = progress::encode(progress::decode(bytes)?);
    assert_eq!(again, bytes, "there is one form of each mark");
    Some(again)
}

fn progress_marks() -> Vec<Vec<u8>> {
    let hard_state = HardState { view: 4, voted_for: None };
    vec![progress::encode(Mark { hard_state, last: Viewstamp::new(3, 258) })]
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
