//! Real work on two mounts of a fresh cluster; see `yfs_tests::work`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use yfs_tests::binaries::Binaries;
use yfs_tests::work::{Plan, run};

/// Unpacks a source archive, uses git and SQLite and builds a project on a mount, and checks the results on a second.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the cluster lives; made when missing, and removed after success. Default: a new one in TMPDIR.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Files in the source archive.
    #[arg(long, default_value_t = 4000)]
    files: usize,
    /// The cargo workspace to build from.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    project: PathBuf,
    /// The package to build.
    #[arg(long, default_value = "rpc")]
    package: String,
    /// Does everything once more, killing the master half-way through each step.
    #[arg(long)]
    kill_master: bool,
    /// Where the programs are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Only these: unpack, git (wants unpack), sqlite, build.
    steps: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let binaries = args.bin_dir.map_or_else(Binaries::of_this_build, Binaries::in_dir);
    let dir =
        args.dir.unwrap_or_else(|| std::env::temp_dir().join(format!("yfs-work-{}", std::process::id())));
    let Args { files, project, package, kill_master, steps, .. } = args;
    let plan = Plan { files, project, package, steps, kill_master };
    match run(&binaries, &dir, &plan) {
        Ok(()) => {
            std::fs::remove_dir_all(&dir).ok();
            println!("real work: all passed");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("yfs_work: {e}\n(state and logs are kept in {})", dir.display());
            ExitCode::FAILURE
        }
    }
}
