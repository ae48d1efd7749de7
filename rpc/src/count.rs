//! `RPC_COUNT=n`: every n calls served, a line of how often each procedure was called, as the YFS labs print it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use parking_lot::Mutex;

use crate::handler::Proc;

/// Counts calls by procedure, and says when it is time to print them.
#[derive(Debug)]
pub struct CallCounter {
    every: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u64,
    by_proc: BTreeMap<Proc, u64>,
}

impl CallCounter {
    /// A counter with a line due every `every` calls (at least 1).
    pub fn new(every: u64) -> CallCounter {
        CallCounter { every: every.max(1), counts: Mutex::default() }
    }

    /// As `RPC_COUNT` says; `None` when it is unset, zero or no number.
    pub fn from_env() -> Option<CallCounter> {
        let text = std::env::var("RPC_COUNT").ok()?;
        match text.trim().parse() {
            Ok(0) => None,
            Ok(every) => Some(CallCounter::new(every)),
            Err(_) => {
                tracing::warn!("RPC_COUNT is \"{text}\", which is no number: calls are not counted");
                None
            }
        }
    }

    /// Counts one call; the line to print, if one is due.
    pub fn count(&self, proc: Proc) -> Option<String> {
        let mut counts = self.counts.lock();
        counts.total += 1;
        *counts.by_proc.entry(proc).or_default() += 1;
        counts.total.is_multiple_of(self.every).then(|| counts.line())
    }

    /// Counts one call and prints the line that is due to standard output.
    pub fn count_and_print(&self, proc: Proc) {
        if let Some(line) = self.count(proc) {
            // A closed standard output must not hurt the server.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

impl Counts {
    fn line(&self) -> String {
        let mut line = String::from("RPC STATS: ");
        for (proc, count) in &self.by_proc {
            write!(line, "{proc:x}:{count} ").expect("writing to a string");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_call_gives_the_labs_line() {
        let counter = CallCounter::new(3);
        assert_eq!(counter.count(0x7001), None);
        assert_eq!(counter.count(0x7002), None);
        assert_eq!(counter.count(0x7001).as_deref(), Some("RPC STATS: 7001:2 7002:1 "));
        assert_eq!(counter.count(0x7001), None);
    }
}
