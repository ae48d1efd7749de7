//! Measures what leases cost others; see `yfs_tests::bench::leases`.

use clap::Parser;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use yfs_tests::bench::leases::measure;
use yfs_tests::binaries::Binaries;

/// How long a frozen client, a dead one, or a dead server is in the way of others, and what a thousand idle sessions cost.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The cluster lives below this directory; made when missing, and kept after a failure.
    #[arg(long)]
    dir: PathBuf,
    /// The figures, for machines.
    #[arg(long, default_value = "bench-leases.json")]
    json: PathBuf,
    /// Each is measured so often.
    #[arg(long, default_value_t = 5)]
    trials: usize,
    /// Where the programs are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("yfs_leases: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let binaries = args.bin_dir.clone().map_or_else(Binaries::of_this_build, Binaries::in_dir);
    let report = measure(&binaries, &args.dir, args.trials).await?;
    std::fs::remove_dir_all(&args.dir)?;
    println!("\n{}", report.table());
    std::fs::write(&args.json, serde_json::to_string_pretty(&report)? + "\n")
        .map_err(|e| format!("writing {}: {e}", args.json.display()))?;
    println!("figures: {}", args.json.display());
    Ok(())
}
