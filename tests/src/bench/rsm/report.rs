//! The figures of all systems, side by side.

use super::fail_over::FailOvers;
use super::latency::Measured;
use super::locks::Locks;
use super::million::Held;
use super::peers::Figures;
use super::puts::CpuPerOp;
use crate::bench::report::{Series, median};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Our own rounds by name: what the peers call by the same names.
pub const PUTS: [(&str, usize); 3] = [("put_1", 1), ("put_16", 16), ("put_64", 64)];

/// One round of ours.
#[derive(Debug, Clone, Serialize)]
pub struct Ours {
    /// As in [`PUTS`].
    pub puts: BTreeMap<&'static str, (Measured, CpuPerOp)>,
    /// Locks.
    pub locks: Locks,
}

/// One workload of one system: all rounds, and the medians of the percentiles.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// Operations a second of each round.
    pub rate: Series,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
}

impl Cell {
    fn of(rounds: &[Measured]) -> Cell {
        let part = |which: fn(&Measured) -> f64| rounds.iter().map(which).collect::<Vec<_>>();
        Cell {
            rate: part(|m| m.rate).into(),
            p50_us: median(&part(|m| m.p50_us)),
            p99_us: median(&part(|m| m.p99_us)),
        }
    }

    fn of_rates(rates: Vec<f64>) -> Cell {
        Cell { rate: rates.into(), p50_us: f64::NAN, p99_us: f64::NAN }
    }
}

/// One workload of all systems.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Ours.
    pub ours: Cell,
    /// The peers', by name.
    pub peers: BTreeMap<String, Cell>,
    /// Ours by the faster of the peers, medians.
    pub ratio: Option<f64>,
}

/// A goal and whether it is met.
#[derive(Debug, Clone, Serialize)]
pub struct Goal {
    /// In words.
    pub goal: String,
    /// What was measured, in words.
    pub measured: String,
    /// Whether that is good enough.
    pub met: bool,
}

/// Everything measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RsmReport {
    /// Machine, versions, sizes, in words.
    pub about: BTreeMap<String, String>,
    /// Workloads.
    pub rows: Vec<Row>,
    /// Processor time of one of our puts, each round.
    pub cpu_per_put: BTreeMap<&'static str, Vec<CpuPerOp>>,
    /// A cached lock, acquired and released, each round, in nanoseconds.
    pub cached_ns: Option<Series>,
    /// How often two clients held a contended lock at once.
    pub exclusion_broken: u64,
    /// Fail-over.
    pub fail_over: Option<FailOvers>,
    /// Very many locks.
    pub million: Option<Held>,
    /// What the peers' callers complained of.
    pub peers_errors: Vec<String>,
    /// The goals.
    pub goals: Vec<Goal>,
}

impl RsmReport {
    /// Puts the rounds of ours and of the peers (by name) side by side.
    pub fn fill(&mut self, ours: &[Ours], peers: &BTreeMap<String, Vec<Figures>>) {
        for (name, _) in PUTS {
            let mine: Vec<Measured> = ours.iter().map(|round| round.puts[name].0).collect();
            self.cpu_per_put.insert(name, ours.iter().map(|round| round.puts[name].1).collect());
            self.rows.push(row(name, Cell::of(&mine), peers, |figures| figures.loads.get(name).copied()));
        }
        let lock = |which: fn(&Locks) -> Measured| {
            Cell::of(&ours.iter().map(|round| which(&round.locks)).collect::<Vec<_>>())
        };
        let theirs = |figures: &Figures| figures.loads.get("lock_1").copied();
        self.rows.push(row("lock first time", lock(|locks| locks.first), peers, theirs));
        self.rows.push(row("lock given back", lock(|locks| locks.given_back), peers, theirs));
        let mine = Cell::of_rates(ours.iter().map(|round| round.locks.hand_overs).collect());
        self.rows.push(row("hand-over", mine, peers, |figures| {
            let rate = figures.hand_overs?;
            Some(Measured { rate, p50_us: f64::NAN, p99_us: f64::NAN })
        }));
        self.cached_ns = Some(ours.iter().map(|round| round.locks.cached_ns).collect::<Vec<_>>().into());
        self.exclusion_broken = ours.iter().map(|round| round.locks.broken).sum();
        for (peer, rounds) in peers {
            let errors = rounds.iter().flat_map(|figures| &figures.errors);
            self.peers_errors.extend(errors.map(|error| format!("{peer}: {error}")));
        }
    }

