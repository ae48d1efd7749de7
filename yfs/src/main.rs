//! `yfs`: a whole cluster on this machine, mounts, and a look at both.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use yfs::client::daemon;
use yfs::client::program::{self, MountRequest};
use yfs::cluster::down::{self, Outcome};
use yfs::cluster::file::{Cluster, ClusterLock};
use yfs::cluster::process::ProcessId;
use yfs::cluster::status::{self, Addresses};
use yfs::cluster::up::{self, UpOptions};
use yfs::fsck::outcome::{Outcome as Checked, status as fsck_status};
use yfs::fsck::program::{self as fsck, Target};
use yfs::fuse::mountpoint;

/// A shared POSIX file system with coherent caches, its locks replicated.
#[derive(Debug, Parser)]
#[command(name = "yfs", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up a whole cluster on this machine and mount it
    Up {
        /// An empty directory
        mountpoint: PathBuf,
        /// Where the cluster lives; an existing one is restarted with its data
        #[arg(long, value_name = "DIR", default_value = "yfs-data")]
        data: PathBuf,
        /// Lock replicas of a new cluster [default: 3]
        #[arg(long, value_name = "N")]
        replicas: Option<usize>,
        /// How long a client's locks outlive it, for lock servers started now; remembered [default: 10]
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        lease: Option<String>,
    },
    /// Unmount and stop a cluster on this machine
    Down {
        /// Where the cluster lives
        #[arg(long, value_name = "DIR", default_value = "yfs-data")]
        data: PathBuf,
    },
    /// Mount the file system; goes to the background once it serves
    Mount(MountArgs),
    /// Unmount, after everything is flushed
    Umount {
        /// Where it is mounted
        mountpoint: PathBuf,
        /// At once, whatever state it is in; what is not flushed is lost
        #[arg(long)]
        force: bool,
    },
    /// Check what stands in the store, and repair it
    ///
    /// Reads a snapshot of the whole store, so clients may go on meanwhile. A repair wants nobody else to be there. Exit
    /// status: 0 clean, 1 repaired, 4 errors are left, 8 it could not be done.
    Fsck(FsckArgs),
    /// Show the view, the replicas, the extent server and the mounts
    Status {
        #[command(flatten)]
        place: Place,
        /// For scripts: JSON whose fields stay
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct MountArgs {
    /// An empty directory
    mountpoint: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Stay in the foreground, log to standard error
    #[arg(long)]
    foreground: bool,
    /// Log to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Seconds after which an operation that cannot be served fails
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Report readiness on standard output, for the process that started this one in the background
    #[arg(long, hide = true)]
    report: bool,
}

#[derive(Debug, Args)]
struct FsckArgs {
    #[command(flatten)]
    place: Place,
    /// Or the data directory of an extent server that is not running
    #[arg(long, value_name = "DIR", conflicts_with_all = ["locks", "extents", "data"])]
    store: Option<PathBuf>,
    /// Put right what can be: what has no name comes to lost+found
    #[arg(long)]
    repair: bool,
    /// With --store --repair: nobody has it mounted, which cannot be seen from the directory
    #[arg(long, requires = "store")]
    unmounted: bool,
    /// Do not read bulk data to compare it with its checksums
    #[arg(long)]
    no_data: bool,
    /// For scripts: JSON whose fields stay
    #[arg(long)]
    json: bool,
}

/// Where the servers are: addresses, or the directory of a cluster on this machine.
#[derive(Debug, Args)]
struct Place {
    /// Lock servers, HOST:PORT or PORT, with commas between
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', requires = "extents")]
    locks: Vec<String>,
    /// Extent server, HOST:PORT or PORT
    #[arg(long, value_name = "A", requires = "locks")]
    extents: Option<String>,
    /// Or the directory of a cluster made by `yfs up`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["locks", "extents"])]
    data: Option<PathBuf>,
}

/// What went wrong, as one line.
type Failure = String;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = matches!(&cli.command, Command::Mount(args) if args.report);
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            if report {
                // Before it served: whoever waits shows it. Afterwards nobody does, and only the log has it.
                let _ = daemon::report(Err(&failure));
            }
            eprintln!("yfs: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Up { mountpoint, data, replicas, lease } => {
            init_log("warn");
            bring_up(&UpOptions { mountpoint, dir: data, replicas, lease })
        }
        Command::Down { data } => {
            init_log("warn");
            take_down(&data)
        }
        Command::Mount(args) if args.foreground => {
            match &args.log {
                None => init_log("info"),
                Some(log) => init_log_file(log)?,
            }
            mount_foreground(&args)
        }
        Command::Mount(args) => {
            init_log("warn");
            mount_background(&args)
        }
        Command::Umount { mountpoint, force } => {
            init_log("warn");
            unmount(&mountpoint, force)
        }
        Command::Fsck(args) => {
            init_log("warn");
            Ok(check_files(&args))
        }
        Command::Status { place, json } => {
            init_log("warn");
            show_status(&place, json)
        }
    }
}

