//! `rsm_tester [1 2 3 …]`: runs the lock service as three real processes under `lock_tester`, and kills one of them.
//!
//! * 1: no failure. 2: a slave is killed while the tester runs. 3: the master is killed.
//!
//! Prints the labs' lines; the processes' own output goes to `lock_server-MASTER ME.out` and `lock_tester-MASTER.out` in the
//! directory of the test. Besides what `lock_tester` says, the surviving replicas must agree in the end: the same view, the
//! same state.

mod checks;
mod failure;
mod group;
mod runs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use failure::Failure;
use lock_rsm::programs;
use runs::{Kill, Run};

const NAME: &str = "rsm_tester";

/// The labs' tests of the replicated lock service.
#[derive(Parser)]
#[command(name = NAME, version)]
struct Args {
    /// The tests to run [default: 1 2 3]
    tests: Vec<String>,
    /// Where logs and data go [default: a new directory for each test, kept only if it fails]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where lock_server and lock_tester are [default: beside this program]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Seed of what is random; printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// When the replica is killed
    #[arg(long, value_enum, default_value_t = KillAt::Busy)]
    kill_at: KillAt,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KillAt {
    /// As soon as the clients compete for a lock
    Busy,
    /// At a random moment of the run
    Random,
}

fn main() -> ExitCode {
    programs::run(NAME, start(Args::parse()))
}

async fn start(args: Args) -> Result<(), Failure> {
    let tests: Vec<Test> = match args.tests.as_slice() {
        [] => vec![Test::NoFailure, Test::KillSlave, Test::KillMaster],
        names => names.iter().map(|name| Test::named(name)).collect::<Result<_, _>>()?,
    };
    let bin_dir = match &args.bin_dir {
        Some(dir) => dir.clone(),
        None => beside_this_program()?,
    };
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()) ^ runs::clock_bits());
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

async fn run_all(tests: &[Test], args: &Args, bin_dir: &std::path::Path, seed: u64) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for (turn, test) in tests.iter().enumerate() {
        println!("{}", test.title());
        let run = Run {
            kill: test.kill(),
            at_random: (args.kill_at == KillAt::Random).then_some(seed.wrapping_add(turn as u64)),
            bin_dir: bin_dir.to_owned(),
        };
        if let Err(failure) = runs::in_directory(args.dir.as_deref(), &run).await {
            println!("test{} failed: {failure}", test.number());
            failed.push(test.number().to_string());
        }
    }
    if failed.is_empty() {
        println!("tests done");
        return Ok(());
    }
    Err(Failure::new(format!("failed: {}", failed.join(" "))))
}

fn beside_this_program() -> Result<PathBuf, Failure> {
    let me = std::env::current_exe().ok();
    me.and_then(|me| me.parent().map(PathBuf::from))
        .ok_or_else(|| Failure::new("cannot find the directory of this program; give --bin-dir"))
}

#[derive(Clone, Copy)]
enum Test {
    NoFailure,
    KillSlave,
    KillMaster,
}

impl Test {
    fn named(name: &str) -> Result<Test, Failure> {
        match name {
            "1" => Ok(Test::NoFailure),
            "2" => Ok(Test::KillSlave),
            "3" => Ok(Test::KillMaster),
            _ => Err(Failure::new(format!("there is no test {name}; there are 1, 2 and 3"))),
        }
    }

    fn number(self) -> u32 {
        match self {
            Test::NoFailure => 1,
            Test::KillSlave => 2,
            Test::KillMaster => 3,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Test::NoFailure => "test1: start 3-process replicated state machine, run lock_tester",
            Test::KillSlave => "test2: start 3-process rsm, kill slave while tester is running",
            Test::KillMaster => "test3: start 3-process rsm, kill master while tester is running",
        }
    }

    fn kill(self) -> Option<Kill> {
        match self {
            Test::NoFailure => None,
            Test::KillSlave => Some(Kill::Slave),
            Test::KillMaster => Some(Kill::Master),
        }
    }
}
