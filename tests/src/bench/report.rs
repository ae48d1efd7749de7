//! The figures, as a table to read and as JSON to keep.

use super::load::Rate;
use serde::Serialize;
use std::collections::BTreeMap;

/// Repetitions of a workload.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// Each repetition's figure.
    pub all: Vec<f64>,
    /// Their median.
    pub median: f64,
}

/// One workload on the mount and beside it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// `op/s` or `MB/s`.
    pub unit: String,
    /// On the mount.
    pub mount: Series,
    /// In a plain directory on a disk of the same make.
    pub plain: Series,
    /// Mount by plain, medians.
    pub ratio: f64,
}

/// What locking costs a create.
#[derive(Debug, Clone, Serialize)]
pub struct Acquires {
    /// Files created for it.
    pub files: usize,
    /// `acquire` calls per file, locks cached.
    pub cached: f64,
    /// And with every lock given back at once.
    pub uncached: f64,
}

/// Times from killing the master to the next lock acquired.
#[derive(Debug, Clone, Serialize)]
pub struct FailOver {
    /// Each, in milliseconds.
    pub all_ms: Vec<f64>,
    /// Their median.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
}

/// Everything measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Machine and sizes, in words.
    pub about: BTreeMap<&'static str, String>,
    /// Workloads.
    pub rows: Vec<Row>,
    /// Lock calls.
    pub acquires: Option<Acquires>,
    /// Fail-over.
    pub fail_over: Option<FailOver>,
}

/// The middle one (the lower of two).
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

impl From<Vec<f64>> for Series {
    fn from(all: Vec<f64>) -> Series {
        Series { median: median(&all), all }
    }
}

impl From<Vec<f64>> for FailOver {
    fn from(all_ms: Vec<f64>) -> FailOver {
        let worst_ms = all_ms.iter().copied().fold(0.0, f64::max);
        FailOver { median_ms: median(&all_ms), worst_ms, all_ms }
    }
}

/// Puts the repetitions on the mount and on the plain directory side by side; both hold the same workloads.
pub fn rows(mount: &[Vec<Rate>], plain: &[Vec<Rate>]) -> Vec<Row> {
    let series =
        |of: &[Vec<Rate>], i: usize| Series::from(of.iter().map(|rates| rates[i].value).collect::<Vec<_>>());
    let first = mount.first().map(Vec::as_slice).unwrap_or_default();
    let row = |(i, rate): (usize, &Rate)| {
        let (mount, plain) = (series(mount, i), series(plain, i));
        let ratio = mount.median / plain.median;
        Row { name: rate.name.into(), unit: rate.unit.into(), mount, plain, ratio }
    };
    first.iter().enumerate().map(row).collect()
}

impl Report {
    /// The table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.about {
            text += &format!("{what}: {value}\n");
        }
        text += &format!("\n{:<26} {:>12} {:>12} {:>7}\n", "workload", "on the mount", "plain ext4", "ratio");
        for row in &self.rows {
            let (mount, plain) = (number(row.mount.median), number(row.plain.median));
            let name = format!("{} ({})", row.name, row.unit);
            text += &format!("{name:<31} {mount:>7} {plain:>12} {:>7.2}\n", row.ratio);
        }
        if let Some(Acquires { files, cached, uncached }) = self.acquires {
            text += &format!(
                "\nacquire calls per created file ({files} files): {cached:.4} with caching, {uncached:.2} without ({:.0} times fewer)\n",
                uncached / cached.max(1.0 / files as f64)
            );
        }
        if let Some(f) = &self.fail_over {
            let (n, median, worst) = (f.all_ms.len(), f.median_ms, f.worst_ms);
            text += &format!(
                "from killing the master to the next acquire ({n} times): median {median:.0} ms, worst {worst:.0} ms\n"
            );
        }
        text
    }
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format!("{:.0}", value) } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.0);
        let rates = |value| vec![Rate { name: "create", unit: "op/s", value }];
        let rows = rows(&[rates(1.0), rates(3.0), rates(2.0)], &[rates(8.0)]);
        assert_eq!((rows[0].mount.median, rows[0].plain.median, rows[0].ratio), (2.0, 8.0, 0.25));
        let report = Report { rows, fail_over: Some(vec![5.0, 9.0, 7.0].into()), ..Report::default() };
        let table = report.table();
        assert!(table.contains("create (op/s)") && table.contains("0.25"), "{table}");
        assert!(table.contains("median 7 ms, worst 9 ms"), "{table}");
    }
}
