//! What the environment and the `rpctest` program promise: `RPC_COUNT`, `RPC_LOSSY`, exit statuses.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rpc::{Client, ClientOptions, Loss};

const PATIENCE: Duration = Duration::from_secs(30);
/// Procedures of `rpctest`'s server.
const CONCAT: u32 = 22;
const ADD_ONE: u32 = 23;
const EXECUTE: u32 = 26;

/// A server in a process of its own.
struct Process {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    addr: String,
}

impl Process {
    fn start(environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rpctest"));
        command.args(["-s", "-d", "2"]).envs(environment.iter().copied()).env_remove("YFS_LOG");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = out.next().unwrap().unwrap();
        let addr = line.strip_prefix("starting server on ").unwrap().split(' ').next().unwrap().to_string();
        Process { child, out, addr }
    }

    fn client(&self) -> Client {
        Client::new(&self.addr, ClientOptions { loss: Loss::Off, ..Default::default() })
    }

    /// Kills the server, and returns what it logged.
    fn log(mut self) -> String {
        self.child.kill().unwrap();
        std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_count_prints_the_labs_lines() {
    let mut server = Process::start(&[("RPC_COUNT", "5")]);
    let client = server.client();
    for n in 0..7i64 {
        assert_eq!(client.call::<_, i64>(ADD_ONE, &n, PATIENCE).await.unwrap(), n + 1);
    }
    for _ in 0..3 {
        assert_eq!(client.call::<_, String>(CONCAT, &("a", "b"), PATIENCE).await.unwrap(), "ab");
    }
    assert_eq!(server.out.next().unwrap().unwrap(), "RPC STATS: 17:5 ");
    assert_eq!(server.out.next().unwrap().unwrap(), "RPC STATS: 16:3 17:7 ");
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_lossy_loses_and_names_its_seed() {
    let server = Process::start(&[("RPC_LOSSY", "30"), ("RPC_LOSSY_SEED", "77")]);
    let client = server.client();
    let callers = (0..40u64).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { client.call::<_, u64>(EXECUTE, &n, PATIENCE).await.unwrap() })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), 1);
    }
    let log = server.log();
    assert!(log.contains("RPC_LOSSY=30") && log.contains("RPC_LOSSY_SEED=77"), "{log}");
}

#[test]
fn a_setting_that_is_no_number_is_named() {
    let log = Process::start(&[("RPC_LOSSY", "much"), ("RPC_COUNT", "often")]).log();
    assert!(log.contains("\"much\"") && log.contains("\"often\""), "{log}");
}

fn rpctest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rpctest")).args(args).output().unwrap()
}

#[test]
fn rpctest_fails_with_a_clear_line_and_a_status() {
    let no_port = rpctest(&["-c"]);
    assert!(!no_port.status.success());
    assert!(String::from_utf8_lossy(&no_port.stderr).contains("give -p PORT"));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = rpctest(&["-s", "-p", &port]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("cannot listen at 127.0.0.1:{port}")));
}

#[test]
fn rpctest_passes() {
    let output = rpctest(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.ends_with("rpctest OK\n"), "{output:?}");
    assert!(said.contains("   -- string concat RPC .. ok\n"), "{said}");
}
