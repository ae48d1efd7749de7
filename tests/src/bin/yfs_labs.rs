//! Runs the labs' file-system tests against a directory, or two mounts of the same one.

use clap::{Parser, Subcommand};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use yfs_tests::labs::{Lab, LabError, Name, files::Disk, workers};
use yfs_tests::rng::Rng;

/// The file-system tests of the YFS labs. Give the same directory twice to test a single mount.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Repeats the choices of an earlier run (each run prints its seed).
    #[arg(long, global = true)]
    seed: Option<u64>,
    #[command(subcommand)]
    test: Test,
}

#[derive(Subcommand)]
enum Test {
    /// Create, look up and list empty files.
    Lab2 { dir: PathBuf },
    /// Read and write files; see them through the second mount.
    Lab3 { dir1: PathBuf, dir2: PathBuf },
    /// Directories, removal, time stamps.
    Lab4a { dir: PathBuf },
    /// Two mounts in turn and at the same time.
    Lab4b { dir1: PathBuf, dir2: PathBuf },
    /// Two mounts, each in a directory of its own.
    Lab4c { dir1: PathBuf, dir2: PathBuf },
    /// All of them.
    All { dir1: PathBuf, dir2: PathBuf },
    /// The second process of a test (started by the tests themselves).
    #[command(hide = true)]
    Worker { task: String },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(Rng::fresh_seed);
    let (names, dir1, dir2): (&[Name], _, _) = match args.test {
        Test::Lab2 { dir } => (&[Name::Lab2], dir.clone(), dir),
        Test::Lab3 { dir1, dir2 } => (&[Name::Lab3], dir1, dir2),
        Test::Lab4a { dir } => (&[Name::Lab4a], dir.clone(), dir),
        Test::Lab4b { dir1, dir2 } => (&[Name::Lab4b], dir1, dir2),
        Test::Lab4c { dir1, dir2 } => (&[Name::Lab4c], dir1, dir2),
        Test::All { dir1, dir2 } => (&Name::ALL, dir1, dir2),
        Test::Worker { task } => return ended(workers::serve(&Disk, &task), "worker"),
    };
    for name in names {
        let result = run(*name, seed, &dir1, &dir2);
        if result.is_err() {
            return ended(result, name.as_str());
        }
    }
    ExitCode::SUCCESS
}

fn run(name: Name, seed: u64, dir1: &Path, dir2: &Path) -> Result<(), LabError> {
    for dir in [dir1, dir2] {
        if !dir.is_dir() {
            let dir = dir.display();
            return Err(LabError::Worker(format!("{dir} is not a directory; give a mounted directory")));
        }
    }
    println!("{}: seed {seed}", name.as_str());
    let program = std::env::current_exe()?;
    Lab::new(&Disk, seed, &mut io::stdout(), program).run(name, dir1, dir2)
}

fn ended(result: Result<(), LabError>, name: &str) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!();
            eprintln!("yfs_labs: {name}: {e}");
            ExitCode::FAILURE
        }
    }
}