fn log_filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env("YFS_LOG").unwrap_or_else(|_| EnvFilter::new(format!("{default},fuser=warn")))
}

fn init_log(default: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(log_filter(default))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn init_log_file(path: &Path) -> Result<(), Failure> {
    let file = std::fs::File::options().create(true).append(true).open(path);
    let file = file.map_err(|e| format!("cannot write the log {}: {e}", path.display()))?;
    tracing_subscriber::fmt().with_env_filter(log_filter("info")).with_writer(file).with_ansi(false).init();
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("yfs")
        .build()
        .map_err(|e| format!("cannot start threads: {e}"))
}

fn bring_up(options: &UpOptions) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let up = up::up(options, runtime.handle()).map_err(line)?;
    let dir = options.dir.display();
    let what = if up.fresh { "new cluster" } else { "cluster" };
    println!("{what} {} in {dir}", up.cluster.cluster);
    println!("  lock servers   {}", up.cluster.locks.join("  "));
    println!("  extent server  {}", up.cluster.extents);
    println!("  mounted at     {}", up.mountpoint.display());
    println!("another mount:   yfs mount DIR --data {dir}");
    println!("how it does:     yfs status --data {dir}");
    println!("stop it:         yfs down --data {dir}");
    Ok(ExitCode::SUCCESS)
}

fn take_down(dir: &Path) -> Result<ExitCode, Failure> {
    let stopped = down::down(dir).map_err(line)?;
    if stopped.is_empty() {
        println!("nothing of the cluster in {} was running", dir.display());
    }
    for what in stopped {
        println!("{what}");
    }
    Ok(ExitCode::SUCCESS)
}

/// In a process of its own, and back when that serves.
fn mount_background(args: &MountArgs) -> Result<ExitCode, Failure> {
    let mountpoint = mountpoint::check(&args.mountpoint).map_err(line)?;
    let timeout = [OsString::from("--timeout"), args.timeout.to_string().into()];
    match &args.place.data {
        Some(dir) => {
            let dir = absolute(dir)?;
            Cluster::load(&dir).map_err(line)?;
            let process = match &args.log {
                None => up::spawn_mount(&dir, &mountpoint, &timeout).map_err(line)?,
                Some(log) => start(args, &mountpoint, &["--data".into(), dir.clone().into()], Some(log))?,
            };
            record(&dir, &mountpoint, process)?;
        }
        None => {
            let addresses = addresses(&args.place)?;
            let place = [
                "--locks".into(),
                addresses.locks.join(",").into(),
                "--extents".into(),
                addresses.extents.into(),
            ];
            start(args, &mountpoint, &place, args.log.as_deref())?;
        }
    }
    println!("mounted {}", mountpoint.display());
    Ok(ExitCode::SUCCESS)
}

fn start(
    args: &MountArgs,
    mountpoint: &Path,
    place: &[OsString],
    log: Option<&Path>,
) -> Result<ProcessId, Failure> {
    let mut line_args: Vec<OsString> = vec!["mount".into(), mountpoint.into()];
    line_args.extend_from_slice(place);
    line_args.extend(["--timeout".into(), args.timeout.to_string().into()]);
    line_args.extend(["--foreground".into(), "--report".into()]);
    daemon::start(&line_args, log).map_err(line)
}

/// Notes the mount in the cluster's file, for `yfs down` and `yfs status`.
fn record(dir: &Path, mountpoint: &Path, process: ProcessId) -> Result<(), Failure> {
    let _lock = ClusterLock::take(dir).map_err(line)?;
    let mut cluster = Cluster::load(dir).map_err(line)?;
    cluster.prune_mounts(status::is_mounted);
    cluster.add_mount(mountpoint, process);
    cluster.save(dir).map_err(line)
}

