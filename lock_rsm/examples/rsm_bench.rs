//! Measures a group of replicas on this machine: commands a second, the latency of a single client, and how long a
//! client waits when the master dies. Three replicas in one process, on real sockets and real disks.
//!
//! ```text
//! cargo run --release -p lock_rsm --example rsm_bench -- [--clients 64] [--seconds 5] [--fail-overs 20] [--dir DIR]
//! ```

use clap::Parser;
use futures_util::future::join_all;
use lock_rsm::rsm::{Replica, ReplicaOptions, RsmClient, RsmClientOptions, Service, StateError, Viewstamp};
use parking_lot::Mutex;
use rpc::{CallInfo, Register, ServerBuilder, ServerOptions, typed};
use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ADD: u32 = 1;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Counter(Mutex<u64>);

impl Service for Counter {
    fn register(self: Arc<Self>, to: &mut dyn Register) {
        to.register(
            ADD,
            typed(move |_: &CallInfo, by: u64| {
                let mut sum = self.0.lock();
                *sum += by;
                Ok(*sum)
            }),
        );
    }

    fn marshal_state(&self) -> Vec<u8> {
        rpc::codec::encode(&*self.0.lock())
    }

    fn unmarshal_state(&self, bytes: &[u8]) -> Result<(), StateError> {
        *self.0.lock() = rpc::codec::decode(bytes).map_err(|error| StateError(error.to_string()))?;
        Ok(())
    }
}

/// Measure a group of three replicas.
#[derive(Parser)]
struct Options {
    /// Clients at once, each with one request in flight.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How long to measure each.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often to kill the master.
    #[arg(long, default_value_t = 20)]
    fail_overs: usize,
    /// Where the replicas' directories are made.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

struct Group {
    addresses: Vec<String>,
    replicas: Vec<Replica>,
    dir: tempfile::TempDir,
}

impl Group {
    async fn start(dir: &Path) -> Result<Group, Box<dyn Error>> {
        let listeners: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let addresses: Result<Vec<String>, _> = listeners
            .iter()
            .map(|listener| listener.local_addr().map(|address| address.to_string()))
            .collect();
        drop(listeners);
        let mut group =
            Group { addresses: addresses?, replicas: Vec::new(), dir: tempfile::tempdir_in(dir)? };
        let starting: Vec<_> = (0..3).map(|i| group.replica(i)).collect();
        for replica in join_all(starting).await {
            group.replicas.push(replica?);
        }
        Ok(group)
    }

    fn replica(&self, i: usize) -> impl Future<Output = Result<Replica, lock_rsm::rsm::StartError>> + use<> {
        let data = self.dir.path().join(i.to_string());
        let options = ReplicaOptions::new(&self.addresses[0], &self.addresses[i], &self.addresses, data);
        Replica::start(options, Arc::new(Counter::default()), ServerBuilder::new(ServerOptions::default()))
    }

    async fn client(&self) -> Result<RsmClient, lock_rsm::rsm::RsmError> {
        RsmClient::connect(&self.addresses, RsmClientOptions::default()).await
    }

    /// Waits until everybody has caught up, so that each kill meets a whole group.
    async fn all_applied(&self, stamp: Viewstamp) {
        while self.replicas.iter().any(|replica| replica.viewstamp() < stamp) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn master(&self) -> usize {
        loop {
            if let Some(master) = self.replicas.iter().position(Replica::am_master) {
                return master;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn").init();
    let options = Options::parse();
    let mut group = Group::start(&options.dir).await?;
    for clients in [1, options.clients] {
        let before = cpu_time();
        let latencies = load(&group, clients, Duration::from_secs(options.seconds)).await?;
        let cpu = (cpu_time() - before) / u32::try_from(latencies.len().max(1))?;
        let rate = latencies.len() as u64 / options.seconds;
        println!("{clients} clients: {rate} commands/s, CPU {cpu:.2?} each, latency {}", summary(latencies));
    }
    let mut gaps = Vec::new();
    for _ in 0..options.fail_overs {
        gaps.push(fail_over(&mut group).await?);
    }
    if !gaps.is_empty() {
        println!("from the death of the master to the next answer: {}", summary(gaps));
    }
    for replica in &group.replicas {
        replica.shutdown().await;
    }
    Ok(())
}

/// The latencies of the requests that `clients` got answered.
async fn load(group: &Group, clients: usize, time: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(group.client().await?);
    }
    let end = Instant::now() + time;
    let work = connected.into_iter().map(|client| {
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let begin = Instant::now();
                client.invoke::<_, u64>(ADD, &1u64, TIMEOUT).await?;
                latencies.push(begin.elapsed());
            }
            Ok::<_, lock_rsm::rsm::RsmError>(latencies)
        })
    });
    let mut all = Vec::new();
    for latencies in join_all(work).await {
        all.extend(latencies??);
    }
    Ok(all)
}

/// Kills the master under a client that keeps asking; how long the client got no answer.
async fn fail_over(group: &mut Group) -> Result<Duration, Box<dyn Error>> {
    let client = group.client().await?;
    client.invoke::<_, u64>(ADD, &1u64, TIMEOUT).await?;
    let master = group.master().await;
    group.all_applied(group.replicas[master].viewstamp()).await;
    let victim = group.replicas[master].clone();
    let begin = Instant::now();
    let killed = tokio::spawn(async move { victim.kill().await });
    let mut last = begin;
    loop {
        client.invoke::<_, u64>(ADD, &1u64, TIMEOUT).await?;
        // The dying master may still answer; the gap is the longest silence around its death.
        if last.elapsed() > Duration::from_millis(50) {
            break;
        }
        last = Instant::now();
    }
    let gap = last.elapsed();
    killed.await?;
    group.replicas[master] = group.replica(master).await?;
    Ok(gap)
}

/// What this process, replicas and clients together, has used of the processors: comparable on a busy machine too.
fn cpu_time() -> Duration {
    // SAFETY: getrusage fills the struct it is given, for which all zeros is a valid value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time =
        |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs() as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    format!("median {:.2?}, 99 % {:.2?}, worst {:.2?}", at(0.5), at(0.99), at(1.0))
}
