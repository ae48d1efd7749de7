//! Clusters under random faults: whatever happens, the invariants hold, and afterwards the cluster gets on.
//!
//! A failing run prints its seed; `YFS_SEED=N cargo nextest run -p lock_rsm consensus::tests::random` repeats
//! just that one. `YFS_SEEDS=N` runs that many instead of the usual number.

use super::cluster::Cluster;
use super::network::Weather;
use super::setup::{Setup, member};
use crate::consensus::{Membership, ReplicaId};

/// What may happen in a run.
#[derive(Clone, Copy)]
pub(super) struct Faults {
    pub(super) membership: bool,
    pub(super) hand_over: bool,
    pub(super) pauses: bool,
}

/// Says which seed it was when a check fails.
struct SeedNote(u64);

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}; set YFS_SEED={} to run only that", self.0, self.0);
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(count: u64) -> Vec<u64> {
    match variable("YFS_SEED") {
        Some(seed) => vec![seed],
        None => (1..=variable("YFS_SEEDS").unwrap_or(count)).collect(),
    }
}

/// One run: `ms` of faults, then recovery.
pub(super) fn run(setup: Setup, faults: Faults, ms: u64) -> Cluster {
    let mut cluster = Cluster::new(setup);
    while cluster.now_ms < ms {
        let pause = 1 + cluster.rng.below(20);
        cluster.run_for(pause);
        act(&mut cluster, faults);
    }
    cluster
}

fn act(cluster: &mut Cluster, faults: Faults) {
    let ids = cluster.ids();
    let id = pick(cluster, &ids);
    // Some runs are after the master in particular.
    let malice = cluster.setup.seed % 4 * 15;
    if cluster.rng.below(1000) < malice
        && let Some(master) = cluster.master()
    {
        return harm(cluster, master, &ids, faults);
    }
    match cluster.rng.below(1000) {
        0..500 => {
            let count = 1 + cluster.rng.below(6);
            let to = cluster.master().unwrap_or(id);
            cluster.propose(to, count);
        }
        500..700 => {
            let at = if cluster.rng.below(4) == 0 { id } else { cluster.master().unwrap_or(id) };
            cluster.read(at);
        }
        700..720 => cluster.crash(id),
        720..780 => cluster.start(id),
        780..790 => cut_off_some(cluster, &ids),
        790..800 => {
            let other = pick(cluster, &ids);
            cluster.network.blocked.insert((id, other));
        }
        800..840 => cluster.network.heal(),
        840..880 => cluster.snapshot(id),
        880..890 if faults.pauses => {
            let ms = 50 + cluster.rng.below(500);
            cluster.pause(id, ms);
        }
        890..900 if faults.hand_over => drop(cluster.input(id, |core, now_ms| core.hand_over(now_ms))),
        900..920 => cluster.setup.disk_ms_max = [1, 5, 30, 120][below(cluster, 4)],
        920..940 => cluster.network.weather = [Weather::FAIR, Weather::ROUGH][below(cluster, 2)].clone(),
        940..980 if faults.membership => change_membership(cluster, &ids),
        _ => {}
    }
}

fn harm(cluster: &mut Cluster, master: ReplicaId, ids: &[ReplicaId], faults: Faults) {
    match cluster.rng.below(4) {
        0 => cluster.crash(master),
        1 if faults.pauses => cluster.pause(master, 400),
        // With one friend it may go on appending what it can never commit.
        _ => {
            let friend = pick(cluster, ids);
            cluster.network.cut_off(&[master, friend].into(), ids);
        }
    }
}

fn below(cluster: &mut Cluster, bound: usize) -> usize {
    usize::try_from(cluster.rng.below(bound as u64)).expect("small")
}

fn pick(cluster: &mut Cluster, ids: &[ReplicaId]) -> ReplicaId {
    ids[below(cluster, ids.len())]
}

fn cut_off_some(cluster: &mut Cluster, ids: &[ReplicaId]) {
    let some = ids.iter().copied().filter(|_| cluster.rng.below(2) == 0).collect();
    cluster.network.cut_off(&some, ids);
}

/// Adds, promotes, demotes or removes one replica, at the master or at somebody who will refuse.
fn change_membership(cluster: &mut Cluster, ids: &[ReplicaId]) {
    let (changed, fallback) = (pick(cluster, ids), pick(cluster, ids));
    let at = cluster.master().unwrap_or(fallback);
    let Some(core) = cluster.replicas[&at].core.as_ref() else { return };
    let before = core.membership().clone();
    let mut members: Vec<_> = before.members.iter().filter(|member| member.id != changed).cloned().collect();
    match before.get(changed).map(|member| member.voter) {
        None => members.push(member(changed, false)),
        Some(voter) if cluster.rng.below(2) == 0 => members.push(member(changed, !voter)),
        Some(_) => {}
    }
    cluster.input(at, |core, now_ms| core.propose_membership(now_ms, Membership::of(members)));
}

fn runs(count: u64, faults: Faults, ms: u64, setup: impl Fn(u64) -> Setup) {
    let (mut views, mut committed, mut reads, mut snapshots) = (0, 0, 0, 0);
    let seeds = seeds(count);
    for &seed in &seeds {
        let _note = SeedNote(seed);
        let mut cluster = run(setup(seed), faults, ms);
        cluster.recover();
        views += cluster.checker.views() as u64;
        committed += cluster.checker.committed_seq();
        reads += cluster.checker.reads_confirmed;
        snapshots += cluster.snapshots_installed;
    }
    let runs = seeds.len() as u64;
    println!(
        "{runs} runs: {views} views, {committed} committed, {reads} reads, {snapshots} snapshots installed"
    );
    if runs > 20 {
        let is_lively = views > 2 * runs && committed > 20 * runs && reads > runs && snapshots > 0;
        assert!(is_lively, "the runs exercise little");
    }
}

#[test]
fn three_replicas_survive_faults() {
    let faults = Faults { membership: false, hand_over: true, pauses: true };
    runs(150, faults, 3_000, |seed| Setup {
        weather: Weather::ROUGH,
        disk_ms_max: 20,
        skewed_clocks: true,
        check_lease: false,
        ..Setup::new(3, seed)
    });
}

#[test]
fn five_replicas_survive_faults() {
    let faults = Faults { membership: false, hand_over: true, pauses: true };
    runs(80, faults, 3_000, |seed| Setup {
        weather: Weather::ROUGH,
        disk_ms_max: 20,
        skewed_clocks: true,
        check_lease: false,
        ..Setup::new(5, seed)
    });
}

#[test]
fn a_changing_membership_survives_faults() {
    let faults = Faults { membership: true, hand_over: true, pauses: true };
    runs(100, faults, 3_000, |seed| Setup {
        spares: 2,
        weather: Weather::ROUGH,
        disk_ms_max: 20,
        skewed_clocks: true,
        check_lease: false,
        ..Setup::new(3, seed)
    });
}

/// With even clocks and nobody standing still, check-quorum is a lease: no two masters believe in their
/// quorum at a time.
#[test]
fn with_even_clocks_the_quorum_is_a_lease() {
    let faults = Faults { membership: false, hand_over: false, pauses: false };
    runs(80, faults, 3_000, |seed| Setup { weather: Weather::ROUGH, disk_ms_max: 20, ..Setup::new(3, seed) });
}
