//! When to send a call again over a connection that lives.
//!
//! TCP loses nothing while it lives, so this is for links that lose frames on purpose, and a safety net for the rest;
//! after a reconnect everything outstanding is sent again at once.

use std::time::Duration;

use tokio::time::Instant;

const LOSSY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
const SOUND: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));

/// Doubling pauses up to a bound, until a deadline.
#[derive(Debug)]
pub(crate) struct Resend {
    pause: Duration,
    deadline: Instant,
}

impl Resend {
    pub fn new(deadline: Instant) -> Resend {
        Resend { pause: Duration::ZERO, deadline }
    }

    /// When to look again: to send again, or to give up.
    pub fn next(&mut self, now: Instant, lossy: bool) -> Instant {
        let (first, max) = if lossy { LOSSY } else { SOUND };
        self.pause = (self.pause * 2).clamp(first, max);
        self.deadline.min(now + self.pause)
    }

    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline
    }
}

/// `timeout` from now, or about thirty years when that is beyond what a clock holds.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(86400 * 365 * 30))
}
