//! The start of a new group.

/// How long a new group leaves the field to its designated master.
const HEAD_START_MS: u64 = 1_000;
/// How often the designated master tries until enough others are up to elect it.
const INSIST_EVERY_MS: u64 = 40;

/// The designated master insists on becoming it, the others give it time to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadStart {
    until_ms: u64,
    mine: bool,
    /// The designated master tries no earlier than this.
    again_ms: u64,
}

impl HeadStart {
    pub(super) fn new(now_ms: u64, mine: bool) -> HeadStart {
        HeadStart { until_ms: now_ms + HEAD_START_MS, mine, again_ms: now_ms }
    }

    /// Whether this replica leaves the field to another one.
    pub(super) fn waits(&self, now_ms: u64) -> bool {
        !self.mine && now_ms < self.until_ms
    }

    /// Whether it is time to try (again) to become the master.
    pub(super) fn insists(&mut self, now_ms: u64) -> bool {
        let due = self.mine && now_ms < self.until_ms && now_ms >= self.again_ms;
        if due {
            self.again_ms = now_ms + INSIST_EVERY_MS;
        }
        due
    }
}
