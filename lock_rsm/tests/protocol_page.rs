//! `docs/protocol.md` names every message, with its number.

#![allow(clippy::unwrap_used, reason = "test code")]

use lock_rsm::locks::protocol as locks;
use lock_rsm::rsm::core::REGISTER_CLIENT;
use lock_rsm::rsm::procs;
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/protocol.md");
const RSM: &str = include_str!("../src/rsm/types.rs");
const LOCKS: &str = include_str!("../src/locks/protocol.rs");
const TEST_PORT: &str = include_str!("../src/rsm/test_port/mod.rs");

/// The rows of the page's tables that begin with a name in backticks, by that name.
fn row(name: &str) -> &'static str {
    let mut rows = PAGE.lines().filter(|line| line.starts_with(&format!("| `{name}` |")));
    let row = rows.next().unwrap_or_else(|| panic!("docs/protocol.md does not tell of {name}"));
    assert!(rows.next().is_none(), "docs/protocol.md tells of {name} twice");
    row
}

/// Names of the procedure numbers that a source declares: its `u32` constants in hexadecimal.
fn declared(source: &'static str) -> BTreeSet<(&'static str, u32)> {
    source
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("pub const ")?.split_once(": u32 = 0x"))
        .map(|(name, value)| (name, value.trim_end_matches(';').replace('_', "")))
        .map(|(name, digits)| (name, u32::from_str_radix(&digits, 16).unwrap()))
        .collect()
}

#[test]
fn every_procedure_is_on_the_page_with_its_number() {
    let procedures: BTreeSet<(&str, u32)> = [RSM, LOCKS, TEST_PORT].into_iter().flat_map(declared).collect();
    for known in [("INVOKE", procs::INVOKE), ("MESSAGE", procs::MESSAGE), ("ACQUIRE", locks::ACQUIRE)] {
        assert!(procedures.contains(&known), "{known:?} was not found in the sources");
    }
    for (name, number) in procedures.into_iter().chain([("REGISTER_CLIENT", REGISTER_CLIENT)]) {
        assert!(row(name).contains(&format!("| {number:#x} |")), "{name} is {number:#x}: {}", row(name));
    }
}

#[test]
fn every_consensus_message_is_on_the_page() {
    let section = PAGE.split("### Consensus messages").nth(1).unwrap().split("\n##").next().unwrap();
    let told: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let source = include_str!("../src/consensus/message.rs");
    let body = source.split("pub enum Body {").nth(1).unwrap().split("\n}").next().unwrap();
    let declared: BTreeSet<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split([' ', ',']).next())
        .filter(|word| word.starts_with(char::is_uppercase))
        .collect();
    assert_eq!(told, declared);
}
