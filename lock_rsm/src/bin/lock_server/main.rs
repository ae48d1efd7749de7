//! `lock_server MASTER ME`: one replica of the lock service.
//!
//! Where MASTER, or another replica listed, belongs to a group already, ME joins that. Else the replicas listed found a group
//! together; without a list MASTER founds a group of one.
//!
//! Prints `view N members A B C master A` for every view it adopts, also when only the members differ. SIGTERM and SIGINT
//! end it cleanly: another replica takes over first.
//!
//! `lock_server --replace OLD NEW` and `lock_server --leave OLD` start nothing: they have a replica leave a running group for good.
//! `lock_server MASTER ME --force-alone` is the last resort of a group that has lost its majority for good.

mod orders;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use lock_rsm::locks::{LockService, LockServiceOptions};
use lock_rsm::programs;
use lock_rsm::rsm::config::{Group, MembersFrom};
use lock_rsm::rsm::test_port::TestPort;
use lock_rsm::rsm::{Replica, ReplicaOptions, Timers, View};
use orders::Failure;
use rpc::{Server, ServerBuilder, ServerOptions};

const NAME: &str = "lock_server";

/// One replica of the lock service.
#[derive(Parser)]
#[command(name = NAME, version)]
struct Args {
    /// The replica that is the master when the group is founded, or any member of a group to join: HOST:PORT or a port
    #[arg(required_unless_present_any = ["replace", "leave"])]
    master: Option<String>,
    /// The address of this replica: HOST:PORT or a port
    #[arg(required_unless_present_any = ["replace", "leave"])]
    me: Option<String>,
    /// Its data directory [default: lock_server-ME.data]
    #[arg(long)]
    data: Option<PathBuf>,
    /// An extent server where expired sessions are fenced; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    fence: Vec<String>,
    /// A file with the addresses of the replicas that found the group, one a line [default: config, if it exists]
    #[arg(long, value_name = "FILE", conflicts_with = "members")]
    config: Option<PathBuf>,
    /// The addresses of the replicas that found the group; with --replace or --leave, members to ask besides those named there
    #[arg(long, value_delimiter = ',', value_name = "A,B,C")]
    members: Option<Vec<String>>,
    /// After how long a silent replica is removed from the group by the master, as long as a majority is left; 0 for never.
    /// It is taken back when it asks
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    remove_after: f64,
    /// How long a session lives without a sign of its client; clients learn it from the master. At least five election
    /// timeouts, 0.75 seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    lease: f64,
    /// After so long a living client that does not give back a lock others wait for loses its session; 0: never
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    stuck_after: f64,
    /// Take orders of tests (breakpoints, partitions) on this port of the loopback address; `next` is the port after ME's
    #[arg(long, value_name = "PORT")]
    test_port: Option<String>,
    /// Take a snapshot and drop the log it covers after this many commands
    #[arg(long, value_name = "COMMANDS", value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_after: Option<u64>,
    /// Start nothing, but put the replica NEW, which was started before, in the place of OLD, which may be dead: returns when
    /// NEW votes and OLD is out. OLD never comes back from its data directory
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with_all = ["master", "me", "leave"])]
    replace: Option<Vec<String>>,
    /// Start nothing, but take the replica OLD out of its group for good
    #[arg(long, value_name = "OLD", conflicts_with_all = ["master", "me"])]
    leave: Option<String>,
    /// For how long --replace and --leave are tried
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Start nothing, but say what it would mean if ME, stopped, went on without the rest of its group: the last resort when a
    /// majority of its members is lost for good
    #[arg(long, conflicts_with_all = ["replace", "leave"])]
    force_alone: bool,
    /// Do what --force-alone speaks of
    #[arg(long, requires = "force_alone")]
    yes: bool,
}

/// What the program is to do.
enum Work {
    Serve { master: String, me: String },
    TakeOut { old: String, new: Option<String> },
    GoOnAlone { me: String, sure: bool },
}

impl Args {
    fn work(&self) -> Result<Work, Failure> {
        if let Some(old) = &self.leave {
            return Ok(Work::TakeOut { old: old.clone(), new: None });
        }
        if let Some([old, new]) = self.replace.as_deref() {
            return Ok(Work::TakeOut { old: old.clone(), new: Some(new.clone()) });
        }
        let (Some(master), Some(me)) = (self.master.clone(), self.me.clone()) else {
            return Err("name MASTER and ME".into());
        };
        if self.force_alone {
            return Ok(Work::GoOnAlone { me, sure: self.yes });
        }
        Ok(Work::Serve { master, me })
    }

