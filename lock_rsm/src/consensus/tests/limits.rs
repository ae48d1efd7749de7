//! Everything is bounded: what is over a limit is refused and changes nothing.

use super::driven::Driven;
use crate::consensus::{Config, ProposeError, ReadError};
use bytes::Bytes;

#[test]
fn uncommitted_entries_are_bounded_and_room_returns_with_commits() {
    let config = Config { uncommitted_bytes_max: 1_000, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    let kilobyte = || vec![Bytes::from(vec![0; 900])];
    one.core.propose(one.now_ms, kilobyte()).expect("there is room");
    let last = one.core.last();
    assert!(matches!(one.core.propose(one.now_ms, kilobyte()), Err(ProposeError::Overloaded { .. })));
    assert_eq!(one.core.last(), last);
    one.sync();
    one.agree(2, last.seq);
    one.core.propose(one.now_ms, kilobyte()).expect("there is room again");
}

/// However small the limit, a lone proposal passes: otherwise it never could.
#[test]
fn an_idle_master_takes_any_batch() {
    let config = Config { uncommitted_bytes_max: 10, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    one.propose(10);
}

#[test]
fn large_and_empty_proposals_are_refused_whole() {
    let config = Config { command_bytes_max: 4, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    let commands = vec![Bytes::from_static(b"1234"), Bytes::from_static(b"12345")];
    let refused = one.core.propose(one.now_ms, commands);
    assert_eq!(refused, Err(ProposeError::TooLarge { size: 5, max: 4 }));
    assert_eq!(one.core.propose(one.now_ms, vec![]), Err(ProposeError::Empty));
    assert_eq!(one.core.last().seq, 1);
}

#[test]
fn waiting_reads_are_bounded() {
    let config = Config { reads_max: 2, ..Driven::config() };
    let mut one = Driven::settled_with(config, 3);
    one.core.read(one.now_ms, 1).expect("there is room");
    one.sync();
    one.core.read(one.now_ms, 2).expect("there is room");
    assert_eq!(one.core.read(one.now_ms, 3), Err(ReadError::Overloaded { waiting: 2 }));
}
