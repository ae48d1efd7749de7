//! What the master knows of one other member, and how fast it sends to it.

use super::types::Viewstamp;
use std::collections::VecDeque;

/// How entries are sent to a member.
#[derive(Debug)]
pub(super) enum Pace {
    /// Where the logs agree is not known: one message at a time, and a pause until it is answered or a
    /// heartbeat is.
    Probe { waiting: bool },
    /// The logs agree: a window of messages, `next` runs ahead of the answers.
    Replicate,
    /// The member lacks entries that are compacted here: it gets a snapshot, piece by piece.
    Snapshot(Transfer),
}

/// A snapshot on its way to a member.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Which snapshot; not known before the driver hands in the first piece.
    pub(super) stamp: Option<Viewstamp>,
    /// The piece that is due.
    pub(super) offset: u64,
    /// Whether to ask the driver for it.
    pub(super) wanted: bool,
    /// When the driver was asked for it last, or it was sent.
    pub(super) since_ms: u64,
}

/// One member, seen from the master.
#[derive(Debug)]
pub(super) struct Progress {
    /// The logs agree up to here, on the member's disk.
    pub(super) matched: u64,
    /// The first entry to send.
    pub(super) next: u64,
    pub(super) pace: Pace,
    /// Messages sent and not yet answered.
    pub(super) inflight: Inflight,
    /// An `Append` is due even without entries: to learn what happened to those before.
    pub(super) nudge: bool,
    /// `matched` grew since the last answered heartbeat: nothing seems lost.
    pub(super) advancing: bool,
    /// When the last heartbeat that it answered was sent.
    pub(super) confirmed_ms: Option<u64>,
    /// The last batch of reads it confirmed.
    pub(super) round: u64,
}

impl Progress {
    /// A member of which nothing is known but that it should get what follows `last`.
    pub(super) fn new(last: u64) -> Progress {
        Progress {
            matched: 0,
            next: last + 1,
            pace: Pace::Probe { waiting: false },
            inflight: Inflight::default(),
            nudge: true,
            advancing: false,
            confirmed_ms: None,
            round: 0,
        }
    }

    /// Starts over from `next`, one message at a time.
    pub(super) fn probe_from(&mut self, next: u64) {
        self.next = next.max(self.matched + 1);
        self.pace = Pace::Probe { waiting: false };
        self.inflight = Inflight::default();
        self.nudge = true;
    }

    /// The logs agree up to `seq`. Returns whether that is news.
    pub(super) fn agree(&mut self, seq: u64) -> bool {
        self.inflight.answered(seq);
        self.next = self.next.max(seq + 1);
        let news = seq > self.matched;
        if news {
            self.matched = seq;
            self.advancing = true;
        }
        if let Pace::Probe { .. } = self.pace {
            self.pace = Pace::Replicate;
            self.next = self.matched + 1;
        }
        news
    }

    /// The entries it needs are gone.
    pub(super) fn needs_snapshot(&mut self, now_ms: u64) {
        self.inflight = Inflight::default();
        self.pace = Pace::Snapshot(Transfer { stamp: None, offset: 0, wanted: true, since_ms: now_ms });
    }
}

/// The window: what is sent and not yet answered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Inflight {
    /// Last seq and size of each message.
    messages: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Inflight {
    pub(super) fn sent(&mut self, last_seq: u64, bytes: usize) {
        self.messages.push_back((last_seq, bytes));
        self.bytes += bytes;
    }

    /// Everything up to `seq` arrived.
    fn answered(&mut self, seq: u64) {
        while let Some(&(last_seq, bytes)) = self.messages.front()
            && last_seq <= seq
        {
            self.bytes -= bytes;
            self.messages.pop_front();
        }
    }

    pub(super) fn is_full(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.messages.len() >= messages_max || self.bytes >= bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_counts_messages_and_bytes() {
        let mut window = Inflight::default();
        window.sent(10, 100);
        window.sent(20, 100);
        assert!(window.is_full(2, 1000) && window.is_full(9, 200) && !window.is_full(3, 201));
        window.answered(15);
        assert!(!window.is_full(2, 1000) && window.is_full(9, 100));
        window.answered(20);
        assert!(!window.is_full(1, 1));
    }

    #[test]
    fn agreement_turns_probing_into_replicating() {
        let mut progress = Progress::new(7);
        assert_eq!((progress.next, progress.agree(5)), (8, true));
        assert!(matches!(progress.pace, Pace::Replicate));
        assert_eq!((progress.next, progress.matched), (6, 5));
        assert!(!progress.agree(4), "an old answer is no news");
        assert_eq!((progress.next, progress.matched), (6, 5));
        progress.probe_from(2);
        assert_eq!(progress.next, 6, "what agrees is not sent again");
    }
}
