//! What a closed loop of callers measured.

use serde::Serialize;
use std::time::Duration;

/// Operations a second and how long they took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// Operations a second, all callers together.
    pub rate: f64,
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer, in microseconds.
    pub p99_us: f64,
}

impl Measured {
    /// From the time each operation took and the time the loop ran.
    pub fn new(mut each_ns: Vec<u64>, ran: Duration) -> Measured {
        each_ns.sort_unstable();
        let at = |part: f64| {
            let last = each_ns.len().saturating_sub(1);
            let index = ((each_ns.len() as f64 * part) as usize).min(last);
            each_ns.get(index).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
        };
        Measured { rate: each_ns.len() as f64 / ran.as_secs_f64(), p50_us: at(0.5), p99_us: at(0.99) }
    }
}

/// Nanoseconds of `time`, which is short.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_percentiles() {
        let measured = Measured::new((1..=100).rev().map(|us| us * 1000).collect(), Duration::from_secs(2));
        assert_eq!(measured, Measured { rate: 50.0, p50_us: 51.0, p99_us: 100.0 });
        assert!(Measured::new(Vec::new(), Duration::from_secs(1)).p50_us.is_nan());
    }
}
