//! `docs/on-disk-format.md` against the bytes this program writes: every example on the page is compared.

use super::*;
use crate::rsm::Identity;
use crate::rsm::state::{Command, Machine};
use fjall::{Database, KeyspaceCreateOptions};
use rpc::{CallInfo, Register};
use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: &str = include_str!("../../../../../docs/on-disk-format.md");

/// The examples of the page: blocks that begin with `; example: NAME`; `;` begins a comment, the rest is hexadecimal.
fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let blocks = PAGE.split("```text\n; example: ").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            let (name, lines) = block.split_once('\n').unwrap();
            let digits: String = lines.lines().map(|line| line.split(';').next().unwrap()).collect();
            let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let bytes = digits.chunks(2).map(|pair| {
                let pair = std::str::from_utf8(pair).unwrap();
                u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{name}: {pair} is not hexadecimal"))
            });
            (name, bytes.collect())
        })
        .collect()
}

/// Everything in the embedded store.
fn values(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let database = Database::builder(dir.join("store")).open().unwrap();
    let keyspace = database.keyspace("replica", KeyspaceCreateOptions::default).unwrap();
    keyspace
        .iter()
        .map(|item| item.into_inner().unwrap())
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// A program with a state of two bytes and one procedure.
struct Two;

impl crate::rsm::Service for Two {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        to.register(1, rpc::typed(|_: &CallInfo, by: u8| Ok(by + 1)));
    }
    fn marshal_state(&self) -> Vec<u8> {
        vec![0xaa, 0xbb]
    }
    fn unmarshal_state(&self, _: &[u8]) -> Result<(), crate::rsm::StateError> {
        Ok(())
    }
}

fn command(request: u64, proc: u32, args: &'static [u8]) -> Bytes {
    let client = u64::from(request != 0);
    Command { client, request, acked_upto: 0, proc, args: Bytes::from_static(args) }.encode()
}

fn state() -> Bytes {
    let mut machine = Machine::new(Arc::new(Two), crate::rsm::state::ReplyLimits::default());
    for (seq, command) in [(1, command(0, 0x9010, b"")), (2, command(1, 1, b"\x04")), (3, command(2, 9, b""))]
    {
        machine.apply(&Entry { stamp: Viewstamp::new(1, seq), payload: Payload::Command(command) });
    }
    machine.marshal()
}

/// What this program writes, by the names of the examples.
fn written_here() -> BTreeMap<&'static str, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let identity;
    let log = vec![
        Entry { stamp: Viewstamp::new(1, 1), payload: Payload::Noop },
        Entry { stamp: Viewstamp::new(1, 2), payload: Payload::Command(command(5, 0x7001, b"abc")) },
        Entry { stamp: Viewstamp::new(2, 3), payload: Payload::Membership(members()) },
    ];
    {
        let (mut store, recovered) = open(dir.path());
        identity = recovered.identity;
        store.form(&members()).unwrap();
        store.write(vec![promise(2, Some(7)), append(log)]).unwrap();
        store.settle().unwrap();
        let meta = SnapshotMeta { stamp: Viewstamp::new(1, 1), membership: members() };
        save(&mut store, &Snapshot { meta, state: Bytes::from_static(b"state") });
    }
    let file = |name: &str| fs::read(dir.path().join(name)).unwrap();
    let mut found = BTreeMap::from([
        ("envelope", rpc::record::seal(1, b"abc")),
        ("FORMAT", file("FORMAT")),
        ("WATERMARK", file("WATERMARK")),
        ("PROGRESS", file("PROGRESS")),
        ("snapshot-file", file("snapshots/0000000000000001")),
        ("state", state().to_vec()),
    ]);
    for (key, value) in values(dir.path()) {
        let (name, key_len) = match key[0] {
            b'i' => {
                // The identity is random: here is what the example's would be.
                assert_eq!(value, rpc::record::seal(1, &rpc::codec::encode(&identity)));
                let example = Identity { id: 0x0123_4567_89ab_cdef, address: ME.to_owned() };
                found.insert("identity", rpc::record::seal(1, &rpc::codec::encode(&example)));
                continue;
            }
            b'f' => ("founding", 1),
            b'h' => ("promises", 1),
            b's' => ("snapshot", 1),
            b'e' => {
                found.insert("log-key", key.clone());
                ("log", 9)
            }
            other => panic!("the page knows no key that begins with {other}"),
        };
        assert_eq!(key.len(), key_len, "{name}");
        found.insert(name, value);
    }
    found
}

#[test]
fn the_page_has_the_bytes_this_program_writes() {
    let (page, here) = (examples(), written_here());
    let differs = |name: &&str| page.get(*name) != here.get(*name);
    let names: std::collections::BTreeSet<&str> = page.keys().chain(here.keys()).copied().collect();
    let wrong: Vec<String> = names
        .into_iter()
        .filter(differs)
        .map(|name| {
            let hex: Vec<String> = here.get(name).into_iter().flatten().map(|b| format!("{b:02x}")).collect();
            format!("{name}: {}", hex.join(" "))
        })
        .collect();
    assert!(wrong.is_empty(), "docs/on-disk-format.md is not what is written:\n{}", wrong.join("\n"));
}
