//! Chaos on real processes and real mounts; see `yfs_tests::chaos`.

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use yfs_tests::binaries::Binaries;
use yfs_tests::chaos::{ChaosError, Plan, Record, Shape, run, schedule, warden};
use yfs_tests::rng::Rng;

/// Real lock replicas, extent server and mounts in network namespaces of their own, with everything going wrong that a
/// seed says. Takes root.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Each run gets a directory in this one, which is removed after success unless --keep. Default: TMPDIR.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run once, or for a while with other seeds.
    Run(Run),
    /// The run itself, watched by `run`.
    #[command(hide = true)]
    Inside(Run),
    /// Check the record of a run again.
    Check {
        /// The record.json it left.
        record: PathBuf,
    },
}

#[derive(Parser, Clone)]
struct Run {
    /// Repeats the faults of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// So long things go wrong.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Runs with other seeds, until so many minutes have passed.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// Lock replicas.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=5))]
    replicas: u64,
    /// Mounts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=8))]
    mounts: u64,
    /// Seconds for which a session lives without a sign of its client.
    #[arg(long, default_value_t = 3.0)]
    lease: f64,
    /// Where the programs are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Keeps the directory after success too.
    #[arg(long)]
    keep: bool,
    /// Names the run.
    #[arg(long, hide = true)]
    token: Option<String>,
}

impl Run {
    fn plan(&self, seed: u64) -> Plan {
        let (replicas, mounts) = (self.replicas as usize, self.mounts as usize);
        let shape = Shape { replicas, mounts, lease: Duration::from_secs_f64(self.lease) };
        // Longer than any fault: whoever keeps its session sees no error.
        let timeout = Duration::from_secs(60);
        Plan { seed, shape, time: Duration::from_secs(self.seconds), timeout }
    }
}

fn main() -> ExitCode {
    let Args { dir, what } = Args::parse();
    let dir = dir.unwrap_or_else(std::env::temp_dir);
    let result = match what {
        What::Run(args) => watch(&dir, &args),
        What::Inside(args) => inside(&dir, &args),
        What::Check { record } => {
            Record::read(&record).and_then(|record| record.check()).map(|verdict| println!("{verdict}"))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("yfs_chaos: {e}");
            ExitCode::FAILURE
        }
    }
}

fn watch(dir: &Path, args: &Run) -> Result<(), ChaosError> {
    let began = Instant::now();
    let mut seed = args.seed.unwrap_or_else(Rng::fresh_seed);
    loop {
        once(dir, args, seed)?;
        if began.elapsed() >= Duration::from_secs(60 * args.minutes) {
            println!("chaos: all passed");
            return Ok(());
        }
        seed += 1;
    }
}

/// One run, in a process that leaves nothing behind.
fn once(parent: &Path, args: &Run, seed: u64) -> Result<(), ChaosError> {
    let token = format!("chaos-{}", Rng::new(Rng::fresh_seed()).letters(10));
    let dir = parent.join(&token);
    let io = |source| ChaosError::Io { what: format!("making {}", dir.display()), source };
    std::fs::create_dir_all(&dir).map_err(io)?;
    let dir = dir.canonicalize().map_err(io)?;
    println!("chaos: seed {seed}, {} s, in {}", args.seconds, dir.display());
    let exe = std::env::current_exe().map_err(io)?;
    let mut command = Command::new(exe);
    command.arg("inside").arg("--dir").arg(&dir).arg("--token").arg(&token);
    command.args(["--seed", &seed.to_string(), "--seconds", &args.seconds.to_string()]);
    command.args(["--replicas", &args.replicas.to_string(), "--mounts", &args.mounts.to_string()]);
    command.args(["--lease", &args.lease.to_string()]);
    if let Some(bin_dir) = &args.bin_dir {
        command.arg("--bin-dir").arg(bin_dir);
    }
    let watched = warden::watch(command, &dir, &token);
    match &watched {
        Ok(Some(status)) if status.success() => {
            if !args.keep {
                std::fs::remove_dir_all(&dir).ok();
            }
            return Ok(());
        }
        Ok(None) => {
            std::fs::remove_dir_all(&dir).ok();
            eprintln!("yfs_chaos: interrupted");
            std::process::exit(130);
        }
        _ => {}
    }
    let again = format!(
        "the same faults again: yfs_chaos run --dir DIR --seed {seed} --seconds {} --replicas {} --mounts {} --lease {}",
        args.seconds, args.replicas, args.mounts, args.lease
    );
    let kept = format!("logs, schedule, histories and disks are kept in {}\n{again}", dir.display());
    match watched {
        Err(e) => Err(ChaosError::Wrong(format!("{e}\n{kept}"))),
        Ok(status) => Err(ChaosError::Wrong(format!("the run failed ({})\n{kept}", Shown(status)))),
    }
}

struct Shown(Option<std::process::ExitStatus>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |status| write!(f, "{status}"))
    }
}

fn inside(dir: &Path, args: &Run) -> Result<(), ChaosError> {
    warden::enter()?;
    let binaries = args.bin_dir.clone().map_or_else(Binaries::of_this_build, Binaries::in_dir);
    let plan = args.plan(args.seed.unwrap_or_default());
    write_schedule(dir, &plan)?;
    let verdict = run(&binaries, dir, &plan)?;
    println!("{verdict}");
    Ok(())
}

fn write_schedule(dir: &Path, plan: &Plan) -> Result<(), ChaosError> {
    let path = dir.join("schedule");
    let strikes = schedule(plan.seed, &plan.shape, plan.time);
    let line =
        |strike: &yfs_tests::chaos::Strike| format!("after {:.1} s: {strike}\n", strike.quiet.as_secs_f64());
    let text: String = strikes.iter().map(line).collect();
    std::fs::write(&path, text)
        .map_err(|source| ChaosError::Io { what: format!("writing {}", path.display()), source })
}
