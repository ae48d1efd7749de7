//! Reads that are confirmed by a majority and not put into the log, at one replica.

use lock_rsm::consensus::ReadReady;
use std::collections::BTreeMap;

/// The reads of one replica. Lost in a crash.
#[derive(Debug, Default)]
pub struct Reads {
    /// Which register each attempt asks for.
    asked: BTreeMap<u64, u64>,
    /// Confirmed: what the program must have applied before it is read.
    ready: Vec<ReadReady>,
}

impl Reads {
    /// The attempt `token` asks for a register.
    pub fn ask(&mut self, token: u64, register: u64) {
        self.asked.insert(token, register);
    }

    /// These are confirmed.
    pub fn confirmed(&mut self, ready: Vec<ReadReady>) {
        self.ready.extend(ready);
    }

    /// This one will never be.
    pub fn failed(&mut self, token: u64) {
        self.asked.remove(&token);
    }

    /// Takes out what can be answered once everything up to `applied` is applied: attempts and their registers.
    pub fn take_due(&mut self, applied: u64) -> Vec<(u64, u64)> {
        let due = self.ready.extract_if(.., |read| read.seq <= applied);
        // An attempt that arrived twice is confirmed twice, and answered once.
        due.filter_map(|read| Some((read.token, self.asked.remove(&read.token)?))).collect()
    }
}
