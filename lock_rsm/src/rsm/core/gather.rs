//! When proposals are put into the log: at once while few are on their way, otherwise many together.
//!
//! What a batch costs, three writes to disk and a dozen wake-ups, hardly depends on how much is in it. Callers that come
//! back as soon as they have their answers would otherwise fall apart into ever smaller batches that follow each other
//! closely. So while several commands are on their way the next ones wait for these; and when they are through, it is
//! waited until as many callers are back, or until every replica that keeps up has written everything, whichever comes
//! first: that long they would have kept the disks waiting anyway.

/// With fewer commands on their way, the next go at once.
const FEW: u64 = 4;
/// Proposals never wait longer than this, in milliseconds: the group may have lost somebody meanwhile.
const HOLD_MAX_MS: u64 = 2;
/// So many never wait.
const MANY: usize = 4096;

/// How the commands that were proposed last are doing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Commands that are in the log and not committed.
    pub(super) on_their_way: u64,
    /// Whether everything in the log is on the disks of this replica and of all others that keep up.
    pub(super) all_written: bool,
}

#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Commands in the last batch.
    last: usize,
    /// Callers that are expected to have something to propose.
    expected: usize,
    /// Since when proposals are kept waiting.
    since_ms: Option<u64>,
}

impl Gather {
    /// Whether `proposals` should wait a little.
    pub(super) fn holds(&mut self, now_ms: u64, proposals: usize, progress: &Progress) -> bool {
        let should = if progress.on_their_way >= FEW {
            // Whoever comes while others are on their way is one more.
            self.expected = self.last + proposals;
            true
        } else {
            progress.on_their_way == 0 && proposals < self.expected && !progress.all_written
        };
        let since = *self.since_ms.get_or_insert(now_ms);
        should && proposals < MANY && now_ms < since + HOLD_MAX_MS
    }

    /// So many commands were proposed.
    pub(super) fn proposed(&mut self, commands: usize) {
        *self = Gather { last: commands, expected: commands, since_ms: None };
    }

    /// When proposals that wait have waited long enough.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.since_ms.map(|since| since + HOLD_MAX_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_their_way(commands: u64) -> Progress {
        Progress { on_their_way: commands, all_written: false }
    }

    fn committed(all_written: bool) -> Progress {
        Progress { on_their_way: 0, all_written }
    }

    #[test]
    fn few_callers_never_wait_for_each_other() {
        let mut gather = Gather::default();
        for commands in 0..FEW {
            assert!(!gather.holds(7, 1, &on_their_way(commands)));
            gather.proposed(1);
        }
        assert!(!gather.holds(8, 1, &committed(false)), "a single caller is back");
    }

    #[test]
    fn the_next_batch_waits_for_the_callers_of_the_last_one() {
        let mut gather = Gather::default();
        gather.proposed(8);
        assert!(gather.holds(7, 3, &on_their_way(8)), "others are on their way");
        assert!(gather.holds(7, 10, &committed(false)), "eight and three are expected");
        assert!(!gather.holds(7, 11, &committed(false)), "all are here");
        gather.proposed(11);
        assert!(gather.holds(8, 10, &committed(false)));
        assert!(!gather.holds(8, 10, &committed(true)), "nobody is busy");
    }

    #[test]
    fn nobody_waits_for_long() {
        let mut gather = Gather::default();
        gather.proposed(8);
        assert_eq!(gather.due_ms(), None);
        assert!(gather.holds(7, 1, &on_their_way(8)));
        assert_eq!(gather.due_ms(), Some(9));
        assert!(!gather.holds(9, 1, &on_their_way(8)));
        assert!(!gather.holds(7, MANY, &on_their_way(8)));
    }
}
