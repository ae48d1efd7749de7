//! Checks recorded histories; see `yfs_tests::linear`.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use yfs_tests::linear::{AnyHistory, Limits};

/// Linearizability of recorded histories.
#[derive(Parser)]
#[command(version)]
enum Command {
    /// Checks histories that were written to files, and says what is wrong with the first one that is.
    Check {
        /// What a run that failed has left.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Gives up after trying so often to place an operation.
        #[arg(long, default_value_t = Limits::default().tries_max)]
        tries: u64,
    },
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Check { files, tries } => check_files(&files, &Limits { tries_max: tries }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yfs_linear: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check_files(files: &[PathBuf], limits: &Limits) -> Result<(), Box<dyn std::error::Error>> {
    for file in files {
        let checked =
            AnyHistory::read(file)?.check(limits).map_err(|e| format!("{}: {e}", file.display()))?;
        println!("{}: linearizable: {checked}", file.display());
    }
    Ok(())
}
