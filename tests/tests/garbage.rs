//! Garbage on every port, while the service goes on.
#![allow(clippy::unwrap_used)] // how a test fails

use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use yfs_tests::binaries::Binaries;
use yfs_tests::cluster::{Cluster, Options};
use yfs_tests::rng::Rng;

const SEED: u64 = 20071107;

fn cluster(dir: &tempfile::TempDir, mounts: usize) -> Cluster {
    let options = Options { mounts, ..Options::default() };
    Cluster::start(&Binaries::of_this_build(), dir.path(), &options).unwrap_or_else(|e| panic!("{e}"))
}

fn ports(cluster: &Cluster) -> Vec<String> {
    cluster.locks().iter().cloned().chain([cluster.extents_address().to_owned()]).collect()
}

/// A frame with these lengths, and chance for the rest.
fn frame(rng: &mut Rng, length: u32, kind: u8, body_len: u32, rest: usize) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(rng.bytes(24));
    bytes.extend(body_len.to_le_bytes());
    bytes.extend(rng.bytes(rest));
    bytes
}

/// Bytes that somebody might send who is not one of us, or whose bits were turned.
fn nonsense(rng: &mut Rng) -> Vec<u8> {
    let kind = rng.below(9) as u8;
    match rng.below(7) {
        0 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        1 => {
            let size = 1 + rng.below(5000);
            rng.bytes(size)
        }
        2 => frame(rng, u32::MAX, kind, 10, 100), // a length beyond every bound
        3 => frame(rng, (1 << 30) - 1, kind, 1 << 29, 1000), // one that might be believed
        4 => frame(rng, 3, kind, 0, 10),          // one that does not hold its own head
        5 => frame(rng, 32 + 64, kind, 64, 64),   // a whole frame with a random body
        _ => frame(rng, 32 + 64, kind, 1000, 64), // a body longer than its frame
    }
}

/// Sends `bytes`; whether the server answers or hangs up does not matter, only that it goes on.
fn send(address: &str, bytes: &[u8], close: bool) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // An error is the server hanging up in the middle, which is its right.
    stream.write_all(bytes).ok();
    if !close {
        return Some(stream);
    }
    stream.shutdown(Shutdown::Write).ok();
    let _answer = stream.read(&mut [0; 512]);
    None
}

fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    line.split_whitespace().nth(1).expect("a number follows").parse().expect("it is one")
}

/// The file system works, and no part has ended or grown without bound.
fn still_serves(cluster: &mut Cluster) {
    cluster.check_running().unwrap_or_else(|e| panic!("{e}"));
    let path = cluster.mountpoint(0).join("after-garbage");
    std::fs::write(&path, "still here").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"still here");
    std::fs::remove_file(&path).unwrap();
    cluster.wait_for_agreement().unwrap_or_else(|e| panic!("{e}"));
    for replica in cluster.status().unwrap().replicas {
        let kib = resident_kib(replica.pid.expect("it runs"));
        assert!(kib < 600 * 1024, "{} takes {kib} KiB after garbage", replica.address);
    }
}

#[test]
fn bytes_that_are_no_frames() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = cluster(&dir, 1);
    std::fs::write(cluster.mountpoint(0).join("kept"), "kept").unwrap();
    let mut rng = Rng::new(SEED);
    let mut open = Vec::new();
    for address in ports(&cluster) {
        for i in 0..150 {
            let bytes = nonsense(&mut rng);
            // Every third connection stays open with its frame unfinished.
            open.extend(send(&address, &bytes, i % 3 != 0));
        }
    }
    still_serves(&mut cluster);
    drop(open);
    assert_eq!(std::fs::read(cluster.mountpoint(0).join("kept")).unwrap(), b"kept");
    cluster.stop().unwrap_or_else(|e| panic!("{e}"));
}

/// Procedures of every server, and some of none.
const PROCS: [u32; 24] = [
    0, 1, 0x6001, 0x6002, 0x6005, 0x6006, 0x6007, 0x6008, 0x6010, 0x6011, 0x7001, 0x7002, 0x7003, 0x7010,
    0x7011, 0x7012, 0x7013, 0x7020, 0x9001, 0x9002, 0x9003, 0x9004, 0x11001, 0x11010,
];

/// A proper client that says nonsense: calls and one-way messages with arguments of chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_arguments_are_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = tokio::task::block_in_place(|| cluster(&dir, 1));
    std::fs::write(cluster.mountpoint(0).join("kept"), "kept").unwrap();
    let mut rng = Rng::new(SEED);
    for address in ports(&cluster) {
        let client = rpc::Client::new(&address, rpc::ClientOptions::default());
        client.bind(Duration::from_secs(5)).await.unwrap();
        for proc in PROCS {
            for _ in 0..8 {
                let (size, extra) = (16 + rng.below(200), rng.below(100));
                let (args, payload) = (Bytes::from(rng.bytes(size)), Bytes::from(rng.bytes(extra)));
                client.notify(proc, args.clone(), payload.clone());
                // Most are refused; a few happen to mean something harmless. An answer must come, or none at all
                // (a call for a lock may wait), but the server must not go away.
                let answer = client.call_raw(proc, args, payload, Duration::from_millis(300)).await;
                let lost = matches!(
                    answer,
                    Err(rpc::RpcError::Unreachable { .. }
                        | rpc::RpcError::ServerRestarted { .. }
                        | rpc::RpcError::Closed)
                );
                assert!(!lost, "{address} after procedure {proc:#x}: {answer:?}");
            }
        }
        client.close();
    }
    tokio::task::block_in_place(|| {
        still_serves(&mut cluster);
        assert_eq!(std::fs::read(cluster.mountpoint(0).join("kept")).unwrap(), b"kept");
        cluster.stop().unwrap_or_else(|e| panic!("{e}"));
    });
}
