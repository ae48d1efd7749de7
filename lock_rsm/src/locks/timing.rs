//! How long a lease must be, and how much longer the master waits: the arithmetic that `docs/leases.md` explains.
//!
//! With the lease L, the election timeout E (which is the check-quorum timeout too) and the master's margin M:
//!
//! 1. M ≥ E + what two clocks may differ while L passes. A replica believes that it is the master for at most E after
//!    another one may have been elected, and may answer a keepalive then; the other one's first full lease must outlast
//!    that answer. M is the larger of L / 10 and 2 E, which leaves at least a twentieth of L for clocks.
//! 2. L ≥ 5 E. A client asks after a third of its lease, so two thirds are left when the master dies right before; a
//!    change of master (up to 2 E until somebody stands for election, E for the election) fits into them.
//!
//! If clocks run worse than that, clients may serve stale reads for a moment; no write lands, since an ended session was
//! fenced before.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::RangeInclusive;
use std::time::Duration;

/// Leases that sessions may have.
pub(super) const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// A lease is at least so many election timeouts.
const ELECTIONS: u32 = 5;

/// A lease that does not go with the replicas' timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Sessions have no such leases.
    #[error("a lease of {0:?} is not between {min:?} and {max:?}", min = LEASES.start(), max = LEASES.end())]
    OutOfRange(Duration),
    /// Clients that live would stop whenever the master changes.
    #[error(
        "a lease of {lease:?} is shorter than {least:?}, {ELECTIONS} times the election timeout: clients would have to \
         stop whenever the master changes; choose a longer lease"
    )]
    TooShort {
        /// The lease.
        lease: Duration,
        /// The shortest for these timers.
        least: Duration,
    },
}

/// Checks the second rule.
pub(super) fn check(lease: Duration, election_timeout: Duration) -> Result<(), LeaseError> {
    if !LEASES.contains(&lease) {
        return Err(LeaseError::OutOfRange(lease));
    }
    let least = election_timeout * ELECTIONS;
    if lease < least { Err(LeaseError::TooShort { lease, least }) } else { Ok(()) }
}

/// How much longer than a session's lease its client must be silent; see the first rule.
pub(super) fn margin(lease: Duration, election_timeout: Duration) -> Duration {
    (lease / 10).max(election_timeout * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION: Duration = Duration::from_millis(150);

    #[test]
    fn the_shortest_lease_is_five_elections() {
        assert_eq!(check(Duration::from_secs(10), ELECTION), Ok(()));
        assert_eq!(check(ELECTION * 5, ELECTION), Ok(()));
        let short = check(Duration::from_millis(749), ELECTION).unwrap_err().to_string();
        assert!(short.contains("749ms") && short.contains("750ms"), "{short}");
        let tiny = check(Duration::from_millis(99), Duration::from_millis(1)).unwrap_err().to_string();
        assert!(tiny.contains("not between 100ms and 3600s"), "{tiny}");
        assert!(check(Duration::from_secs(3601), ELECTION).is_err());
    }

    #[test]
    fn the_margin_covers_a_late_answer_and_clocks_that_differ_by_a_twentieth() {
        for millis in [750, 1000, 2000, 3000, 10_000, 3_600_000] {
            let lease = Duration::from_millis(millis);
            assert!(margin(lease, ELECTION) >= ELECTION + lease / 20, "{lease:?}");
        }
    }
}