    /// Compares with what was asked for.
    pub fn judge(&mut self) {
        let mut goals = Vec::new();
        for (name, wanted) in [("put_1", 1.0), ("put_16", 3.0), ("put_64", 3.0), ("hand-over", 2.0)] {
            let Some(ratio) = self.rows.iter().find(|row| row.name == name).and_then(|row| row.ratio) else {
                continue;
            };
            let goal = format!("{name}: at least {wanted} times the faster peer");
            goals.push(Goal { goal, measured: format!("{ratio:.2} times"), met: ratio >= wanted });
        }
        if let Some(cached) = &self.cached_ns {
            let goal = "a cached lock: acquired and released in less than 1 µs".into();
            let ns = cached.median;
            goals.push(Goal { goal, measured: format!("{ns:.0} ns"), met: ns < 1000.0 });
        }
        if let Some(f) = &self.fail_over {
            let goal = "fail-over: median below 500 ms, worst below 1500 ms, no error".into();
            let measured =
                format!("median {:.0} ms, worst {:.0} ms, {} errors", f.median_ms, f.worst_ms, f.errors);
            goals.push(Goal {
                goal,
                measured,
                met: f.median_ms < 500.0 && f.worst_ms < 1500.0 && f.errors == 0,
            });
        }
        if let Some(held) = &self.million {
            let most = held.peak_mb.iter().copied().fold(0.0, f64::max);
            let goal = format!("{} locks held: below 512 MB a replica", held.locks);
            let measured = format!("{most:.0} MB at most");
            goals.push(Goal { goal, measured, met: most < 512.0 });
        }
        self.goals = goals;
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.about {
            let _ = writeln!(text, "{what}: {value}"); // a string takes everything
        }
        let names: Vec<&String> = self.rows.first().map(|row| row.peers.keys().collect()).unwrap_or_default();
        let _ = write!(text, "\n{:<18}{:>34}", "op/s, p50/p99 µs", "ours");
        for name in &names {
            let _ = write!(text, "{name:>34}");
        }
        let _ = writeln!(text, "{:>16}", if names.is_empty() { "" } else { "by the faster" });
        for row in &self.rows {
            let _ = write!(text, "{:<18}{:>34}", row.name, cell(&row.ours));
            for name in &names {
                let _ = write!(text, "{:>34}", row.peers.get(*name).map(cell).unwrap_or_default());
            }
            let _ = writeln!(text, "{:>16}", row.ratio.map(|r| format!("{r:.2}")).unwrap_or_default());
        }
        text += &self.further();
        text
    }

    fn further(&self) -> String {
        let mut text = String::from("\n");
        for (name, rounds) in &self.cpu_per_put {
            let part = |which: fn(&CpuPerOp) -> f64| median(&rounds.iter().map(which).collect::<Vec<_>>());
            let (replicas, clients) = (part(|c| c.replicas_us), part(|c| c.clients_us));
            let _ = writeln!(
                text,
                "processor time of one of our puts, {name}: {replicas:.1} µs in the replicas, {clients:.1} µs in the clients"
            );
        }
        if let Some(held) = &self.million {
            let _ = writeln!(
                text,
                "{} locks held: acquired in {:.1} s, resident {:.0?} MB, at most {:.0?} MB; a restarted replica was level after {:.1} s",
                held.locks, held.seconds, held.resident_mb, held.peak_mb, held.restart_seconds
            );
        }
        if self.exclusion_broken > 0 {
            let _ = writeln!(text, "EXCLUSION WAS BROKEN {} times", self.exclusion_broken);
        }
        for error in &self.peers_errors {
            let _ = writeln!(text, "error of a peer: {error}");
        }
        for Goal { goal, measured, met } in &self.goals {
            let _ = writeln!(text, "{} {goal}: {measured}", if *met { "met   " } else { "MISSED" });
        }
        text
    }
}

