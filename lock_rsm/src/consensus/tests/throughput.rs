//! The core's own cost, without disk and network: a guard against work that grows with the log.

use super::setup::founders;
use crate::consensus::{Config, Core, Message, ReplicaId, Restored, Role};
use bytes::Bytes;

/// Three cores in one thread with perfect disks and network.
struct Trio {
    cores: Vec<Core>,
    now_ms: u64,
    committed: u64,
}

impl Trio {
    fn new() -> Trio {
        let restored = || Restored { membership: founders(3), ..Restored::default() };
        let core = |id| Core::new(Config::new(id, id), restored(), 0).expect("an empty disk is sound");
        let mut trio = Trio { cores: (1..=3).map(core).collect(), now_ms: 0, committed: 0 };
        trio.cores[0].campaign(0);
        trio.settle();
        assert_eq!(trio.cores[0].role(), Role::Master);
        trio
    }

    /// Exchanges messages until there are none.
    fn settle(&mut self) {
        loop {
            let mut messages: Vec<(ReplicaId, ReplicaId, Message)> = Vec::new();
            for core in &mut self.cores {
                let outputs = core.take_outputs(self.now_ms);
                core.persisted(self.now_ms, outputs.number);
                let sent = outputs.messages.into_iter().chain(outputs.after_persist);
                messages.extend(sent.map(|(to, message)| (core.id(), to, message)));
                if core.id() == 1 {
                    self.committed += outputs.committed.len() as u64;
                }
            }
            if messages.is_empty() {
                return;
            }
            for (from, to, message) in messages {
                self.cores[usize::try_from(to - 1).expect("small")].receive(self.now_ms, from, message);
            }
        }
    }
}

#[test]
fn the_cost_of_an_entry_does_not_grow_with_the_log() {
    let mut trio = Trio::new();
    let command = Bytes::from_static(&[7; 100]);
    for round in 0..200 {
        trio.now_ms += 1;
        trio.cores[0]
            .propose(trio.now_ms, vec![command.clone(); 256])
            .expect("everything before is committed");
        trio.settle();
        if round % 50 == 49 {
            for core in &mut trio.cores {
                let meta = core.snapshot_meta(core.delivered).expect("it is delivered");
                core.snapshot_taken(&meta).expect("it is this log's");
            }
        }
    }
    assert_eq!(trio.committed, 200 * 256 + 1);
    assert!(trio.cores[0].log_bytes() <= 4 << 20, "the log is compacted");
}
