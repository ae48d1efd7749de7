//! Reads confirmed by a quorum, in batches (ReadIndex, §6.4): no clock is trusted and nothing is written.

use super::core::Core;
use super::error::ReadError;
use super::outputs::ReadReady;
use super::role::RoleState;
#[cfg(feature = "planted")]
use crate::planted::{self, Bug};

/// The master's reads: one batch asks the quorum, the rest waits to be the next batch.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<u64>,
    asked: Option<Round>,
    latest: u64,
}

#[derive(Debug)]
struct Round {
    number: u64,
    /// Committed when the quorum was asked, which is after the reads came.
    seq: u64,
    tokens: Vec<u64>,
}

impl Reads {
    /// The round that heartbeats carry.
    pub(super) fn latest_round(&self) -> u64 {
        self.latest
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.asked.as_ref().map_or(0, |round| round.tokens.len())
    }

    /// Makes a batch of what waits, unless one is on its way. Returns whether the quorum is to be asked.
    fn start_round(&mut self, seq: u64) -> bool {
        if self.waiting.is_empty() || self.asked.is_some() {
            return false;
        }
        self.latest += 1;
        let tokens = std::mem::take(&mut self.waiting);
        self.asked = Some(Round { number: self.latest, seq, tokens });
        true
    }

    /// All reads that are not confirmed.
    pub(super) fn into_tokens(self) -> impl Iterator<Item = u64> {
        self.asked.into_iter().flat_map(|round| round.tokens).chain(self.waiting)
    }
}

impl Core {
    /// Asks for a read to be confirmed: [`Outputs::reads_ready`](super::Outputs::reads_ready) or
    /// [`Outputs::reads_failed`](super::Outputs::reads_failed) will have `token`. A confirmed read, answered
    /// from the state after the seq given, is linearizable whatever the clocks do.
    pub fn read(&mut self, now_ms: u64, token: u64) -> Result<(), ReadError> {
        self.now_ms = self.now_ms.max(now_ms);
        let RoleState::Master(reign) = &mut self.role else {
            return Err(ReadError::NotMaster { hint: self.master });
        };
        if reign.reads.len() >= self.config.reads_max {
            return Err(ReadError::Overloaded { waiting: reign.reads.len() });
        }
        reign.reads.waiting.push(token);
        Ok(())
    }

    /// Asks the quorum about the reads that wait, if the master knows yet how far the log is committed.
    pub(super) fn flush_reads(&mut self) {
        let (is_settled, committed) = (self.is_settled(), self.committed);
        #[cfg(feature = "planted")]
        let is_settled = is_settled || planted::has(Bug::ReadUnsettled);
        let RoleState::Master(reign) = &mut self.role else { return };
        if is_settled && reign.reads.start_round(committed) {
            self.send_heartbeats();
            self.confirm_reads();
        }
    }

    pub(super) fn confirm_reads(&mut self) {
        let confirmed = self.quorum_value(u64::MAX, |progress| progress.round);
        #[cfg(feature = "planted")]
        let confirmed = if planted::has(Bug::ReadUnconfirmed) { u64::MAX } else { confirmed };
        let RoleState::Master(reign) = &mut self.role else { return };
        let Some(Round { seq, tokens, .. }) = reign.reads.asked.take_if(|round| round.number <= confirmed)
        else {
            return;
        };
        self.outputs.reads_ready.extend(tokens.into_iter().map(|token| ReadReady { token, seq }));
    }
}
