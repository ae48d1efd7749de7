//! How often a large state is hashed for those who ask for the status.
//!
//! A hash takes the whole state to be marshalled, and no command is applied meanwhile. So it may cost a small share of the
//! time only; a hash that is refused for that is not in the status. An idle replica gives the last one again.

use std::time::{Duration, Instant};

/// Hashes that take less are always allowed.
const FREE: Duration = Duration::from_millis(20);
/// After one that took longer, so many times that must pass before the next.
const REST_FACTOR: u32 = 19;

/// Time that may be spent on hashes.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    not_before: Option<Instant>,
}

impl Allowance {
    /// Whether a hash may be made now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|due| now >= due)
    }

    /// One was made.
    pub(super) fn spent(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        self.not_before = (took > FREE).then(|| ended + took * REST_FACTOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_states_are_free_and_large_ones_take_a_twentieth() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut allowance = Allowance::default();
        assert!(allowance.allows(start));
        allowance.spent(start, after(20));
        assert!(allowance.allows(after(20)));
        allowance.spent(start, after(100));
        assert!(!allowance.allows(after(1999)));
        assert!(allowance.allows(after(2000)));
    }
}
