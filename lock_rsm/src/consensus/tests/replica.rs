//! A simulated replica: a core, its program, its disk, its clock.

use super::disk::{Disk, Queue, Write};
use super::program::Program;
use super::setup::Sabotage;
use crate::consensus::{Core, Message, ReplicaId};
use std::collections::BTreeSet;

/// A replica, running or not.
#[derive(Debug)]
pub(crate) struct Replica {
    /// `None` while it is down.
    pub(crate) core: Option<Core>,
    pub(crate) disk: Disk,
    pub(crate) program: Program,
    pub(super) queue: Queue,
    pub(super) incarnation: u64,
    /// It stands still until then, as if stopped by a signal.
    pub(super) paused_until_ms: u64,
    pub(super) clock_offset_ms: u64,
    /// Thousandths of true time.
    pub(super) clock_rate: u64,
    /// Pieces of a snapshot received so far.
    pub(super) staged: Vec<u8>,
    pub(super) reads: BTreeSet<u64>,
}

impl Replica {
    pub(super) fn clock(&self, now_ms: u64) -> u64 {
        self.clock_offset_ms + now_ms * self.clock_rate / 1000
    }
}

/// Writes, or does what a bad driver would.
pub(super) fn write_with(
    sabotage: Option<Sabotage>,
    disk: &mut Disk,
    write: &mut Write,
) -> Vec<(ReplicaId, Message)> {
    if let Write::Batch { outputs, .. } = write {
        match sabotage {
            Some(Sabotage::ForgetsPromises) => {
                outputs.hard_state = outputs.hard_state.map(|mut hard_state| {
                    hard_state.voted_for = None;
                    hard_state
                })
            }
            Some(Sabotage::NeverTruncates) => outputs.truncate_from = None,
            _ => {}
        }
    }
    disk.write(write)
}
