//! Measures a cluster of its own, or any directory; see `yfs_tests::bench`.

use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use yfs_tests::bench::load::{self, Rate, Size};
use yfs_tests::bench::report::{Report, rows};
use yfs_tests::bench::rsm::peers::Folder;
use yfs_tests::bench::rsm::run::{Place, Plan};
use yfs_tests::bench::rsm::{self, register};
use yfs_tests::bench::{acquires, fail_over};
use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options};
use yfs_tests::rng::Rng;

/// Measures YFS.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A whole cluster and a mount, beside a plain directory, both below DIR.
    Run(Run),
    /// The replicated state machine and its lock service, beside etcd and ZooKeeper if PEERS can bring them up.
    Rsm(Rsm),
    /// One replica of the program that `rsm` measures.
    #[command(hide = true)]
    Register {
        master: String,
        me: String,
        #[arg(long, value_delimiter = ',', required = true)]
        members: Vec<String>,
        #[arg(long)]
        data: PathBuf,
    },
    /// The workloads in any directory.
    Load {
        dir: PathBuf,
        /// A tenth of the work.
        #[arg(long)]
        quick: bool,
    },
}

#[derive(Parser)]
struct Run {
    /// Both lie below this directory.
    #[arg(long)]
    dir: PathBuf,
    /// The figures, for machines.
    #[arg(long, default_value = "bench.json")]
    json: PathBuf,
    /// A tenth of the work, once.
    #[arg(long)]
    quick: bool,
    /// A folder with a bench.sh to run on our mounts as well.
    #[arg(long)]
    peers: Option<PathBuf>,
    /// Where the programs are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Only these: load, acquires, failover.
    #[arg(value_parser = ["load", "acquires", "failover"])]
    only: Vec<String>,
}

#[derive(Parser)]
struct Rsm {
    /// Our replicas keep their state below this directory.
    #[arg(long)]
    dir: PathBuf,
    /// The figures, for machines.
    #[arg(long, default_value = "bench-rsm.json")]
    json: PathBuf,
    /// One short round: for a look, not for a record.
    #[arg(long)]
    quick: bool,
    /// A folder with a bench.sh that measures etcd and ZooKeeper.
    #[arg(long, requires = "peers_state")]
    peers: Option<PathBuf>,
    /// Where that folder keeps its state: not on the disk of DIR.
    #[arg(long)]
    peers_state: Option<PathBuf>,
    /// The size in GiB of the disk it makes for each.
    #[arg(long, default_value_t = 4)]
    peers_disk_gib: u32,
    /// Where the programs are; default: beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Only these: compare, failover, million.
    #[arg(value_parser = ["compare", "failover", "million"])]
    only: Vec<String>,
}

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Args::parse().what {
        What::Run(args) => run(&args).await,
        What::Rsm(args) => run_rsm(args).await,
        What::Register { master, me, members, data } => register::serve(&master, &me, &members, &data).await,
        What::Load { dir, quick } => load::run(&dir, &size(quick), 1, print).map(drop).map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("yfs_bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn size(quick: bool) -> Size {
    match quick {
        true => Size { files: 1000, synced: 100, sequential_mib: 100 },
        false => Size { files: 10_000, synced: 1000, sequential_mib: 1024 },
    }
}

fn print(rate: &Rate) {
    println!("  {:<28} {:>12.1} {}", rate.name, rate.value, rate.unit);
}

async fn run(args: &Run) -> Result<()> {
    let binaries = args.bin_dir.clone().map_or_else(Binaries::of_this_build, Binaries::in_dir);
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let mut report = Report::default();
    about(&mut report, args);
    let dir = args.dir.join("cluster");
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(&binaries, &dir, &Options::default()))?;
    if wanted("load") {
        tokio::task::block_in_place(|| loads(&cluster, args, &mut report))?;
    }
    if let Some(peers) = &args.peers {
        tokio::task::block_in_place(|| peers_load(&cluster, peers, args))?;
    }
    if wanted("acquires") {
        let files = if args.quick { 200 } else { 2000 };
        report.acquires = Some(acquires::measure(cluster.locks(), cluster.extents_address(), files).await?);
    }
    if wanted("failover") {
        let times = if args.quick { 5 } else { 20 };
        let measured =
            fail_over::measure(&mut cluster, times, |i, ms| println!("fail-over {}: {ms:.0} ms", i + 1));
        report.fail_over = Some(measured.await?.into());
    }
    tokio::task::block_in_place(|| cluster.stop())?;
    std::fs::remove_dir_all(&dir)?;
    println!("\n{}", report.table());
    write_json(&args.json, &report)
}

