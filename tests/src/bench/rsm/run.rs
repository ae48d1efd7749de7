//! The whole comparison.

use super::group::{Group, Program};
use super::peers::{Figures, Folder, PEERS};
use super::report::{Ours, PUTS, RsmReport};
use super::{RsmBenchError, fail_over, locks, million, puts};
use crate::binaries::Binaries;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Rounds over all systems.
    pub rounds: usize,
    /// Seconds of each loop.
    pub seconds: f64,
    /// Times the master is killed.
    pub fail_overs: usize,
    /// Locks held at once; 0 leaves it out.
    pub locks_held: u64,
}

impl Plan {
    /// For a record, or for a look.
    pub fn new(quick: bool) -> Plan {
        match quick {
            true => Plan { rounds: 1, seconds: 1.0, fail_overs: 3, locks_held: 100_000 },
            false => Plan { rounds: 3, seconds: 3.0, fail_overs: 30, locks_held: 1_000_000 },
        }
    }
}

/// Where and with what.
#[derive(Debug, Clone)]
pub struct Place {
    /// State of our replicas, on a disk made for this.
    pub dir: PathBuf,
    /// Our programs.
    pub binaries: Binaries,
    /// The peers, if they are wanted.
    pub peers: Option<Folder>,
}

/// Measures everything, `parts` of ours only if it names any.
pub async fn run(plan: &Plan, place: &Place, parts: &[String]) -> Result<RsmReport, RsmBenchError> {
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut report = RsmReport::default();
    about(&mut report, plan);
    if wanted("compare") {
        compare(&mut report, plan, place).await?;
    }
    if wanted("failover") {
        let dir = place.dir.join("fail-over");
        let progress = |i: usize, ms: f64| println!("fail-over {}: {ms:.0} ms", i + 1);
        report.fail_over = Some(fail_over::measure(&place.binaries, &dir, plan.fail_overs, progress).await?);
    }
    if wanted("million") && plan.locks_held > 0 {
        println!("{} locks", plan.locks_held);
        report.million =
            Some(million::measure(&place.binaries, &place.dir.join("million"), plan.locks_held).await?);
    }
    report.about.insert("load average at the end".into(), load_average());
    report.judge();
    Ok(report)
}

async fn compare(report: &mut RsmReport, plan: &Plan, place: &Place) -> Result<(), RsmBenchError> {
    let mut rounds = Vec::new();
    let mut theirs: BTreeMap<String, Vec<Figures>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        println!("round {round} of {}: ours", plan.rounds);
        rounds.push(ours(plan, place).await?);
        let Some(folder) = &place.peers else { continue };
        for peer in PEERS {
            println!("round {round} of {}: {peer}", plan.rounds);
            let figures = tokio::task::block_in_place(|| folder.measure(peer, plan.seconds))?;
            theirs.entry(peer.to_owned()).or_default().push(figures);
            if let Some(version) = folder.version(peer) {
                report.about.insert(peer.to_owned(), version);
            }
        }
    }
    report.fill(&rounds, &theirs);
    Ok(())
}

/// One round of ours, on replicas that are made for it.
async fn ours(plan: &Plan, place: &Place) -> Result<Ours, RsmBenchError> {
    let time = Duration::from_secs_f64(plan.seconds);
    let group = Group::start(Program::Registers, &place.binaries, &place.dir.join("registers")).await?;
    let mut measured = BTreeMap::new();
    for (name, clients) in PUTS {
        let (rate, cpu) = puts::measure(&group, clients, time).await?;
        println!(
            "  {name:<16} {:>9.0} op/s  p50 {:>7.0} p99 {:>7.0} µs  processor {:.1} + {:.1} µs",
            rate.rate, rate.p50_us, rate.p99_us, cpu.replicas_us, cpu.clients_us
        );
        measured.insert(name, (rate, cpu));
    }
    tokio::task::block_in_place(|| group.stop())?;
    let group = Group::start(Program::Locks, &place.binaries, &place.dir.join("locks")).await?;
    let locks = locks::measure(group.addresses(), time).await?;
    println!(
        "  lock first time {:.0}/s, given back {:.0}/s, cached {:.0} ns, hand-over {:.0}/s",
        locks.first.rate, locks.given_back.rate, locks.cached_ns, locks.hand_overs
    );
    tokio::task::block_in_place(|| group.stop())?;
    Ok(Ours { puts: measured, locks })
}

fn about(report: &mut RsmReport, plan: &Plan) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let mut note = |what: &str, value: String| drop(report.about.insert(what.to_owned(), value));
    note("machine", format!("Linux {}, {cpus} CPUs", read("/proc/sys/kernel/osrelease")));
    note("load average at the start", load_average());
    note("rounds", format!("{} of {} s a loop, medians", plan.rounds, plan.seconds));
    note("systems", "three replicas each on this machine, every answer durable on a majority".into());
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
