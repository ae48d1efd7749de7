//! What fuzzers need of this crate: every decoder of bytes from a wire or a disk.

use crate::error::StoreError;
use crate::protocol::*;
use crate::survey::*;
use crate::types::{BootId, ExtentStatus, Op, StatFs};
use bytes::Bytes;
use rpc::fuzzing::{Decoder, coded};
use serde::Serialize;

pub use crate::store::fuzzing::{DECODERS as STORE, Journal, journal, sample_journals};

/// The headers of calls and answers.
pub const HEADERS: &[Decoder] = &[
    Decoder { name: "get", rewrite: coded::<GetArgs>, samples: get },
    Decoder { name: "got", rewrite: coded::<Reply<GetReply>>, samples: got },
    Decoder { name: "scan", rewrite: coded::<ScanArgs>, samples: scan },
    Decoder { name: "scanned", rewrite: coded::<Reply<ScanReply>>, samples: scanned },
    Decoder { name: "read", rewrite: rewrite_read, samples: read },
    Decoder { name: "write", rewrite: rewrite_write, samples: write },
    Decoder { name: "written", rewrite: coded::<Reply<WriteReply>>, samples: written },
    Decoder { name: "done", rewrite: coded::<Reply<()>>, samples: failures },
    Decoder { name: "statfs", rewrite: coded::<Reply<StatFs>>, samples: statfs },
    Decoder { name: "fence", rewrite: coded::<Fence>, samples: || one(&Fence { session: 7 }) },
    Decoder { name: "survey", rewrite: coded::<SurveyArgs>, samples: survey },
    Decoder { name: "surveyed", rewrite: coded::<Reply<SurveyReply>>, samples: surveyed },
    Decoder { name: "objects", rewrite: coded::<Reply<ObjectsPage>>, samples: objects },
    Decoder { name: "checked", rewrite: coded::<Reply<BlocksChecked>>, samples: checked },
    Decoder { name: "status", rewrite: coded::<Reply<ExtentStatus>>, samples: status },
];

/// Commits: four bytes with the length of the header (little endian), the header, the payload.
pub const COMMITS: &[Decoder] = &[Decoder { name: "commit", rewrite: rewrite_commit, samples: commits }];

fn one<T: Serialize>(value: &T) -> Vec<Vec<u8>> {
    vec![rpc::codec::encode(value)]
}

fn key(text: &'static str) -> WireKey {
    WireKey(Bytes::from_static(text.as_bytes()))
}

fn get() -> Vec<Vec<u8>> {
    one(&GetArgs { keys: vec![key("a key"), key(""), key("another")] })
}

fn got() -> Vec<Vec<u8>> {
    one(&Reply::Ok(GetReply { values: vec![Some(70_000), None, Some(0)] }))
}

fn scan() -> Vec<Vec<u8>> {
    one(&ScanArgs { from: key("a"), to: key("b"), limit: u32::MAX })
}

fn scanned() -> Vec<Vec<u8>> {
    one(&Reply::Ok(ScanReply { entries: vec![(5, 300), (0, 0)], more: true }))
}

fn survey() -> Vec<Vec<u8>> {
    one(&SurveyArgs { snapshot: 3, from: key("a") })
}

fn surveyed() -> Vec<Vec<u8>> {
    let lost = vec!["a block of the tree".to_owned()];
    one(&Reply::Ok(SurveyReply { entries: vec![(5, Some(300)), (9, None)], lost, next: Some(key("b")) }))
}

fn objects() -> Vec<Vec<u8>> {
    let objects = vec![ObjectSummary { object: 9, blocks: 3, end: 1 << 40 }];
    one(&Reply::Ok(ObjectsPage { objects, lost: vec!["a record".to_owned()], next: Some(10) }))
}

fn checked() -> Vec<Vec<u8>> {
    one(&Reply::Ok(BlocksChecked { intact: 63, damaged: vec!["block 7".to_owned()], next: Some(64) }))
}