async fn run_rsm(args: Rsm) -> Result<()> {
    let folder = |path: PathBuf| Folder {
        path,
        state: args.peers_state.clone().unwrap_or_default(),
        out: args.json.with_extension("peers"),
        disk_gib: args.peers_disk_gib,
    };
    let place = Place {
        dir: args.dir.clone(),
        binaries: args.bin_dir.clone().map_or_else(Binaries::of_this_build, Binaries::in_dir),
        peers: args.peers.clone().map(folder),
    };
    let report = rsm::run::run(&Plan::new(args.quick), &place, &args.only).await?;
    println!("\n{}", report.table());
    write_json(&args.json, &report)
}

fn write_json(path: &Path, report: &impl serde::Serialize) -> Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(report)? + "\n")
        .map_err(|e| format!("writing {}: {e}", path.display()))?;
    println!("figures: {}", path.display());
    Ok(())
}

fn about(report: &mut Report, args: &Run) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let size = size(args.quick);
    let mut note = |what, value: String| drop(report.about.insert(what, value));
    note("machine", format!("Linux {}, {cpus} CPUs", read("/proc/sys/kernel/osrelease")));
    note("cluster", "3 lock replicas, extent server, 2 mounts, all on this machine".into());
    note(
        "sizes",
        format!(
            "{} files, {} synced writes, {} MiB sequential",
            size.files, size.synced, size.sequential_mib
        ),
    );
    note("repetitions", if args.quick { "1".into() } else { "3, medians".into() });
}

/// Mount and plain directory in turn, so that a change of the machine's mood meets both.
fn loads(cluster: &Cluster, args: &Run, report: &mut Report) -> Result<()> {
    let plain_dir = args.dir.join("plain");
    std::fs::create_dir_all(&plain_dir)?;
    let (mut mount, mut plain) = (Vec::new(), Vec::new());
    for repetition in 0..if args.quick { 1 } else { 3 } {
        for (dir, rates) in [(cluster.mountpoint(0), &mut mount), (&plain_dir, &mut plain)] {
            println!("{} ({})", dir.display(), repetition + 1);
            rates.push(load::run(dir, &size(args.quick), repetition, print)?);
        }
    }
    report.rows = rows(&mount, &plain);
    std::fs::remove_dir_all(plain_dir)?;
    Ok(())
}

fn peers_load(cluster: &Cluster, peers: &Path, args: &Run) -> Result<()> {
    let label = format!("yfs-{}", Rng::new(Rng::fresh_seed()).letters(4));
    let out = args.json.with_extension("peers");
    let mut command = Command::new(peers.join("bench.sh"));
    command.args(["dir", "yfs", &label]).arg(cluster.mountpoint(0)).arg(cluster.mountpoint(1));
    command.env("PEERS_OUT", &out).env("PEERS_STATE", args.dir.join("peers-state"));
    let status = command.status().map_err(|e| format!("running {}/bench.sh: {e}", peers.display()))?;
    println!("figures of {}: {}", peers.display(), out.display());
    if status.success() {
        Ok(())
    } else {
        Err(format!("{}/bench.sh ended with {status}", peers.display()).into())
    }
}
