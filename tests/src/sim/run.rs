//! One run: faults for a while, then none, and the group must heal, serve, and have kept everything it acknowledged.

use super::faults;
use super::network::Weather;
use super::setup::Setup;
use super::world::{Broken, Counts, World};
use lock_rsm::consensus::ReplicaId;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Everything that happened, as one number. The same seed gives the same.
    pub digest: u64,
    /// How much happened.
    pub counts: Counts,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "seed {seed}, at {at_ms} ms: {invariant}: {what}\n{state}\nto repeat it: cargo run -p yfs_tests --bin yfs_sim -- rsm --seed {seed}"
)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// Virtual time.
    pub at_ms: u64,
    /// Which invariant.
    pub invariant: &'static str,
    /// How it was broken.
    pub what: String,
    /// How everything stood then.
    pub state: String,
}

/// The group must be even and serve again within this after the faults ended, in virtual time.
const HEALED_WITHIN_MS: u64 = 30_000;

/// Runs a seed.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    run_as(Setup::of_seed(seed))
}

/// Runs what is described.
pub fn run_as(setup: Setup) -> Result<Report, Box<Failure>> {
    let seed = setup.seed;
    let mut world = World::new(setup).map_err(|broken| {
        let Broken { invariant, what } = broken;
        Box::new(Failure { seed, at_ms: 0, invariant, what, state: String::new() })
    })?;
    // The product's own assertions are invariants too.
    let ran = catch_unwind(AssertUnwindSafe(|| phases(&mut world)));
    let ran =
        ran.unwrap_or_else(|panic| Err(Broken { invariant: "no assertion fails", what: text(&*panic) }));
    match ran {
        Ok(()) => Ok(Report { seed, digest: world.digest(), counts: world.counts }),
        Err(Broken { invariant, what }) => {
            let (at_ms, state) = (world.now_ms, world.describe());
            Err(Box::new(Failure { seed, at_ms, invariant, what, state }))
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
}

fn phases(world: &mut World) -> Result<(), Broken> {
    while world.now_ms < world.setup.faults_ms {
        let pause_ms = 1 + world.below(world.setup.faults.every_ms_max);
        run_for(world, pause_ms)?;
        faults::moment(world)?;
    }
    heal(world)
}

fn run_for(world: &mut World, ms: u64) -> Result<(), Broken> {
    let until_ms = world.now_ms + ms;
    while world.now_ms < until_ms {
        world.step()?;
    }
    Ok(())
}

/// All faults end. Every request must be answered, a new one too, the replicas become even, and all that the clients were
/// answered has an explanation.
fn heal(world: &mut World) -> Result<(), Broken> {
    world.network.heal();
    world.network.weather = Weather::FAIR;
    for id in world.ids() {
        let node = world.node(id);
        node.paused_until_ms = 0;
        node.disk_ms_max = 3;
        node.queue.fails = false;
        world.start(id)?;
    }
    let until_ms = world.now_ms + HEALED_WITHIN_MS;
    let served_before = world.counts.acknowledged;
    while world.counts.acknowledged < served_before + 3 {
        in_time(world, until_ms, "no request is served")?;
    }
    world.clients.iter_mut().for_each(|client| client.is_done = true);
    while !world.clients.iter().all(|client| client.is_idle()) {
        in_time(world, until_ms, "a request is not answered")?;
    }
    let members = loop {
        match even_members(world) {
            Some(members) => break members,
            None => in_time(world, until_ms, "the replicas do not become even")?,
        }
    };
    world.see_end(&members)?;
    world.see_histories()
}

fn in_time(world: &mut World, until_ms: u64, what: &str) -> Result<(), Broken> {
    if world.now_ms > until_ms {
        let what = format!("{what} within {HEALED_WITHIN_MS} ms after the faults ended");
        return Err(Broken { invariant: "the group heals", what });
    }
    // Who was about to stop when the faults ended is started again.
    world.ids().into_iter().try_for_each(|id| world.start(id))?;
    run_for(world, 20)
}

/// The members of the group, once all have applied everything that the master has.
fn even_members(world: &World) -> Option<Vec<ReplicaId>> {
    let core = world.nodes[&world.master()?].core()?;
    let members: Vec<_> = core.membership().members.iter().map(|member| member.id).collect();
    let applied = |id| world.nodes.get(&id)?.process.as_ref().map(|process| process.program.applied());
    members.iter().all(|&id| applied(id) == Some(core.last())).then_some(members)
}