fn read() -> Vec<Vec<u8>> {
    one(&ReadArgs { object: 9, ranges: vec![(0, 65_536), (1 << 40, 1)] })
}

fn write() -> Vec<Vec<u8>> {
    one(&WriteArgs { session: 7, object: 9, ranges: vec![(0, 65_536), (1 << 40, 1)] })
}

fn written() -> Vec<Vec<u8>> {
    one(&Reply::Ok(WriteReply { boot: BootId(u64::MAX) }))
}

fn failures() -> Vec<Vec<u8>> {
    let what = || "something".to_owned();
    let errors = [
        StoreError::Fenced { session: 7 },
        StoreError::NoSpace,
        StoreError::Restarted,
        StoreError::Corrupt { what: what() },
        StoreError::TooLarge { what: what(), size: 1 << 40, max: 1 << 20 },
        StoreError::Invalid { what: what() },
        StoreError::Failed { reason: what() },
        StoreError::Io { what: what() },
    ];
    let answers = errors.into_iter().map(Err).chain([Ok(())]);
    answers.map(|answer: Reply<()>| rpc::codec::encode(&answer)).collect()
}

fn statfs() -> Vec<Vec<u8>> {
    one(&Reply::Ok(StatFs {
        total: 1 << 40,
        free: 1 << 39,
        available: 1 << 38,
        files: 1 << 20,
        files_free: 9,
    }))
}

fn status() -> Vec<Vec<u8>> {
    one(&Reply::Ok(ExtentStatus {
        address: "127.0.0.1:7000".into(),
        pid: 4711,
        boot: BootId(1 << 60),
        store: "00ff".into(),
        groups: 3,
        commits: 9,
        uncommitted_objects: 1,
        fenced_sessions: 2,
        failed: Some("a disk".into()),
    }))
}

/// Ranges that pass the check must be such that sums of them do not overflow.
fn use_ranges(ranges: &[(u64, u32)]) {
    if let Ok(total) = check_ranges(ranges) {
        assert!(total <= DATA_MAX);
        assert!(ranges.iter().all(|(offset, len)| offset + u64::from(*len) <= crate::types::OBJECT_SIZE_MAX));
    }
}

fn rewrite_read(bytes: &[u8]) -> Option<Vec<u8>> {
    use_ranges(&rpc::codec::decode::<ReadArgs>(bytes).ok()?.ranges);
    coded::<ReadArgs>(bytes)
}

fn rewrite_write(bytes: &[u8]) -> Option<Vec<u8>> {
    use_ranges(&rpc::codec::decode::<WriteArgs>(bytes).ok()?.ranges);
    coded::<WriteArgs>(bytes)
}

fn join(args: &CommitArgs, payload: &[u8]) -> Vec<u8> {
    let header = rpc::codec::encode(args);
    [&(header.len() as u32).to_le_bytes()[..], &header, payload].concat()
}

fn rewrite_commit(bytes: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (header, payload) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    let CommitArgs { session, ops, objects } = rpc::codec::decode(header).ok()?;
    let unpacked = unpack_ops(&ops, Bytes::copy_from_slice(payload)).ok()?;
    check_objects(&objects).ok()?;
    let (again, packed) = pack_ops(&unpacked);
    assert_eq!((&again, &packed[..]), (&ops, payload));
    Some(join(&CommitArgs { session, ops, objects }, payload))
}

fn commits() -> Vec<Vec<u8>> {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let (ops, payload) = pack_ops(&[
        Op::Put { key: bytes("a key"), value: bytes("a value") },
        Op::Delete { key: bytes("another key") },
        Op::DeletePrefix { prefix: bytes("some") },
        Op::Truncate { object: 9, size: 1 << 40 },
        Op::Remove { object: u64::MAX },
    ]);
    vec![join(&CommitArgs { session: 7, ops, objects: vec![(9, BootId(1 << 60))] }, &payload)]
}
