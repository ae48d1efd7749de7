//! `docs/on-disk-format.md` against the bytes this program writes: every example on the page is compared.

use super::super::frame::{Frame, Item};
use super::super::segment;
use super::*;
use crate::rsm::Identity;
use crate::rsm::state::{Command, Machine};
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
    let entries = vec![
        Entry { stamp: Viewstamp::new(1, 1), payload: Payload::Noop },
        Entry { stamp: Viewstamp::new(1, 2), payload: Payload::Command(command(5, 0x7001, b"abc")) },
        Entry { stamp: Viewstamp::new(2, 3), payload: Payload::Membership(members()) },
    ];
    let (identity, saved);
    {
        let (mut store, recovered) = open(dir.path());
        identity = recovered.identity;
        store.form(&members()).unwrap();
        store.write(vec![promise(2, Some(7)), append(entries.clone())]).unwrap();
        store.settle().unwrap();
        let meta = SnapshotMeta { stamp: Viewstamp::new(1, 1), membership: members() };
        saved = store.save_snapshot(Snapshot { meta, state: Bytes::from_static(b"state") })().unwrap();
        store.snapshot_saved(saved.clone()).unwrap();
    }
    let log = |identity: &Identity, salt: u64| {
        let promises = HardState { view: 2, voted_for: Some(7) };
        let frames = [
            vec![Item::Whole, Item::Identity(identity.clone()), Item::HardState(HardState::default())],
            vec![Item::Founding(members())],
            vec![Item::HardState(promises), Item::Entries(entries.clone())],
            vec![Item::Snapshot(saved.clone())],
        ];
        let frames = (1..).zip(frames).map(|(number, items)| {
            let mut frame = Frame::default();
            items.iter().for_each(|item| frame.add(item));
            frame.sealed(number, salt)
        });
        let names = ["first", "formed", "appended", "compacted"];
        let mut parts = vec![("heading", segment::heading(1, salt))];
        parts.extend(names.into_iter().zip(frames));
        parts
    };
    let file = |name: &str| fs::read(dir.path().join(name)).unwrap();
    // Identity and salt are random: this is what is written, and the page has the same with numbers of its own.
    let here = file("log/0000000000000001");
    let salt = segment::salt_of(&here, 1).unwrap();
    let parts: Vec<u8> = log(&identity, salt).into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(here[..parts.len()], parts);
    assert!(here.len() > parts.len() && here[parts.len()..].iter().all(|byte| *byte == 0));
    let example = Identity { id: 0x0123_4567_89ab_cdef, address: ME.to_owned() };
    let mut found = BTreeMap::from([
        ("envelope", rpc::record::seal(1, b"abc")),
        ("FORMAT", file("FORMAT")),
        ("WATERMARK", file("WATERMARK")),
        ("PROGRESS", file("PROGRESS")),
        ("snapshot-file", file("snapshots/0000000000000001")),
        ("state", state().to_vec()),
    ]);
    found.extend(log(&example, 0x1122_3344_5566_7788));
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
