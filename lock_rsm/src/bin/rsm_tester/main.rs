//! `rsm_tester [TEST…]`: runs the lock service as real processes, does harm to them, and checks what they make of it.
//! `rsm_tester ADDR breakpoint N` and `rsm_tester ADDR partition 0|1` do harm by hand.
//!
//! Prints the labs' lines; the processes' own output goes to files in the directory of the test. Besides what `lock_tester`
//! says, every test checks the members and their order, view after view, that all replicas committed the same entries and
//! have the same state, and that no view had two masters. `docs/rsm_tester.md` describes each test.

mod catalogue;
mod checks;
mod failure;
mod group;
mod history;
mod membership;
mod ports;
mod process;
mod random;
mod scene;
mod seed;
mod server;
mod service;
mod tester;
mod views;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use catalogue::Test;
use clap::{Parser, ValueEnum};
use failure::Failure;
use group::{Group, Setup};
use lock_rsm::programs;
use lock_rsm::rsm::test_port;
use random::Random;
use scene::Scene;

const NAME: &str = "rsm_tester";

const USAGE: &str = "rsm_tester [OPTIONS] [TEST]...
       rsm_tester ADDR breakpoint 0..4
       rsm_tester ADDR partition 0|1";

const TESTS: &str = "Tests:
  1 to 4      the lab of 2007: lock_tester runs while a slave or the master dies, or a third replica joins
  100 to 107  the later labs' 0 to 7: who the members are while servers die and come back
  108 to 116  the later labs' 8 to 16: lock_tester runs while servers die, come back, and are cut off
  0, 5 to 16  100, 105 to 116 for short; the later labs' 1 to 4 are 101 to 104
  8-16        ranges of numbers; seed: 1 to 4; later: 100 to 116; all

By hand, where ADDR is what a server was given as --test-port:
  breakpoint  the server dies at 1: a command, 2: a committed view, 3: proposing a view, 4: a view accepted; 0: no more
  partition   0: the server is cut off at the next command; 1: that is repaired";

/// The labs' tests of the replicated lock service.
#[derive(Parser)]
#[command(name = NAME, version, override_usage = USAGE, after_help = TESTS)]
struct Args {
    /// The tests to run, by number [default: seed]
    #[arg(value_name = "TEST")]
    words: Vec<String>,
    /// Where logs and data go, a directory for each test [default: a new one, kept only if the test fails]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where lock_server and lock_tester are [default: beside this program]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Seed of what is random; printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// When a replica is killed while lock_tester runs
    #[arg(long, value_enum, default_value_t = KillAt::Busy)]
    kill_at: KillAt,
    /// How a replica is killed
    #[arg(long, value_enum, default_value_t = KillBy::Kill)]
    kill_by: KillBy,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KillAt {
    /// As soon as the clients compete for a lock
    Busy,
    /// At a random moment after that
    Random,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KillBy {
    /// SIGKILL: as a crash
    Kill,
    /// SIGTERM: it hands mastership over first
    Term,
}

fn main() -> ExitCode {
    programs::run(NAME, start(Args::parse()))
}

async fn start(args: Args) -> Result<(), Failure> {
    if let [address, what, argument] = args.words.as_slice()
        && matches!(what.as_str(), "breakpoint" | "partition")
    {
        return by_hand(address, what, argument).await;
    }
    let tests = if args.words.is_empty() { Test::seed() } else { Test::named(&args.words)? };
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => beside_this_program()?,
    };
    let seed = args.seed.unwrap_or_else(random::fresh_seed);
    if args.kill_at == KillAt::Random {
        println!("seed: {seed}");
    }
    tokio::select! {
        all = run_all(&tests, &args, &bin_dir, seed) => all,
        stopped = programs::told_to_stop() => {
            stopped.map_err(|error| Failure::new(format!("cannot wait for signals: {error}")))?;
            Err(Failure::new("interrupted"))
        }
    }
}

/// The labs' helper: orders for one server, given to its test port.
async fn by_hand(address: &str, what: &str, argument: &str) -> Result<(), Failure> {
    let address = rpc::addr::parse(address).map_err(|error| Failure::new(error.to_string()))?;
    let no_server = |error| Failure::new(format!("the test port at {address} does not take that: {error}"));
    match (what, argument.parse::<u32>()) {
        ("breakpoint", Ok(number @ 0..=test_port::BREAKPOINT_LAST)) => {
            let returned = test_port::arm_breakpoint(&address, number).await.map_err(no_server)?;
            println!("breakpoint {number} returned {returned}");
        }
        ("partition", Ok(heal @ 0..=1)) => {
            let returned = test_port::net_repair(&address, heal == 1).await.map_err(no_server)?;
            println!("net_repair returned {returned}");
        }
        ("breakpoint", _) => {
            let last = test_port::BREAKPOINT_LAST;
            return Err(Failure::new(format!("there is no breakpoint {argument}; there are 1 to {last}")));
        }
        _ => {
            return Err(Failure::new(format!(
                "partition {argument} means nothing; give 0 to cut, 1 to heal"
            )));
        }
    }
    Ok(())
}

async fn run_all(tests: &[Test], args: &Args, bin_dir: &Path, seed: u64) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (turn, &test) in tests.iter().enumerate() {
        println!("{}", test.title());
        let random = Random::new(seed.wrapping_add(turn as u64));
        if let Err(failure) = in_directory(test, args, bin_dir, random).await {
            println!("test{} failed: {failure}", test.number());
            failed.push(test.number().to_string());
        }
    }
    if !failed.is_empty() {
        return Err(Failure::new(format!("failed: {}", failed.join(" "))));
    }
    // As the labs' own scripts ended.
    let later = tests.iter().any(|test| !test.is_seed());
    println!("{}", if later { "tests done OK" } else { "tests done" });
    Ok(())
}

/// Runs a test in a directory of its own, which is kept if it was asked for or the test fails.
async fn in_directory(test: Test, args: &Args, bin_dir: &Path, random: Random) -> Result<(), Failure> {
    if let Some(dir) = &args.dir {
        let dir = dir.join(format!("test{}", test.number()));
        std::fs::create_dir_all(&dir).map_err(|error| Failure::cannot("create", &dir, &error))?;
        return run(test, args, bin_dir, &dir, random).await;
    }
    let scratch = tempfile::Builder::new().prefix("rsm_tester-").tempdir();
    let scratch = scratch.map_err(|error| Failure::new(format!("cannot create a directory: {error}")))?;
    let result = run(test, args, bin_dir, scratch.path(), random).await;
    result.map_err(|failure| Failure::new(format!("{failure}; its logs are in {}", scratch.keep().display())))
}

async fn run(test: Test, args: &Args, bin_dir: &Path, dir: &Path, mut random: Random) -> Result<(), Failure> {
    let group = Group::new(Setup {
        bin_dir: bin_dir.to_owned(),
        dir: dir.to_owned(),
        seed: random.next() ^ random::fresh_seed(),
        servers: test.servers(),
        listed: test.listed(),
        removes: test.removes(),
        as_in_2007: test.is_seed(),
        gently: args.kill_by == KillBy::Term,
    })?;
    test.run(&mut Scene { group, random, at_random: args.kill_at == KillAt::Random }).await
}

fn beside_this_program() -> Result<PathBuf, Failure> {
    let me = std::env::current_exe().ok();
    me.and_then(|me| me.parent().map(PathBuf::from))
        .ok_or_else(|| Failure::new("cannot find the directory of this program; give --bin-dir"))
}
