//! Runs the simulator of `yfs_tests::sim` over seeds, and prints how to repeat what fails.

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use yfs_tests::rng::Rng;
use yfs_tests::sim::{Failure, Report, run};

/// Simulated groups under simulated faults: each seed is one run, and the same seed is the same run again.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The replicated state machine: replicas, their disks and clocks, the network and clients.
    Rsm(Seeds),
}

/// Which runs. Without any of these: the seeds 1..200.
#[derive(Args)]
#[group(multiple = false)]
struct Seeds {
    /// This run, and what it came to.
    #[arg(long)]
    seed: Option<u64>,
    /// These runs, the last one not included.
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Option<std::ops::Range<u64>>,
    /// One run after another, from a seed nobody chose, for so long.
    #[arg(long)]
    minutes: Option<u64>,
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let wrong = || format!("{text} is no range of seeds: write 1..100");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let from = from.parse().map_err(|_| wrong())?;
    let to = to.parse().map_err(|_| wrong())?;
    if from < to { Ok(from..to) } else { Err(wrong()) }
}

fn main() -> ExitCode {
    let What::Rsm(seeds) = Arguments::parse().what;
    match run_all(&seeds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("yfs_sim: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(which: &Seeds) -> Result<(), Box<Failure>> {
    if let Some(seed) = which.seed {
        let Report { digest, counts, .. } = run(seed)?;
        println!("seed {seed}: digest {digest:016x}\n{counts:#?}");
        return Ok(());
    }
    let began = Instant::now();
    let first = match (&which.seeds, which.minutes) {
        (Some(seeds), _) => seeds.start,
        (None, Some(_)) => Rng::fresh_seed(),
        (None, None) => 1,
    };
    let is_over = |seed| match (&which.seeds, which.minutes) {
        (Some(seeds), _) => seed >= seeds.end,
        (None, Some(minutes)) => began.elapsed() >= Duration::from_secs(60 * minutes),
        (None, None) => seed >= 200,
    };
    let (mut runs, mut acknowledged, mut masters) = (0, 0, 0);
    println!("seeds from {first} on");
    for seed in (first..).take_while(|seed| !is_over(*seed)) {
        let Report { counts, .. } = run(seed)?;
        runs += 1;
        acknowledged += counts.acknowledged;
        masters += counts.masters;
        if runs % 500 == 0 {
            println!("  {runs} runs passed, up to seed {seed}");
        }
    }
    println!(
        "{runs} runs passed in {} s: {acknowledged} requests answered by {masters} masters",
        began.elapsed().as_secs()
    );
    Ok(())
}