    fn data(&self, me: &str) -> PathBuf {
        self.data.clone().unwrap_or_else(|| format!("lock_server-{me}.data").into())
    }
}

fn main() -> ExitCode {
    programs::run(NAME, work(Args::parse()))
}

async fn work(args: Args) -> Result<(), Failure> {
    match args.work()? {
        Work::Serve { master, me } => serve(args, &master, &me).await,
        Work::TakeOut { old, new } => {
            let known = args.members.unwrap_or_default();
            orders::take_out(&old, new.as_deref(), &known, Duration::from_secs(args.timeout)).await
        }
        Work::GoOnAlone { me, sure } => orders::go_on_alone(&args.data(&me), &me, sure).await,
    }
}

async fn serve(args: Args, master: &str, me: &str) -> Result<(), Failure> {
    let from = match (&args.config, &args.members) {
        (Some(file), _) => MembersFrom::File(file.clone()),
        (None, Some(list)) => MembersFrom::List(list.clone()),
        (None, None) => MembersFrom::Default,
    };
    let group = Group::read(master, me, &from)?;
    let fences: Result<Vec<_>, _> = args.fence.iter().map(|address| rpc::addr::parse(address)).collect();
    let locks = LockServiceOptions {
        lease: lease(args.lease)?,
        fences: fences?,
        stuck_after: stuck_after(args.stuck_after)?,
        election_timeout: Timers::default().election_timeout,
        ..LockServiceOptions::default()
    };
    locks.check().map_err(|error| format!("--lease {}: {error}", args.lease))?;
    let service = LockService::new(locks);
    let (test_port, _orders) = match &args.test_port {
        Some(port) => take_orders(port, &group.me).await.map(|(port, server)| (Some(port), Some(server)))?,
        None => (None, None),
    };
    let mut network = ServerOptions::default();
    if let Some(test_port) = &test_port {
        network.transport = test_port.transport();
    }
    let mut server = ServerBuilder::new(network);
    service.register_unreplicated(&mut server);
    let data = args.data(me);
    let mut options = ReplicaOptions::new(&group.master, &group.me, &group.members, data);
    if let Some(commands) = args.snapshot_after {
        options.limits.snapshot_after_entries = commands;
    }
    options.remove_after = remove_after(args.remove_after)?;
    options.on_view = Some(Arc::new(|view: &View, _| announce(view)));
    options.test_port = test_port;

    let replica = tokio::select! {
        started = Replica::start(options, service.clone(), server) => started?,
        stopped = programs::told_to_stop() => return Ok(stopped?),
    };
    let tasks = service.run(replica.clone());
    tokio::select! {
        ended = replica.ended() => ended?,
        stopped = programs::told_to_stop() => {
            stopped?;
            tracing::info!("told to stop; handing over");
            replica.shutdown().await;
        }
    }
    drop(tasks);
    Ok(())
}

/// Opens the test port, `next` being the one after that of `me`.
async fn take_orders(port: &str, me: &str) -> Result<(Arc<TestPort>, Server), String> {
    let number = match port {
        "next" => me.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()?.checked_add(1)),
        _ => port.parse().ok().filter(|&port| port != 0),
    };
    let number =
        number.ok_or_else(|| format!("--test-port {port} is not a port from 1 to 65535, nor `next`"))?;
    let test_port = TestPort::new();
    let server = test_port.listen(&format!("127.0.0.1:{number}")).await.map_err(|error| error.to_string())?;
    tracing::warn!("taking orders of tests on port {number}");
    Ok((test_port, server))
}

/// A view is adopted once its master is known; what came to nothing before is for the log.
fn announce(view: &View) {
    match view.master {
        Some(_) => println!("{view}"),
        None => tracing::debug!("{view}"),
    }
}

/// The shortest allowed is well above the election timeout, so that no pause of a living replica counts.
fn remove_after(seconds: f64) -> Result<Option<Duration>, String> {
    if seconds == 0.0 {
        return Ok(None);
    }
    let time = Duration::try_from_secs_f64(seconds).ok();
    let time = time.filter(|time| (Duration::from_millis(500)..=Duration::from_secs(86_400)).contains(time));
    time.map(Some)
        .ok_or_else(|| format!("--remove-after {seconds} is neither 0 nor between 0.5 and 86400 seconds"))
}

fn lease(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("--lease {seconds}: {error}"))
}

fn stuck_after(seconds: f64) -> Result<Option<Duration>, String> {
    let after = Duration::try_from_secs_f64(seconds).map_err(|e| format!("--stuck-after {seconds}: {e}"))?;
    Ok((!after.is_zero()).then_some(after))
}
