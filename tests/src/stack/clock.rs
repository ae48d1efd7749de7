//! Virtual time and seeded randomness for everything in this thread, real libraries included.
//!
//! The products read clocks and randomness where they need them: `Instant::now` in the RPC layer, `CLOCK_BOOTTIME` under
//! leases, `getrandom` for nonces, the standard library for the order of its hash maps. All of that ends in two functions of
//! the C library. A program that simulates has its own (`shim.rs`, which asks here); any other thread, and any program
//! without the shim, goes on with the real ones.

use std::cell::Cell;
use std::time::Instant;

/// What the clocks say when a simulation begins. Early, so that no real deadline made of it is in the future.
const BEGIN_NS: u64 = 10_000_000_000;
/// The same moment on the wall clock.
const BEGIN_WALL_NS: u64 = 1_800_000_000_000_000_000;

#[derive(Clone, Copy)]
struct Simulated {
    begin: Option<Instant>,
    world_ns: u64,
    /// A host's runtime runs, and its clock counts.
    in_host: bool,
}

thread_local! {
    static TIME: Cell<Option<Simulated>> = const { Cell::new(None) };
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// While it lives this thread's time and randomness are simulated.
#[derive(Debug)]
pub struct Simulation(());

/// Begins to simulate in this thread, which should be a fresh one: a thread's hash maps are seeded once.
///
/// # Panics
/// In a program without the shim.
pub fn simulate(seed: u64) -> Simulation {
    RANDOM.set(Some(seed));
    TIME.set(Some(Simulated { begin: None, world_ns: BEGIN_NS, in_host: false }));
    let begin = Instant::now();
    set_world_ms(1);
    let step = begin.elapsed().as_nanos();
    assert_eq!(step, 1_000_000, "the program that simulates must include stack/shim.rs");
    TIME.set(Some(Simulated { begin: Some(begin), world_ns: BEGIN_NS, in_host: false }));
    Simulation(())
}

impl Drop for Simulation {
    fn drop(&mut self) {
        TIME.set(None);
        RANDOM.set(None);
    }
}

/// Sets the time outside of hosts.
pub fn set_world_ms(ms: u64) {
    let Some(simulated) = TIME.get() else { return };
    TIME.set(Some(Simulated { world_ns: BEGIN_NS + ms * 1_000_000, ..simulated }));
}

/// While it lives the clock of the runtime that runs is the clock.
pub(super) struct InHost(());

/// A host begins to run.
pub(super) fn enter_host() -> InHost {
    TIME.set(TIME.get().map(|simulated| Simulated { in_host: true, ..simulated }));
    InHost(())
}

impl Drop for InHost {
    fn drop(&mut self) {
        TIME.set(TIME.get().map(|simulated| Simulated { in_host: false, ..simulated }));
    }
}

fn now_ns() -> Option<u64> {
    let simulated = TIME.get()?;
    let (true, Some(begin)) = (simulated.in_host, simulated.begin) else { return Some(simulated.world_ns) };
    // The runtime has its clock from here when it is made, and would come back here if there were none.
    TIME.set(Some(Simulated { in_host: false, ..simulated }));
    let passed = tokio::time::Instant::now().into_std().saturating_duration_since(begin);
    TIME.set(Some(simulated));
    Some(BEGIN_NS + u64::try_from(passed.as_nanos()).ok()?)
}

/// What a clock of the C library says, if it is simulated: nanoseconds.
pub fn reading(clock: libc::clockid_t) -> Option<u64> {
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(now_ns()? - BEGIN_NS + BEGIN_WALL_NS),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_BOOTTIME => now_ns(),
        _ => None,
    }
}

/// Fills `bytes` if randomness is simulated.
pub fn fill(bytes: &mut [u8]) -> bool {
    let Some(state) = RANDOM.get() else { return false };
    let mut rng = crate::rng::Rng::new(state);
    for byte in bytes.iter_mut() {
        *byte = rng.next_u64() as u8;
    }
    RANDOM.set(Some(rng.next_u64()));
    true
}
