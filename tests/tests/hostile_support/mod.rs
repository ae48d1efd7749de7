//! A running group with clients that behave, beside which others do not.
#![allow(dead_code)] // each test uses its part

use bytes::Bytes;
use lock_rsm::locks::{LockClient, LockClientOptions, Mode, NoHooks};
use rpc::frame::{AT_MOST_ONCE, Frame, Kind};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options};

/// Liveness bound: generous, the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The most memory that a server may ever have had, in KiB.
pub const MEMORY_KIB_MAX: usize = 384 << 10;

/// Three lock servers, an extent server, and two clients that hand one lock to and fro.
pub struct Group {
    pub cluster: Cluster,
    bystanders: Vec<Bystander>,
    _dir: tempfile::TempDir,
}

struct Bystander {
    rounds: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Group {
    pub async fn start() -> Group {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let options = Options { mounts: 0, ..Options::default() };
        let cluster = tokio::task::block_in_place(|| {
            Cluster::start(&Binaries::of_this_build(), dir.path(), &options).unwrap_or_else(|e| panic!("{e}"))
        });
        let mut bystanders = Vec::new();
        for cache in [true, false] {
            let options = LockClientOptions { cache, ..LockClientOptions::default() };
            let client = LockClient::connect(cluster.locks(), options, Arc::new(NoHooks)).await;
            let rounds = Arc::new(AtomicUsize::new(0));
            let task = tokio::spawn(behave(client.expect("the group serves"), rounds.clone()));
            bystanders.push(Bystander { rounds, task });
        }
        Group { cluster, bystanders, _dir: dir }
    }

    /// All servers.
    pub fn ports(&self) -> Vec<String> {
        let extents = self.cluster.extents_address().to_owned();
        self.cluster.locks().iter().cloned().chain([extents]).collect()
    }

    /// The address of the master.
    pub async fn master(&mut self) -> String {
        let master = tokio::task::block_in_place(|| self.cluster.wait_for_master());
        self.cluster.locks()[master.unwrap_or_else(|e| panic!("{e}"))].clone()
    }

    /// The clients that behave go on, without an error.
    pub async fn others_go_on(&self) {
        for bystander in &self.bystanders {
            let wanted = bystander.rounds.load(Ordering::Relaxed) + 5;
            let moved = async {
                while bystander.rounds.load(Ordering::Relaxed) < wanted {
                    assert!(!bystander.task.is_finished(), "a client that behaves met an error");
                    tokio::time::sleep(Duration::from_millis(10)).await; // between two looks
                }
            };
            tokio::time::timeout(PATIENCE, moved).await.expect("a client that behaves is held up");
        }
    }

    /// The clients that behave were not held up, nor is a new one; every server is there, has not panicked and took
    /// no more memory than the bound; and the replicas agree.
    pub async fn unharmed(mut self) {
        self.others_go_on().await;
        let client =
            LockClient::connect(self.cluster.locks(), LockClientOptions::default(), Arc::new(NoHooks));
        let client = client.await.expect("a new client is served");
        drop(client.acquire(&[(77, Mode::Exclusive)]).await.expect("a lock nobody wants is granted"));
        client.close().await.expect("it is closed");
        for bystander in self.bystanders.drain(..) {
            bystander.task.abort();
            let ended = bystander.task.await.expect_err("it goes on for ever");
            assert!(ended.is_cancelled(), "a client that behaves met an error: {ended}");
        }
        tokio::task::block_in_place(|| self.look());
    }

    fn look(mut self) {
        self.cluster.check_running().unwrap_or_else(|e| panic!("{e}"));
        self.cluster.wait_for_agreement().unwrap_or_else(|e| panic!("{e}"));
        let mut pids: Vec<u32> = vec![self.cluster.extents().expect("it runs").pid()];
        let parts: Vec<String> = (0..3).map(Cluster::replica_part).collect();
        pids.extend((0..3).map(|i| self.cluster.replica(i).expect("it runs").pid()));
        for pid in pids {
            let kib = most_memory_kib(pid);
            println!("process {pid} took {kib} KiB at most");
            assert!(kib <= MEMORY_KIB_MAX, "process {pid} took {kib} KiB");
        }
        for part in parts.iter().map(String::as_str).chain(["extent_server"]) {
            let log = std::fs::read_to_string(self.cluster.log(part)).expect("it has a log");
            let panic = log.lines().find(|line| line.contains("panicked"));
            assert_eq!(panic, None, "{part}");
        }
        self.cluster.stop().unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Takes a lock that the other wants too, and one of its own; for ever.
async fn behave(client: LockClient, rounds: Arc<AtomicUsize>) {
    let own = 1000 + client.session() % 1000;
    loop {
        for lock in [1, own] {
            drop(
                client
                    .acquire(&[(lock, Mode::Exclusive)])
                    .await
                    .expect("a client that behaves gets its lock"),
            );
        }
        rounds.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// `VmHWM`: the most memory that the process ever had resident.
fn most_memory_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux says so");
    line.split_whitespace().nth(1).expect("a number follows").parse().expect("it is one")
}

/// A connection that has greeted, and then does as the test pleases.
pub fn greeted(address: &str, nonce: u64) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(&hello(nonce))?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut welcome = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut welcome)?;
    assert_eq!(welcome[0], Kind::Welcome as u8);
    Ok(stream)
}

/// A greeting: magic and version, then nonce, highest number sent before, largest frame, lossy.
pub fn hello(nonce: u64) -> Bytes {
    let values = rpc::codec::encode(&(nonce, 0u64, 16u64 << 20, false));
    let body = [b"YFS-RPC\0\x01\0".as_slice(), &values].concat().into();
    Frame { body, ..Frame::new(Kind::Hello) }.to_bytes()
}

/// A call.
pub fn call(proc: u32, xid: u64, args: &impl serde::Serialize, payload: Bytes) -> Bytes {
    let body = rpc::codec::encode(args).into();
    Frame { proc, xid, flags: AT_MOST_ONCE, body, payload, ..Frame::new(Kind::Call) }.to_bytes()
}

/// Writes until the other side takes no more for half a second, or has hung up, or took `most` bytes. What it took.
pub fn write_until_stuck(stream: &mut TcpStream, most: usize, mut next: impl FnMut() -> Bytes) -> usize {
    let mut taken = 0;
    while taken < most {
        let bytes = next();
        match stream.write_all(&bytes) {
            Ok(()) => taken += bytes.len(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => break, // it hung up, which is its right
        }
    }
    taken
}
