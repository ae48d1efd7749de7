//! The program: killed at any moment, given bad input, asked to verify.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use extent_server::{BLOCK_SIZE, ExtentClient, ExtentError, ExtentOptions, Op};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_extent_server");

/// A running server; killed when dropped.
struct Running {
    child: Child,
    addr: String,
}

impl Running {
    fn start(listen: &str, data: &Path) -> Running {
        let mut child = Command::new(PROGRAM)
            .args([listen, "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().rsplit(' ').next().unwrap_or_default().to_string();
        assert!(line.starts_with("extent_server: serving "), "{line:?}");
        Running { child, addr }
    }

    fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.addr.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env("YFS_LOG", "off").output().unwrap()
}

/// The one line of an error.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn block(seed: u64) -> Bytes {
    let words = (0..BLOCK_SIZE / 8).flat_map(|n| (n.wrapping_mul(0x9e37_79b9) ^ seed << 32).to_le_bytes());
    words.collect::<Vec<u8>>().into()
}

/// Round `n` of one writer: its data, then one commit that names it and says so in a key. Done over if the server
/// restarted in between.
async fn round(client: &ExtentClient, session: u64, n: u64) {
    let name = key(&format!("s{session}"));
    loop {
        let (at, data) = (n % 7 * BLOCK_SIZE, block(session << 16 | n));
        let boot = client.write(session, session, vec![(at, BLOCK_SIZE as u32)], data).await.unwrap();
        let ops = vec![Op::Put { key: name.clone(), value: n.to_string().into() }];
        match client.commit(session, ops, vec![(session, boot)]).await {
            Ok(()) => return,
            Err(ExtentError::Restarted) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

async fn check(client: &ExtentClient, session: u64, done: u64) {
    let value = client.get(vec![key(&format!("s{session}"))]).await.unwrap().remove(0).unwrap();
    assert_eq!(value, done.to_string());
    for n in done.saturating_sub(6)..=done {
        let data = client.read(session, vec![(n % 7 * BLOCK_SIZE, BLOCK_SIZE as u32)]).await.unwrap();
        assert!(data == block(session << 16 | n), "session {session}, round {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_nothing_acknowledged_is_lost() {
    const ROUNDS: u64 = 60;
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("new/data");
    let mut server = Running::start("0", &data);
    let client = ExtentClient::connect(&server.addr, ExtentOptions::default()).await.unwrap();
    let writers: Vec<_> = (1..=3)
        .map(|session| {
            let client = client.clone();
            tokio::spawn(async move {
                for n in 0..ROUNDS {
                    round(&client, session, n).await;
                    check(&client, session, n).await;
                }
            })
        })
        .collect();
    for _ in 0..4 {
        // Some commits later, whatever is going on then.
        let until = client.status().await.unwrap().commits + 15;
        while client.status().await.unwrap().commits < until && !writers.iter().all(|w| w.is_finished()) {
            tokio::task::yield_now().await;
        }
        let addr = server.kill();
        server = Running::start(&addr, &data);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for session in 1..=3 {
        check(&client, session, ROUNDS - 1).await;
    }
    server.kill();
    let verified = run(&["--data", data.to_str().unwrap(), "--verify"]);
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success(), "{text}");
    assert!(text.contains("objects: 3 (21 blocks") && text.contains("verified: all intact"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_ends_well() {
    let dir = TempDir::new().unwrap();
    let mut server = Running::start("0", dir.path());
    let client = ExtentClient::connect(&server.addr, ExtentOptions::default()).await.unwrap();
    client.commit(1, vec![Op::Put { key: key("k"), value: key("v") }], vec![]).await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!((status.address, status.pid), (server.addr.clone(), server.child.id()));
    let asked = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn damage_is_verified_with_a_failing_status() {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Running::start("0", dir.path());
    runtime.block_on(async {
        let client = ExtentClient::connect(&server.addr, ExtentOptions::default()).await.unwrap();
        round(&client, 1, 0).await;
    });
    server.kill();
    let file = dir.path().join("objects/0/00/0000000000000001");
    let mut data = fs::read(&file).unwrap();
    data[1000] ^= 1;
    fs::write(&file, data).unwrap();
    let verified = run(&["--data", dir.path().to_str().unwrap(), "--verify"]);
    let text = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(1));
    assert!(text.contains("damaged: block 0 of object 0x1"), "{text}");
    assert!(text.contains("verified: 1 damaged"), "{text}");
}

#[test]
fn bad_input_gets_one_clear_line() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().to_str().unwrap();
    assert!(refused(&["nonsense", "--data", data]).contains("\"nonsense\" is not an address"));
    assert!(refused(&["192.0.2.1:1", "--data", data]).contains("cannot listen on 192.0.2.1:1"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(refused(&[&port, "--data", data]).contains("cannot listen on"));
    let server = Running::start("0", dir.path());
    assert!(refused(&["0", "--data", data]).contains("in use by another process"));
    assert!(refused(&["--verify", "--data", data]).contains("in use by another process"));
    server.kill();
    let file = dir.path().join("FORMAT");
    let format = fs::read_to_string(&file).unwrap();
    fs::write(&file, format.replace("yfs-extents", "yfs-locks")).unwrap();
    assert!(refused(&["0", "--data", data]).contains("holds \"yfs-locks\" data"));
    fs::write(&file, format.replace("version 1", "version 9")).unwrap();
    assert!(refused(&["0", "--data", data]).contains("format version 9"));
    fs::write(&file, format).unwrap();
    fs::remove_file(dir.path().join("kv/0.jnl")).unwrap();
    assert!(refused(&["0", "--data", data]).contains("no log"));
    let file = dir.path().join("LOCK");
    assert!(refused(&["0", "--data", file.to_str().unwrap()]).contains("cannot use"));
    let foreign = TempDir::new().unwrap();
    fs::write(foreign.path().join("thesis.txt"), "years of work").unwrap();
    assert!(refused(&["0", "--data", foreign.path().to_str().unwrap()]).contains("not an extent store"));
    let nothing = foreign.path().join("nothing");
    assert!(refused(&["--verify", "--data", nothing.to_str().unwrap()]).contains("no data directory"));
    assert!(!nothing.exists());
    let usage = run(&["--data", data]);
    assert!(!usage.status.success());
    let mut text = String::new();
    (&usage.stderr[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("LISTEN"), "{text}");
}
