//! `yfs_fuzz`: the fuzz targets without an engine. Lists them, writes the seeds of the corpus, tries single files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use yfs_tests::fuzz::memory::Counting;
use yfs_tests::fuzz::{find, probe, targets};

#[global_allocator]
static MEMORY: Counting = Counting;

/// The fuzz targets: everything that decodes bytes from a wire or a disk.
#[derive(Parser)]
#[command(name = "yfs_fuzz", version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Name the targets
    List,
    /// Write the seeds of all targets into the corpus, from the real encoders
    Seeds,
    /// Try files on a target, as an engine does
    Run {
        /// The target
        target: String,
        /// Inputs
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().what {
        What::List => {
            targets().iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        What::Seeds => write_seeds(),
        What::Run { target, files } => run(&target, &files),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yfs_fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds() -> Result<(), String> {
    for target in targets() {
        let dir = target.corpus();
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        for (name, input) in (target.seeds)() {
            let path = dir.join(format!("seed-{name}"));
            std::fs::write(&path, input).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

fn run(target: &str, files: &[PathBuf]) -> Result<(), String> {
    let target = find(target).ok_or_else(|| format!("there is no target `{target}`; see `yfs_fuzz list`"))?;
    for file in files {
        let input = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let verdict = if probe(&target, &input) { "accepted" } else { "refused" };
        println!("{}: {verdict}", file.display());
    }
    Ok(())
}
