//! What fuzzers need of this crate: every decoder of bytes from the store, from files and from the kernel's tables.

use bytes::Bytes;
use rpc::fuzzing::Decoder;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cluster::file::Cluster;
use crate::cluster::process::{ProcessId, parse_stat};
use crate::core::format::{self, Layout, Record};
use crate::core::types::{Attr, FileKind, Time};
use crate::fuse::mountinfo;

/// What the file system keeps in the store.
pub const RECORDS: &[Decoder] = &[
    Decoder { name: "attributes", rewrite: rewrite_record, samples: records },
    Decoder { name: "entry", rewrite: rewrite_entry, samples: entries },
    Decoder { name: "bytes", rewrite: rewrite_bytes, samples: || vec![format::encode_bytes(b"data").into()] },
    Decoder { name: "anchor", rewrite: rewrite_anchor, samples: || vec![format::encode_anchor(12).into()] },
    Decoder {
        name: "entry_key",
        rewrite: rewrite_entry_key,
        samples: || vec![format::entry_key(5, b"name").into()],
    },
    Decoder {
        name: "opener_key",
        rewrite: rewrite_opener_key,
        samples: || vec![format::opener_key(4, 6).into()],
    },
];

/// Text files: `cluster.json`, and what the kernel says of mounts and processes.
pub const TEXTS: &[Decoder] = &[
    Decoder { name: "cluster", rewrite: rewrite_cluster, samples: clusters },
    Decoder { name: "mountinfo", rewrite: rewrite_mount, samples: mounts },
    Decoder { name: "stat", rewrite: rewrite_stat, samples: stats },
];

fn rewrite_record(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut record = Record::decode(7, bytes).ok()?;
    let again = record.encode();
    assert_eq!(Record::decode(7, &again), Ok(record));
    // What it shows and how it changes must not stumble over any value in it.
    let _ = record.shown();
    let before = record.attr;
    record.modified(before.atime);
    assert!(record.attr.ctime > before.ctime || before.ctime.secs == i64::MAX);
    Some(again.into())
}

fn records() -> Vec<Vec<u8>> {
    let at = |secs, nanos| Time { secs, nanos };
    let attr = Attr {
        ino: 7,
        kind: FileKind::Directory,
        perm: 0o2755,
        nlink: 5,
        uid: 1000,
        gid: 7,
        rdev: 9,
        size: 1 << 40,
        blocks: 0,
        atime: at(-5, 999_999_999),
        mtime: at(1, 2),
        ctime: at(3, 0),
    };
    let file = Attr { kind: FileKind::Regular, ctime: at(i64::MAX, 999_999_999), ..attr };
    let directory = Record { attr, layout: Layout::Inline, parent: 3 };
    vec![directory.encode().into(), Record { attr: file, layout: Layout::Bulk, parent: 0 }.encode().into()]
}

fn rewrite_entry(value: &[u8]) -> Option<Vec<u8>> {
    let (ino, kind) = format::decode_entry(b"a key", value).ok()?;
    let again = format::encode_entry(ino, kind);
    assert_eq!(again, value, "there is one form of each entry");
    Some(again.into())
}

fn entries() -> Vec<Vec<u8>> {
    vec![format::encode_entry(9, FileKind::Fifo).into()]
}

fn rewrite_bytes(value: &[u8]) -> Option<Vec<u8>> {
    let data = format::decode_bytes(b"a key", &Bytes::copy_from_slice(value)).ok()?;
    Some(format::encode_bytes(&data).into())
}

fn rewrite_anchor(value: &[u8]) -> Option<Vec<u8>> {
    let anchor = format::decode_anchor(b"a key", &Bytes::copy_from_slice(value)).ok()?;
    Some(format::encode_anchor(anchor).into())
}

/// The name of an entry's key gives that key again, if the hash in it is the name's.
fn rewrite_entry_key(key: &[u8]) -> Option<Vec<u8>> {
    let (hash, name) = format::entry_name(key).ok()?;
    let dir = u64::from_be_bytes(*key.first_chunk()?);
    let again = format::entry_key(dir, name);
    assert_eq!(format::entry_name(&again), Ok((format::name_hash(name), name)));
    (hash == format::name_hash(name)).then(|| again.into())
}

fn rewrite_opener_key(key: &[u8]) -> Option<Vec<u8>> {
    let session = format::trailing_id(key).ok()?;
    Some(format::opener_key(u64::from_be_bytes(*key.first_chunk()?), session).into())
}

fn rewrite_cluster(bytes: &[u8]) -> Option<Vec<u8>> {
    let path = Path::new("cluster.json");
    let cluster = Cluster::parse(path, bytes).ok()?;
    let again = cluster.text();
    assert!(Cluster::parse(path, &again).is_ok_and(|read| read == cluster));
    Some(again)
}

fn clusters() -> Vec<Vec<u8>> {
    let process = ProcessId { pid: 4711, start: 1 << 40, boot: "a boot".into() };
    let cluster = Cluster {
        version: crate::cluster::file::VERSION,
        cluster: "00000000000000ff".into(),
        locks: vec!["127.0.0.1:7001".into(), "127.0.0.1:7002".into()],
        extents: "127.0.0.1:7000".into(),
        store: Some("ff".into()),
        lease: None,
        mounts: vec![PathBuf::from("/mnt/a b")],
        pids: BTreeMap::from([("mount /mnt/a b".into(), process)]),
    };
    vec![cluster.text()]
}

fn rewrite_mount(line: &[u8]) -> Option<Vec<u8>> {
    let mount = mountinfo::parse_line(line)?;
    assert!(mount.mountpoint.as_os_str().len() <= line.len());
    Some(line.to_vec())
}

fn mounts() -> Vec<Vec<u8>> {
    vec![b"36 35 0:52 / /mnt/a\\040b rw,nosuid shared:1 - fuse.yfs yfs rw,user_id=1000,group_id=0".to_vec()]
}

fn rewrite_stat(line: &[u8]) -> Option<Vec<u8>> {
    parse_stat(std::str::from_utf8(line).ok()?)?;
    Some(line.to_vec())
}

fn stats() -> Vec<Vec<u8>> {
    vec![b"42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 9 9 9".to_vec()]
}
