//! One run: faults for a while, then none, and everybody must work again, with everything that was promised there.

use super::clock;
use super::faults;
use super::invariants::{PANICS, acknowledged, consistent, linearizable, live, replicas};
use super::record::{Broken, Counts};
use super::setup::Setup;
use super::world::World;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Everything that happened, as one number. The same seed gives the same.
    pub digest: u64,
    /// How much happened.
    pub counts: Counts,
    /// How long it took in virtual time.
    pub virtual_ms: u64,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "seed {seed}, at {at_ms} ms: {invariant}: {what}\n{counts:?}\nto repeat it: cargo run -p yfs_tests --bin yfs_stack -- --seed {seed}"
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
    /// What had happened by then.
    pub counts: Counts,
}

/// The store is looked at this often.
const LOOK_EVERY_MS: u64 = 500;

/// Runs a seed, in a thread of its own.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    run_as(Setup::of_seed(seed))
}

/// Runs what is described, in a thread of its own.
pub fn run_as(setup: Setup) -> Result<Report, Box<Failure>> {
    run_with(setup, || {})
}

/// As [`run_as`], while what `prepare` gave lives in the same thread.
pub fn run_with<T>(
    setup: Setup,
    prepare: impl FnOnce() -> T + Send + 'static,
) -> Result<Report, Box<Failure>> {
    let simulation = move || {
        let _prepared = prepare();
        let _simulated = clock::simulate(setup.seed);
        simulate(setup)
    };
    // The operations of four mounts are deep in debug builds.
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(simulation);
    let thread = thread.expect("the system has a thread for the simulation");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn simulate(setup: Setup) -> Result<Report, Box<Failure>> {
    let seed = setup.seed;
    watch_panics();
    let mut world = World::new(setup);
    // The product's own assertions are invariants too.
    let ran = catch_unwind(AssertUnwindSafe(|| phases(&mut world)));
    let ran = match (panicked(), ran) {
        (Some(what), _) => Err(Broken { invariant: PANICS, what }),
        (None, Ok(ran)) => ran,
        (None, Err(_)) => Err(Broken { invariant: PANICS, what: "somewhere".into() }),
    };
    let (counts, virtual_ms) = (counts(&world), world.now_ms);
    match ran {
        Ok(()) => Ok(Report { seed, digest: world.record.digest(), counts, virtual_ms }),
        Err(Broken { invariant, what }) => {
            Err(Box::new(Failure { seed, at_ms: virtual_ms, invariant, what, counts }))
        }
    }
}

fn counts(world: &World) -> Counts {
    let (_, broken) = world.network.counts();
    Counts { broken, commits: world.store.commits(), ..world.record.counts() }
}

fn phases(world: &mut World) -> Result<(), Broken> {
    while world.now_ms < world.setup.faults_ms {
        let pause_ms = 1 + world.below(world.setup.faults.every_ms_max);
        run_for(world, pause_ms)?;
        faults::moment(world);
    }
    world.heal();
    all_work(world)?;
    world.stop_clients();
    let clients = world.clients();
    until(world, live::NAME, "a client does not flush", |world| world.have_stopped(&clients))?;
    let auditor = world.audit();
    until(world, live::NAME, "a new mount cannot read everything", |world| world.have_stopped(&[auditor]))?;
    let mut unequal = None;
    until(world, replicas::NAME, "the lock replicas differ", |world| {
        replicas::are_even(&world.record).unwrap_or_else(|broken| {
            unequal = Some(broken);
            true
        })
    })?;
    unequal.map_or(Ok(()), Err)?;
    acknowledged::verify(&world.record)?;
    linearizable::verify(&world.record)
}

/// Every client completes operations.
fn all_work(world: &mut World) -> Result<(), Broken> {
    let clients = world.clients();
    world.record.reset_done();
    until(world, live::NAME, "a client does not complete operations", |world| {
        let mounted = clients.iter().map(|host| world.record.client_on(*host));
        let mut done = mounted.map(|client| client.map_or(0, |client| world.record.done(client)));
        done.all(|done| done >= live::OPERATIONS)
    })
}

fn run_for(world: &mut World, ms: u64) -> Result<(), Broken> {
    let until_ms = world.now_ms + ms;
    while world.now_ms < until_ms {
        world.tick();
        if world.now_ms.is_multiple_of(LOOK_EVERY_MS) {
            consistent::verify(world.store.disk())?;
        }
        world.record.verdict()?;
        if let Some(what) = panicked() {
            return Err(Broken { invariant: PANICS, what });
        }
    }
    Ok(())
}

fn until(
    world: &mut World,
    invariant: &'static str,
    otherwise: &str,
    mut holds: impl FnMut(&World) -> bool,
) -> Result<(), Broken> {
    let latest_ms = world.now_ms + live::WITHIN_MS;
    while !holds(world) {
        if world.now_ms > latest_ms {
            let what = format!("{otherwise} within {} ms", live::WITHIN_MS);
            return Err(Broken { invariant, what });
        }
        run_for(world, 20)?;
    }
    Ok(())
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The first panic of this thread is remembered: the runtime, and the product, survive some.
fn watch_panics() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANIC.with_borrow_mut(|panic| {
                panic.get_or_insert_with(|| info.to_string());
            });
            before(info);
        }));
    });
}

fn panicked() -> Option<String> {
    PANIC.with_borrow(Clone::clone)
}
