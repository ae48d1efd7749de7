//! What fuzzers need of this crate: its private decoders, and the form in which every crate offers its own.

use std::fmt::Debug;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::Kind;
use crate::handshake::{self, Hello, Welcome};
use crate::{addr, codec, record};

/// Something that reads bytes from a wire or a disk.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// What it reads.
    pub name: &'static str,
    /// Reads bytes and writes again what it read; `None` when it refuses them. What it wrote it must read again and
    /// write unchanged.
    pub rewrite: fn(&[u8]) -> Option<Vec<u8>>,
    /// Bytes that it reads.
    pub samples: fn() -> Vec<Vec<u8>>,
}

/// The `rewrite` of a value that travels through the codec, which must also come out as it went in.
pub fn coded<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: T = codec::decode(bytes).ok()?;
    let again = codec::encode(&value);
    assert_eq!(codec::decode::<T>(&again).as_ref(), Ok(&value));
    Some(again)
}

/// The private decoders, and those that need no type.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "hello", rewrite: rewrite_hello, samples: sample_hellos },
    Decoder { name: "welcome", rewrite: rewrite_welcome, samples: sample_welcomes },
    Decoder { name: "record", rewrite: rewrite_record, samples: sample_records },
    Decoder { name: "address", rewrite: rewrite_address, samples: sample_addresses },
    Decoder { name: "strings", rewrite: coded::<Nested>, samples: sample_nested },
    Decoder {
        name: "too_large",
        rewrite: coded::<(u64, u64)>,
        samples: || vec![codec::encode(&(1u64 << 40, 16u64))],
    },
];

/// A value with every shape the codec knows.
type Nested =
    (u64, Option<String>, Vec<(i32, Vec<u8>, Result<bool, i64>)>, std::collections::BTreeMap<String, u16>);

fn rewrite_hello(bytes: &[u8]) -> Option<Vec<u8>> {
    let hello: Hello = handshake::parse(&Bytes::copy_from_slice(bytes)).ok()?;
    Some(handshake::frame(Kind::Hello, &hello).body.into())
}

fn sample_hellos() -> Vec<Vec<u8>> {
    let hello = Hello { nonce: 1 << 40, sent_before: 7, frame_max: 16 << 20, lossy: false };
    vec![handshake::frame(Kind::Hello, &hello).body.into()]
}

fn rewrite_welcome(bytes: &[u8]) -> Option<Vec<u8>> {
    let welcome: Welcome = handshake::parse(&Bytes::copy_from_slice(bytes)).ok()?;
    Some(handshake::frame(Kind::Welcome, &welcome).body.into())
}

fn sample_welcomes() -> Vec<Vec<u8>> {
    let welcome = Welcome { boot: 1 << 40, frame_max: 16 << 20, lossy: true };
    vec![handshake::frame(Kind::Welcome, &welcome).body.into()]
}

fn rewrite_record(bytes: &[u8]) -> Option<Vec<u8>> {
    let (version, body) = record::open(bytes).ok()?;
    let again = record::seal(version, body);
    assert_eq!(again, bytes, "there is one seal for each record");
    Some(again)
}

fn sample_records() -> Vec<Vec<u8>> {
    vec![record::seal(1, b"some body"), record::seal(255, b"")]
}

fn rewrite_address(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(addr::parse(std::str::from_utf8(bytes).ok()?).ok()?.into_bytes())
}

fn sample_addresses() -> Vec<Vec<u8>> {
    ["7001", "host.example:80", "[::1]:65535"].map(|text| text.as_bytes().to_vec()).into()
}

fn sample_nested() -> Vec<Vec<u8>> {
    let list = vec![(-1, vec![0, 255], Ok(true)), (70_000, Vec::new(), Err(-3))];
    let value: Nested = (u64::MAX, Some("text".into()), list, [("key".to_owned(), 9)].into());
    vec![codec::encode(&value)]
}
