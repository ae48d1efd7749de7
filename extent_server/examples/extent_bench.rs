//! Measures an extent server over loopback: `cargo run --release --example extent_bench -- [DIR]`.
//!
//! It opens a store in a new directory below DIR (default: the system's temporary directory), serves it, and prints
//! synced commits per second, cached lookups per second and bulk throughput.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use extent_server::{EmbeddedStore, ExtentClient, ExtentOptions, Op, StoreOptions, serve};
use rpc::ServerOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_secs(3);
const MIB: u64 = 1 << 20;
const BULK: u64 = 1024 * MIB;

fn main() {
    let below = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let data = below.join(format!("extent-bench-{}", std::process::id()));
    let store = Arc::new(EmbeddedStore::open(&data, &StoreOptions::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = serve(store.clone(), "127.0.0.1:0", ServerOptions::default()).await.unwrap();
        let addr = server.local_addr().to_string();
        for writers in [1, 16] {
            commits(&addr, writers).await;
        }
        for readers in [1, 16] {
            lookups(&addr, readers).await;
        }
        bulk(&addr).await;
    });
    drop(runtime);
    drop(store);
    std::fs::remove_dir_all(&data).unwrap();
}

async fn connect(addr: &str) -> ExtentClient {
    ExtentClient::connect(addr, ExtentOptions::default()).await.unwrap()
}

/// Each writer is a client of its own, as each mount is.
async fn commits(addr: &str, writers: u64) {
    let tasks = (0..writers).map(|session| {
        let addr = addr.to_string();
        tokio::spawn(async move {
            let client = connect(&addr).await;
            let value = Bytes::from(vec![7; 256]);
            let (start, mut done) = (Instant::now(), 0u64);
            while start.elapsed() < TIME {
                let key = |n: u64| Bytes::copy_from_slice(&(session << 32 | n).to_be_bytes());
                let ops = (0..3).map(|n| Op::Put { key: key(3 * done + n), value: value.clone() }).collect();
                client.commit(session, ops, vec![]).await.unwrap();
                done += 1;
            }
            done
        })
    });
    let total = sum(tasks.collect()).await;
    println!("synced commits, {writers:2} writers: {:8.0}/s", total as f64 / TIME.as_secs_f64());
}

async fn lookups(addr: &str, readers: u64) {
    let tasks = (0..readers).map(|_| {
        let addr = addr.to_string();
        tokio::spawn(async move {
            let client = connect(&addr).await;
            let (start, mut done) = (Instant::now(), 0u64);
            while start.elapsed() < TIME {
                let key = Bytes::copy_from_slice(&(done % 1000).to_be_bytes());
                assert!(client.get(vec![key]).await.unwrap()[0].is_some());
                done += 1;
            }
            done
        })
    });
    let total = sum(tasks.collect()).await;
    println!("cached lookups, {readers:2} readers: {:8.0}/s", total as f64 / TIME.as_secs_f64());
}

async fn sum(tasks: Vec<tokio::task::JoinHandle<u64>>) -> u64 {
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    total
}

async fn bulk(addr: &str) {
    let client = connect(addr).await;
    for what in ["first write", "overwrite"] {
        let start = Instant::now();
        let mut object = None;
        for n in 0..BULK / MIB {
            let data = Bytes::from(vec![n as u8; MIB as usize]);
            let boot = client.write(1, 5, vec![(n * MIB, MIB as u32)], data).await.unwrap();
            object.get_or_insert((5, boot));
            if n % 16 == 15 {
                client.commit(1, vec![], object.take().into_iter().collect()).await.unwrap();
            }
        }
        report(&format!("{what}, 1 MiB each, commit every 16 MiB"), start);
    }
    let start = Instant::now();
    for n in 0..BULK / (16 * MIB) {
        let data = Bytes::from(vec![n as u8; 16 * MIB as usize]);
        let boot = client.write(1, 6, vec![(n * 16 * MIB, 16 * MIB as u32)], data).await.unwrap();
        client.commit(1, vec![], vec![(6, boot)]).await.unwrap();
    }
    report("first write, 16 MiB pipelined, commit each", start);
    for len in [MIB, 16 * MIB] {
        let start = Instant::now();
        for n in 0..BULK / len {
            assert_eq!(client.read(5, vec![(n * len, len as u32)]).await.unwrap().len() as u64, len);
        }
        report(&format!("read, {} MiB each", len / MIB), start);
    }
    let start = Instant::now();
    let mut at = 1u64;
    for _ in 0..20_000 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        client.read(5, vec![((at >> 20) % (BULK - 4096), 4096)]).await.unwrap();
    }
    println!("random read, 4 KiB: {:.0}/s", 20_000.0 / start.elapsed().as_secs_f64());
}

fn report(what: &str, start: Instant) {
    println!("{what}: {:.0} MB/s", BULK as f64 / 1e6 / start.elapsed().as_secs_f64());
}
