//! When clients lost what they had not flushed: their processes were killed, or their logs say that a session ended.

use super::model::prefix::Loss;
use crate::linear::Clock;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The process behind a mount, from its start to its end.
#[derive(Debug, Clone, Serialize)]
pub struct Client {
    /// Its number.
    pub number: u64,
    /// Its log.
    pub log: PathBuf,
    /// When it was killed, if it was.
    pub killed: Option<u64>,
    /// Since when its clocks may differ from everybody's, and its log tells times that cannot be used.
    pub started: u64,
}

/// The consequences come so much later than the line.
const DROPPED_LATE: u64 = 2 * 1_000_000_000;

impl Client {
    /// The times in which it lost something, in order. Being killed is not among them. A client that was stopped or cut
    /// off does not know yet that its session ended; `strikes`, when faults began, tell since when that may have been.
    pub fn losses(&self, strikes: &[u64]) -> std::io::Result<Vec<Loss>> {
        let ahead = ahead();
        let log = std::fs::read_to_string(&self.log)?;
        let told = log.lines().filter(|line| line.contains("session") && line.contains("is lost"));
        let times = told.filter_map(|line| timestamp(line.split_whitespace().next()?));
        Ok(times
            .map(|at| {
                let at = at.saturating_sub(ahead);
                // The last fault before may have come before the one before that was noticed.
                let from = strikes.iter().rev().filter(|began| **began < at).nth(1).copied().unwrap_or(0);
                Loss { from: from.max(self.started), to: at + DROPPED_LATE }
            })
            .collect())
    }
}

/// How far the calendar's clock, in nanoseconds since 1970, is ahead of the recorders'.
fn ahead() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    since.saturating_sub(Clock.now())
}

/// `2026-01-31T12:34:56.123456Z` in nanoseconds since 1970.
fn timestamp(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hours, minutes) = (time.next()?.parse::<u64>().ok()?, time.next()?.parse::<u64>().ok()?);
    let (seconds, fraction) = time.next()?.split_once('.')?;
    let nanos = format!("{fraction:0<9}").get(..9)?.parse::<u64>().ok()?;
    let seconds = hours * 3600 + minutes * 60 + seconds.parse::<u64>().ok()?;
    Some((u64::try_from(days(year, month, day)?).ok()? * 86_400 + seconds) * 1_000_000_000 + nanos)
}

/// Days since 1970 in the Gregorian calendar: whole years that begin in March, so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year / 4 - year / 100 + year / 400;
    Some(year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_logs_are_understood() {
        assert_eq!(timestamp("1970-01-01T00:00:00.000001Z"), Some(1000));
        assert_eq!(timestamp("2024-02-29T12:00:00.5Z"), Some(1_709_208_000_500_000_000));
        assert_eq!(timestamp("2026-11-22T22:22:46.123456Z"), Some(1_795_386_166_123_456_000));
        assert_eq!(timestamp("ERROR"), None);
    }

    #[test]
    fn a_lost_session_is_found_in_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // Any day will do for the line that is not found.
        let text = format!(
            "2024-02-29T12:00:00.5Z  INFO yfs: mounted\n1970-01-01T00:00:00.5Z ERROR yfs: session {} is lost: x\n",
            now.as_secs()
        );
        std::fs::write(&log, text).unwrap();
        let client = Client { number: 1, log, killed: None, started: 0 };
        assert_eq!(client.losses(&[]).unwrap(), [Loss { from: 0, to: DROPPED_LATE }]);
    }
}
