//! The length of a lease is set at the lock servers and nowhere else; what cannot be is refused.
#![allow(clippy::unwrap_used)] // how a test fails

use std::process::{Command, Output};

use yfs_tests::binaries::Binaries;
use yfs_tests::ports;

fn run(program: &str, args: &[&str]) -> Output {
    let program = Binaries::of_this_build().path(program).unwrap();
    Command::new(program).args(args).output().unwrap()
}

/// The one line with which it fails.
fn refused(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.status.code().is_some(), "{program} {args:?}: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[test]
fn a_lease_that_does_not_fit_the_election_timeout_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let port = ports::free(1)[0].to_string();
    for (lease, why) in [
        ("0.7", "election timeout"),
        ("0.05", "not between"),
        ("3601", "not between"),
        ("-1", "--lease"),
        ("NaN", "--lease"),
        ("inf", "--lease"),
    ] {
        let lease = format!("--lease={lease}");
        let text = refused("lock_server", &[&port, &port, "--data", data.to_str().unwrap(), &lease]);
        assert!(text.contains("--lease") && text.contains(why), "{lease}: {text}");
        assert!(!data.exists(), "nothing was begun");
    }
}

#[test]
fn a_cluster_keeps_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mountpoint) = (dir.path().join("data"), dir.path().join("mnt"));
    std::fs::create_dir(&mountpoint).unwrap();
    let (data, mountpoint) = (data.to_str().unwrap(), mountpoint.to_str().unwrap());
    let text = refused("yfs", &["up", mountpoint, "--data", data, "--replicas", "1", "--lease", "0.2"]);
    assert!(text.contains("did not start") && text.contains("election timeout"), "{text}");
    let _down = Down(data);
    for more in [&["--replicas", "1", "--lease", "2.5"][..], &[]] {
        let output = run("yfs", &[&["up", mountpoint, "--data", data], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(lease_of_server(data), "2.5");
        assert!(run("yfs", &["down", "--data", data]).status.success());
    }
}

/// What the lock server was started with.
fn lease_of_server(data: &str) -> String {
    let file = std::fs::read_to_string(format!("{data}/cluster.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&file).unwrap();
    let pid = file["pids"]["lock-1"]["pid"].as_u64().unwrap();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let mut args = line.split('\0').skip_while(|arg| *arg != "--lease");
    args.nth(1).unwrap().to_owned()
}

/// Whatever is left when the test fails is taken down.
struct Down<'a>(&'a str);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        run("yfs", &["down", "--data", self.0]);
    }
}