fn mount_foreground(args: &MountArgs) -> Result<ExitCode, Failure> {
    rpc::open_files::raise_limit();
    let mut store = None;
    let addresses = match &args.place.data {
        Some(dir) => {
            let cluster = Cluster::load(dir).map_err(line)?;
            store = cluster.store;
            Addresses { locks: cluster.locks, extents: cluster.extents }
        }
        None => addresses(&args.place)?,
    };
    let request = MountRequest {
        mountpoint: args.mountpoint.clone(),
        locks: addresses.locks,
        extents: addresses.extents,
        store,
        timeout: Duration::from_secs(args.timeout),
    };
    let runtime = runtime()?;
    let ready = |mountpoint: &Path| announce(args, mountpoint);
    let result = runtime.block_on(program::run(&request, ready)).map_err(line);
    // Operations that outlive the mount are not waited for.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

fn announce(args: &MountArgs, mountpoint: &Path) {
    tracing::info!("mounted {}", mountpoint.display());
    if args.report {
        if let Err(e) = daemon::report(Ok(())) {
            tracing::debug!("nobody waits for the mount: {e}");
        }
        return;
    }
    println!("mounted {}", mountpoint.display());
    let Some(dir) = &args.place.data else { return };
    let recorded = ProcessId::of(std::process::id()).map(|me| record(dir, mountpoint, me));
    if let Some(Err(failure)) = recorded {
        tracing::warn!("the mount is not noted in {}: {failure}", dir.display());
    }
}

fn unmount(mountpoint: &Path, force: bool) -> Result<ExitCode, Failure> {
    let outcome = down::unmount(mountpoint, force).map_err(line)?;
    let path = mountpoint.display();
    match outcome {
        Outcome::Clean => println!("unmounted {path}"),
        Outcome::Busy => {
            println!("unmounted {path} lazily: it was in use, and ends when its last user lets go")
        }
        Outcome::WasDead => {
            println!("unmounted {path}: its process was dead; what it had not flushed is lost")
        }
        Outcome::Forced => println!("unmounted {path} by force; what was not flushed is lost"),
    }
    Ok(ExitCode::SUCCESS)
}

fn show_status(place: &Place, json: bool) -> Result<ExitCode, Failure> {
    let runtime = runtime()?;
    let status = match &place.data {
        Some(dir) => runtime.block_on(status::of_directory(dir)).map_err(line)?,
        None => runtime.block_on(status::of_addresses(&addresses(place)?)),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status).map_err(line)?);
    } else {
        print!("{}", status.table());
    }
    Ok(if status.anybody_there() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Its exit status is that of fsck(8), so failures end here.
fn check_files(args: &FsckArgs) -> ExitCode {
    let checked = check_request(args).and_then(|request| {
        let runtime = runtime()?;
        let mut progress = blocks_progress();
        let checked = runtime.block_on(fsck::run(&request, &mut progress)).map_err(line);
        drop(progress);
        checked
    });
    match checked.and_then(|outcome| show_outcome(&outcome, args.json)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("yfs fsck: {failure}");
            ExitCode::from(fsck_status::FAILED)
        }
    }
}

fn check_request(args: &FsckArgs) -> Result<fsck::Request, Failure> {
    let target = match (&args.store, &args.place.data) {
        (Some(dir), _) => Target::Directory(dir.clone()),
        (None, Some(dir)) => {
            let cluster = Cluster::load(dir).map_err(line)?;
            Target::Cluster { locks: cluster.locks, extents: cluster.extents, store: cluster.store }
        }
        (None, None) => {
            let addresses = addresses(&args.place)
                .map_err(|e| if args.place.extents.is_none() { format!("{e}, or --store DIR") } else { e })?;
            Target::Cluster { locks: addresses.locks, extents: addresses.extents, store: None }
        }
    };
    Ok(fsck::Request { target, data: !args.no_data, repair: args.repair, unmounted: args.unmounted })
}

/// Shows how far it is, where somebody looks.
fn blocks_progress() -> impl FnMut(u64, u64) + Send {
    let shown = std::io::stderr().is_terminal();
    let mut last = 0;
    move |done, all| {
        let percent = done * 100 / all.max(1);
        if shown && percent != last {
            last = percent;
            let end = if percent >= 100 { "\r\x1b[K" } else { "" };
            eprint!("\rreading blocks: {percent} %{end}");
        }
    }
}

fn show_outcome(outcome: &Checked, json: bool) -> Result<ExitCode, Failure> {
    if json {
        println!("{}", outcome.json().map_err(line)?);
    } else {
        println!("{}", outcome.text());
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("yfs fsck: {}", line(failure));
    }
    Ok(ExitCode::from(outcome.status()))
}

fn addresses(place: &Place) -> Result<Addresses, Failure> {
    let extents =
        place.extents.as_deref().ok_or("name the servers: --locks A,B,C --extents A, or --data DIR")?;
    let locks: Result<Vec<String>, _> = place.locks.iter().map(|text| rpc::addr::parse(text)).collect();
    Ok(Addresses {
        locks: locks.map_err(|e| format!("--locks: {e}"))?,
        extents: rpc::addr::parse(extents).map_err(|e| format!("--extents: {e}"))?,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// A number of seconds, as it was written: whoever uses it says what is too short or too long.
fn seconds(text: &str) -> Result<String, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if number.is_finite() { Ok(text.to_owned()) } else { Err("not a number of seconds".to_owned()) }
}

fn line(error: impl std::fmt::Display) -> Failure {
    error.to_string().replace('\n', " ")
}