fn row(
    name: &'static str,
    ours: Cell,
    peers: &BTreeMap<String, Vec<Figures>>,
    theirs: impl Fn(&Figures) -> Option<Measured>,
) -> Row {
    let peers: BTreeMap<String, Cell> = peers
        .iter()
        .map(|(peer, rounds)| (peer.clone(), rounds.iter().filter_map(&theirs).collect::<Vec<_>>()))
        .filter(|(_, rounds)| !rounds.is_empty())
        .map(|(peer, rounds)| (peer, Cell::of(&rounds)))
        .collect();
    let fastest = peers.values().map(|cell| cell.rate.median).max_by(f64::total_cmp);
    Row { name, ratio: fastest.map(|fastest| ours.rate.median / fastest), ours, peers }
}

fn cell(cell: &Cell) -> String {
    let rate = format!("{:.0}", cell.rate.median);
    if cell.p50_us.is_nan() { rate } else { format!("{rate}  {:.0}/{:.0}", cell.p50_us, cell.p99_us) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rate: f64) -> Measured {
        Measured { rate, p50_us: 10.0, p99_us: 20.0 }
    }

    fn ours(rate: f64) -> Ours {
        let cpu = CpuPerOp { replicas_us: 5.0, clients_us: 2.0 };
        let locks = Locks {
            first: measured(rate),
            given_back: measured(rate),
            cached_ns: 200.0,
            hand_overs: 1600.0,
            broken: 0,
        };
        Ours { puts: PUTS.iter().map(|(name, _)| (*name, (measured(rate), cpu))).collect(), locks }
    }

    fn theirs(rate: f64) -> Figures {
        let names = ["put_1", "put_16", "put_64", "lock_1"];
        let loads = names.iter().map(|name| ((*name).to_owned(), measured(rate))).collect();
        Figures { loads, hand_overs: Some(800.0), errors: vec!["late".into()] }
    }

    #[test]
    fn ratios_are_by_the_faster_peer() {
        let peers = BTreeMap::from([
            ("etcd3".to_owned(), vec![theirs(100.0), theirs(140.0), theirs(120.0)]),
            ("zookeeper3".to_owned(), vec![theirs(200.0)]),
        ]);
        let mut report = RsmReport::default();
        report.fill(&[ours(500.0), ours(700.0), ours(600.0)], &peers);
        report.judge();
        let put = report.rows.iter().find(|row| row.name == "put_16").unwrap();
        assert_eq!((put.ours.rate.median, put.peers["etcd3"].rate.median), (600.0, 120.0));
        assert_eq!(put.ratio, Some(3.0));
        assert!(report.goals.iter().all(|goal| goal.met), "{:?}", report.goals);
        let table = report.table();
        assert!(table.contains("600  10/20") && table.contains("3.00"), "{table}");
        assert!(table.contains("etcd3: late"), "{table}");
    }

    #[test]
    fn missed_goals_are_said() {
        let mut report = RsmReport::default();
        report.fill(&[ours(599.0)], &BTreeMap::from([("etcd3".to_owned(), vec![theirs(200.0)])]));
        report.judge();
        let missed: Vec<_> = report.goals.iter().filter(|goal| !goal.met).map(|goal| &goal.goal).collect();
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(report.table().contains("MISSED put_16"));
    }

    #[test]
    fn without_peers_there_are_no_ratios() {
        let mut report = RsmReport::default();
        report.fill(&[ours(500.0)], &BTreeMap::new());
        report.judge();
        assert!(report.rows.iter().all(|row| row.ratio.is_none()));
        assert_eq!(report.goals.len(), 1, "what needs no peer is judged");
    }
}
