//! The figures, as a table to read and as JSON to keep.

use super::sessions::Measured;
use crate::bench::report::median;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything measured. Times are seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Repetitions.
    pub trials: usize,
    /// The load average of the machine before and after, as `/proc/loadavg` has it.
    pub load_average: [String; 2],
    /// From freezing a holder until another mount had written what it held.
    pub frozen: Vec<f64>,
    /// The longest pause of the others, by who was killed.
    pub pauses: BTreeMap<&'static str, Vec<f64>>,
    /// Without and with a thousand idle sessions.
    pub sessions: Vec<Measured>,
}

impl Report {
    /// Nothing is measured yet.
    pub fn new(trials: usize) -> Report {
        let load_average = [load_average(), String::new()];
        Report { trials, load_average, frozen: Vec::new(), pauses: BTreeMap::new(), sessions: Vec::new() }
    }

    /// Everything is measured.
    pub fn load_average_after(&mut self) {
        self.load_average[1] = load_average();
    }

    /// The table.
    pub fn table(&self) -> String {
        let [before, after] = &self.load_average;
        let mut text = format!("load average before: {before}; after: {after}\n");
        let mut line = |what: &str, times: &[f64]| {
            let worst = times.iter().copied().fold(0.0, f64::max);
            let n = times.len();
            text +=
                &format!("{what:<60} median {:>6.2} s, worst {worst:>6.2} s ({n} times)\n", median(times));
        };
        line("a frozen holder: until another mount gets on (lease 10 s)", &self.frozen);
        for (who, times) in &self.pauses {
            line(&format!("{who} killed under load: longest pause of the others"), times);
        }
        for measured in &self.sessions {
            text += &format!("{} idle sessions: {measured}\n", measured.idle);
        }
        text
    }
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
