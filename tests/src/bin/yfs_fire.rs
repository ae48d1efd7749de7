//! Runs the labs while lock replicas are killed and restarted; see `yfs_tests::fire`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use yfs_tests::binaries::Binaries;
use yfs_tests::fire::{Plan, run};
use yfs_tests::labs::Name;
use yfs_tests::rng::Rng;

/// The file-system labs on two mounts, while lock replicas (the master above all) are killed and started again.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the cluster lives; made when missing, and removed after success unless --keep. Default: a new one in TMPDIR.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Repeats the choices of an earlier run (printed at its start).
    #[arg(long)]
    seed: Option<u64>,
    /// Each lab is repeated for at least so many seconds.
    #[arg(long, default_value_t = 8)]
    lab_seconds: u64,
    /// The master is killed at least so often while each lab runs.
    #[arg(long, default_value_t = 1)]
    master_kills: usize,
    /// All labs are repeated until so many minutes have passed.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// Percent of messages lost at the lock servers, besides.
    #[arg(long)]
    lossy: Option<u32>,
    /// Only these labs.
    #[arg(value_parser = lab)]
    labs: Vec<Name>,
    /// Where the programs are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Keeps the directory after success too.
    #[arg(long)]
    keep: bool,
}

fn lab(text: &str) -> Result<Name, String> {
    Name::ALL
        .into_iter()
        .find(|name| name.as_str() == text)
        .ok_or_else(|| "not a lab: lab2, lab3, lab4a, lab4b, lab4c".into())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let binaries = args.bin_dir.map_or_else(Binaries::of_this_build, Binaries::in_dir);
    let dir =
        args.dir.unwrap_or_else(|| std::env::temp_dir().join(format!("yfs-fire-{}", std::process::id())));
    let plan = Plan {
        seed: args.seed.unwrap_or_else(Rng::fresh_seed),
        labs: if args.labs.is_empty() { Name::ALL.to_vec() } else { args.labs },
        lab_time: Duration::from_secs(args.lab_seconds),
        master_kills_min: args.master_kills,
        total_time: Duration::from_secs(60 * args.minutes),
        lossy: args.lossy,
    };
    println!("labs under fire: seed {}", plan.seed);
    match run(&binaries, &dir, &plan) {
        Ok(()) => {
            if !args.keep {
                std::fs::remove_dir_all(&dir).ok();
            }
            println!("labs under fire: all passed");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("yfs_fire: {e}\n(seed {}; state and logs are kept in {})", plan.seed, dir.display());
            ExitCode::FAILURE
        }
    }
}
