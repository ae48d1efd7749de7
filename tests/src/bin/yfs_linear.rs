//! Linearizability of real processes under faults, and of recorded histories; see `yfs_tests::linear`.

use clap::Parser;
use lock_rsm::programs;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use yfs_tests::binaries::Binaries;
use yfs_tests::linear::live::{Kind, Plan, run, run_as_client, serve_registers};
use yfs_tests::linear::{AnyHistory, Limits};
use yfs_tests::rng::Rng;

const NAME: &str = "yfs_linear";

/// Linearizability of the lock service and of replicated registers.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the processes of `run` live; made when missing, and removed after success. Default: a new one in TMPDIR.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Records what clients see while replicas are killed and paused, and checks it.
    Run(Run),
    /// Checks histories that were written to files, and says what is wrong with the first one that is.
    Check {
        /// What a run that failed has left.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Gives up after trying so often to place an operation.
        #[arg(long, default_value_t = Limits::default().tries_max)]
        tries: u64,
    },
    /// One replica of the registers (`run` starts them).
    Server {
        /// The replica that is the master at first.
        master: String,
        /// The address of this replica.
        me: String,
        /// The addresses of all replicas.
        #[arg(long, value_delimiter = ',', required = true)]
        members: Vec<String>,
        /// Its directory.
        #[arg(long)]
        data: PathBuf,
        /// Answers reads from its own state too, which is wrong.
        #[arg(long)]
        local_reads: bool,
    },
    /// Clients in a process of their own (`run` starts them), until standard input is closed.
    Client {
        /// What they do.
        kind: Kind,
        /// The addresses of all replicas.
        #[arg(long, value_delimiter = ',', required = true)]
        replicas: Vec<String>,
        /// Makes all choices.
        #[arg(long)]
        seed: u64,
        /// Number of the first client.
        #[arg(long)]
        first_process: u64,
        /// As in `run`.
        #[arg(long)]
        cheat: bool,
        /// The beginning of the names of the files for what was seen.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(clap::Args)]
struct Run {
    /// What the clients do; default: one after the other.
    kinds: Vec<Kind>,
    /// Repeats the choices of an earlier run (printed at its start).
    #[arg(long)]
    seed: Option<u64>,
    /// Goes on with further seeds until so many minutes have passed.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
    /// At least so many faults in each run; default: 15.
    #[arg(long)]
    faults: Option<usize>,
    /// At least so many operations of the clients of each run's own process (there are two more); default: 5000, or 1000
    /// with guards.
    #[arg(long)]
    operations: Option<usize>,
    /// Makes something wrong, which must be found out: registers are read at any replica from its own state; guards are
    /// believed in until they are dropped, whatever became of the lease.
    #[arg(long)]
    cheat: bool,
}

fn main() -> ExitCode {
    let Args { dir, command } = Args::parse();
    match command {
        Command::Check { files, tries } => match check_files(&files, &Limits { tries_max: tries }) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => programs::fail(NAME, error),
        },
        Command::Run(args) => programs::run(NAME, run_many(args, dir)),
        Command::Server { master, me, members, data, local_reads } => {
            programs::run(
                NAME,
                async move { serve_registers(&master, &me, &members, &data, local_reads).await },
            )
        }
        Command::Client { kind, replicas, seed, first_process, cheat, out } => {
            let work = async move { run_as_client(kind, &replicas, seed, first_process, cheat, &out).await };
            programs::run(NAME, work)
        }
    }
}

fn check_files(files: &[PathBuf], limits: &Limits) -> Result<(), Box<dyn Error>> {
    for file in files {
        let checked =
            AnyHistory::read(file)?.check(limits).map_err(|e| format!("{}: {e}", file.display()))?;
        println!("{}: linearizable: {checked}", file.display());
    }
    Ok(())
}

async fn run_many(args: Run, dir: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let first = args.seed.unwrap_or_else(Rng::fresh_seed);
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("yfs-linear-{}", std::process::id())));
    let kinds = if args.kinds.is_empty() { Kind::ALL.to_vec() } else { args.kinds };
    for seed in first.. {
        for &kind in &kinds {
            let mut plan = Plan::new(kind, seed);
            plan.faults_min = args.faults.unwrap_or(plan.faults_min);
            plan.operations_min = args.operations.unwrap_or(plan.operations_min);
            plan.cheat = args.cheat;
            run_once(&plan, &dir).await?;
        }
        if began.elapsed() >= Duration::from_secs(60 * args.minutes) {
            break;
        }
    }
    println!("linearizability: all passed");
    Ok(())
}

async fn run_once(plan: &Plan, dir: &Path) -> Result<(), Box<dyn Error>> {
    println!("{:?}: seed {}", plan.kind, plan.seed);
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let report = run(&Binaries::of_this_build(), dir, plan).await.map_err(|error| {
        format!(
            "{error}\n({:?}, seed {}; state and logs are kept in {})",
            plan.kind,
            plan.seed,
            dir.display()
        )
    })?;
    println!("{report}");
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
